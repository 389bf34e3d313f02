"""The Summary: what the demo has shown, as its report prints it and as JSON keeps it."""

from pydantic import BaseModel, ConfigDict


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(_Part):
    """The rows of one day at every stage. `landed` counts lines of the landing files."""

    partition: str
    landed: int
    accepted: int
    rejected: int
    labelled: int
    model_versions: list[int]


class Refusal(_Part):
    partition: str
    reason: str
    count: int
    example: str


class Accuracy(_Part):
    """`right` of `of` rows; `on` says which."""

    who: str
    on: str
    right: int
    of: int

    @property
    def share(self) -> float:
        return self.right / max(self.of, 1)


class Trained(_Part):
    """One way to train the encoder, measured on the same gold test rows. A stage on the way has no version."""

    strategy: str
    version: int | None
    metrics: dict[str, float]
    decision: str


class Step(_Part):
    """`seconds` is the step's own; `in_airflow` includes the start of its process."""

    partition: str
    dag: str
    step: str
    run: str
    rows: int
    seconds: float
    in_airflow: float


class Night(_Part):
    """What one more day cost."""

    partition: str
    documents: int
    inferred: int
    reused: int
    llm_calls: int
    seconds: float


class Runs(_Part):
    """The runs that rows of `labels` name, by the kind that Airflow lists; `unlisted` must be empty."""

    rows_by_kind: dict[str, int]
    unlisted: list[str]


class Prediction(_Part):
    text: str
    label: str
    probabilities: dict[str, float]


class Summary(_Part):
    task: str
    annotator: str
    encoder: str
    champion: int
    stages: list[Stage]
    annotations: dict[str, int]
    gold: dict[str, int]
    refusals: list[Refusal]
    accuracy: list[Accuracy]
    trained: list[Trained]
    steps: list[Step]
    last_night: Night
    runs: Runs
    predictions: list[Prediction]
    parts: dict[str, float]
    lake: str
    s3_endpoint: str
    seconds: float
    machine: str
