"""Settings: where things run. Read from LLAMBERT_* variables and mounted secret files, never from a task file."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource, SettingsConfigDict

from llambert_etl.errors import ConfigError


class Kubernetes(BaseModel):
    """How a step runs as a pod. Set by the deployment only: a task file cannot name an image or a resource."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    image: str = ""
    namespace: str = "llambert"
    service_account: str = "llambert-step"
    secret: str = "llambert-secrets"  # noqa: S105 - the name of a Kubernetes secret, mounted as files
    config_map: str = "llambert-settings"
    gpu_resource: str = "nvidia.com/gpu"
    gpus: int = Field(default=1, ge=0)
    cpu: str = "4"
    memory: str = "16Gi"
    scratch: str = "50Gi"
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, str]] = Field(default_factory=list)


class Settings(BaseSettings):
    """One deployment. A secret is read from a file of its name in `LLAMBERT_SECRETS_DIR` or from its variable."""

    model_config = SettingsConfigDict(env_prefix="LLAMBERT_", env_nested_delimiter="__", frozen=True, extra="ignore")

    lake: str = Field(description="s3://bucket/prefix or a local folder")
    include: Path = Field(default=Path("include"), description="folder of tasks/, prompts/ and gold/")
    state: Path = Field(default=Path(".state"), description="local folder for scratch files and caches")
    sources: list[str] = Field(default_factory=list, description="URI prefixes from which tasks may read")
    mlflow_uri: str = ""
    mlflow_username: SecretStr | None = None
    mlflow_password: SecretStr | None = None
    s3_endpoint: str | None = Field(default=None, description="None means AWS")
    s3_region: str = "us-east-1"
    s3_access_key_id: SecretStr | None = None
    s3_secret_access_key: SecretStr | None = None
    model_orgs: list[str] = Field(
        default_factory=lambda: ["meta-llama", "FacebookAI", "google-bert", "distilbert"],
        description="whose models may be fetched from the hub",
    )
    model_paths: dict[str, Path] = Field(
        default_factory=dict, description="hub id -> mirrored folder or GGUF file; such a model is never fetched"
    )
    alerts: dict[str, SecretStr] = Field(
        default_factory=dict, description="channel -> address of its webhook; a task file names the channel"
    )
    compute: Literal["local", "kubernetes"] = "local"
    kubernetes: Kubernetes = Field(default_factory=Kubernetes)
    shard_rows: Annotated[int, Field(gt=0)] = 50_000
    max_shards: Annotated[int, Field(gt=0)] = 8
    log: Literal["plain", "json"] = "plain"
    secrets_dir: Path | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over mounted files, files over variables."""
        directory = env_settings().get("secrets_dir") or init_settings().get("secrets_dir")
        if directory is None:
            return init_settings, env_settings
        return init_settings, SecretsSettingsSource(settings_cls, secrets_dir=directory), env_settings

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.compute == "kubernetes" and not self.kubernetes.image:
            raise ValueError("compute is kubernetes but no image is set: set LLAMBERT_KUBERNETES__IMAGE")
        return self

    @property
    def model_cache(self) -> Path:
        """Where verified copies of model versions lie."""
        return self.state / "models"

    def mirror(self, model: str) -> Path | None:
        """Return where this deployment keeps a model, or None where the hub is to be asked for it.

        Raise ConfigError for a mirror that is not there, and for a model without one whose organisation is not allowed.
        """
        mirrored, organisation = self.model_paths.get(model), model.split("/", maxsplit=1)[0]
        if mirrored is None and organisation not in self.model_orgs:
            raise ConfigError(
                f"model {model!r}: models of {organisation!r} are not allowed here (LLAMBERT_MODEL_ORGS is "
                f"{self.model_orgs}); add the organisation, mirror the model in LLAMBERT_MODEL_PATHS or choose another"
            )
        if mirrored is not None and not mirrored.exists():
            raise ConfigError(f"model {model!r}: no {mirrored}; mend LLAMBERT_MODEL_PATHS or mirror the model there")
        return mirrored

    @cached_property
    def storage_options(self) -> dict[str, str]:
        """Options for deltalake and polars. Bounded timeouts and retries: a hung store fails a step, not a night."""
        if not self.lake.startswith("s3://"):
            return {}
        options = {
            "aws_region": self.s3_region,
            "timeout": "60s",
            "connect_timeout": "10s",
            "max_retries": "5",
            "retry_timeout": "60s",
        }
        if self.s3_endpoint:
            options["aws_endpoint"] = self.s3_endpoint
            options["aws_allow_http"] = str(self.s3_endpoint.startswith("http://")).lower()
        if self.s3_access_key_id and self.s3_secret_access_key:
            options["aws_access_key_id"] = self.s3_access_key_id.get_secret_value()
            options["aws_secret_access_key"] = self.s3_secret_access_key.get_secret_value()
        return options


def load_settings() -> Settings:
    """Read the environment. Raise ConfigError naming the variable and the rule, never the value: it may be a secret."""
    try:
        return Settings()  # type: ignore[call-arg]  # `lake` comes from the environment
    except ValidationError as error:
        faults = "; ".join(
            f"LLAMBERT_{'__'.join(str(part) for part in fault['loc']).upper() or '*'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise ConfigError(f"settings: {faults}") from None
