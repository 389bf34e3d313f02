"""What the steps of a deployment get as pods: defaults, and what single steps get instead."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from llambert_etl.config.fields import MOST
from llambert_etl.config.words import in_our_words

StepName = Literal["annotate", "train", "label", "compare", "study"]
Amount = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|[kMGTPE]|[KMGTPE]i)?$")]
ObjectName = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)?$")]


class Pod(BaseModel):
    """What one pod gets. Set by the deployment only: a task file cannot name a resource or an account."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: int = Field(default=1, ge=0, le=MOST, description="GPUs of a pod that loads a model")
    cpu: Amount = Field(default="4", description="processors of a pod, as Kubernetes writes amounts")
    memory: Amount = Field(default="16Gi", description="memory of a pod, its shared memory included")
    shared_memory: Amount = Field(default="1Gi", description="size of `/dev/shm`, where processes of several GPUs meet")
    scratch: Amount = Field(default="50Gi", description="size of the volume for models and scratch files")
    state_claim: ObjectName = Field(
        default="",
        description="persistent volume claim for `LLAMBERT_STATE`, which keeps models between pods; else it is scratch",
    )
    node_selector: dict[str, str] = Field(
        default_factory=dict, description="labels of the nodes for pods that load a model"
    )
    tolerations: list[dict[str, str]] = Field(default_factory=list, description="of pods that load a model")
    priority_class: ObjectName = Field(default="", description="name of the pods' priority class")
    pull_secrets: list[ObjectName] = Field(default_factory=list, description="names of secrets that pull the image")
    service_account: ObjectName = Field(default="llambert-step", description="of the pods, which get no token of it")
    secret: ObjectName = Field(
        default="llambert-secrets", description="name of the Kubernetes secret, mounted as files"
    )
    config_map: ObjectName = Field(default="llambert-settings", description="its keys become the pods' variables")
    schedule_seconds: int = Field(
        default=3600,
        gt=0,
        le=MOST,
        description="to wait for a node with room, a GPU that others use or a node that must start",
    )
    startup_seconds: int = Field(
        default=900, gt=0, le=MOST, description="to wait on its node for the image and the volumes"
    )
    deadline_seconds: int = Field(
        default=86_400,
        gt=0,
        le=MOST,
        description="that a pod may run; then the cluster ends it, whatever became of Airflow",
    )
    deferrable: bool = Field(
        default=True,
        description="let Airflow's triggerer wait for the pod; otherwise the task's process does and keeps its slot",
    )


class Kubernetes(Pod):
    """How a step runs as a pod. Set by the deployment only: a task file cannot name an image or a resource."""

    image: str = Field(default="", description="the worker image; needed where `compute` is `kubernetes`")
    namespace: ObjectName = Field(default="llambert", description="of the pods")
    gpu_resource: str = Field(default="nvidia.com/gpu", description="what the cluster calls a GPU")
    steps: dict[StepName, dict[str, JsonValue]] = Field(
        default_factory=dict,
        description="step -> what its pods get instead, by the names of this table from `gpus` to `deferrable`: "
        '`{"annotate": {"gpus": 4, "memory": "200Gi"}}`',
    )

    @model_validator(mode="after")
    def _each_step(self) -> Self:
        for step in self.steps:
            try:
                self.pod(step)
            except ValidationError as error:
                faults = [
                    f"{step}.{'.'.join(map(str, fault['loc']))}: {in_our_words(fault)}" for fault in error.errors()
                ]
                raise ValueError("; ".join(faults)) from None
        return self

    def pod(self, step: StepName, *, device: bool = True) -> Pod:
        """Return what the pods of a step get. Nothing leads one that needs no device to the nodes that have some."""
        without = {} if device else {"gpus": 0, "node_selector": {}, "tolerations": []}
        shared = {name: getattr(self, name) for name in Pod.model_fields}
        return Pod.model_validate({**shared, **self.steps.get(step, {}), **without})
