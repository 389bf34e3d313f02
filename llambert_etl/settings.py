"""Settings: where things run. Read from LLAMBERT_* variables and mounted secret files, never from a task file."""

import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from llambert_etl.config.addresses import HttpAddress, LakePlace, Place, RegistryAddress
from llambert_etl.config.connections import ConnectionName, ConnectionUri
from llambert_etl.config.fields import MOST
from llambert_etl.config.pods import Kubernetes
from llambert_etl.config.words import in_our_words
from llambert_etl.errors import ConfigError

_COMPUTING = tuple("PATH HOME TMPDIR LANG LC_ PYTHON PYTORCH_ LD_ CUDA_ NVIDIA_ NCCL_ OMP_ MKL_".split())


def _fit_for_a_header(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[!-~]+", value.get_secret_value()):
        raise ValueError("must be printable ASCII without spaces or line breaks")
    return value


BearerToken = Annotated[SecretStr, AfterValidator(_fit_for_a_header)]


class Server(BaseModel, frozen=True, extra="forbid"):
    """An OpenAI-compatible server. A task file names it; where it is and with which key only the deployment says."""

    url: HttpAddress = Field(min_length=1, description="up to /v1; without user or password")
    api_key: BearerToken | None = Field(default=None, description="sent as a bearer token")
    concurrency: int = Field(default=16, gt=0, le=256, description="requests at a time")
    timeout_seconds: float = Field(default=60.0, gt=0, description="seconds for one request")
    patience_seconds: float = Field(default=120.0, gt=0, description="seconds for one document, retries included")
    top_logprobs: int = Field(default=5, ge=0, le=20, description="tokens to ask probabilities of; 0 asks for none")
    token_limit: Literal["max_tokens", "max_completion_tokens"] = Field(
        default="max_tokens", description="what the server calls the limit of an answer's tokens"
    )
    batch_poll_seconds: float = Field(default=30.0, gt=0, description="seconds between looks at a batch")
    batch_wait_seconds: float = Field(
        default=8 * 3600.0, gt=0, description="seconds to wait for a batch; then the step fails and may try again"
    )


class Price(BaseModel, frozen=True, extra="forbid"):
    """USD per million tokens; in a provider's batch file, `batch_share` of it."""

    input: float = Field(ge=0, description="for a million tokens of the prompts")
    output: float = Field(ge=0, description="for a million tokens of the answers")
    batch_share: float = Field(default=0.5, ge=0, le=1, description="what a batch file costs of both")


class Settings(BaseSettings):
    """One deployment. A secret is read from a file of its name in `LLAMBERT_SECRETS_DIR` or from its variable."""

    model_config = SettingsConfigDict(env_prefix="LLAMBERT_", env_nested_delimiter="__", frozen=True, extra="ignore")

    lake: LakePlace = Field(description="`s3://bucket/prefix` or a local folder, in plain ASCII without spaces")
    include: Path = Field(default=Path("include"), description="folder of tasks/, prompts/, studies/ and gold/")
    state: Path = Field(default=Path(".state"), description="local folder for scratch files and caches")
    sources: list[Place] = Field(
        default_factory=list,
        description="URI prefixes from which tasks may read; `sql://name` for a connection's tables",
    )
    connections: dict[ConnectionName, ConnectionUri] = Field(
        default_factory=dict, description="name -> URI of a database that tasks may name"
    )
    mlflow_uri: RegistryAddress = Field(
        default="",
        description="address of the MLflow server, `https://host` with a port where needed; a file does for steps by "
        "hand on one machine: `sqlite:////data/mlflow.db`",
    )
    mlflow_username: SecretStr | None = Field(default=None, description="its login")
    mlflow_password: SecretStr | None = Field(default=None, description="its password")
    s3_endpoint: HttpAddress | None = Field(
        default=None,
        description="address of the S3 service, `https://host` with a port where needed; AWS where left out",
    )
    s3_region: str = Field(default="us-east-1", pattern=r"^[A-Za-z0-9-]{1,63}$", description="region of the S3 service")
    s3_access_key_id: SecretStr | None = Field(
        default=None, description="where left out, AWS's own chain is asked, a pod's role among it"
    )
    s3_secret_access_key: SecretStr | None = Field(default=None, description="belongs to the access key")
    model_orgs: list[str] = Field(
        default_factory=lambda: ["meta-llama", "FacebookAI", "google-bert", "distilbert"],
        description="whose models may be fetched from the hub",
    )
    model_paths: dict[str, Path] = Field(
        default_factory=dict, description="hub id -> mirrored folder or GGUF file; such a model is never fetched"
    )
    servers: dict[str, Server] = Field(default_factory=dict, description="name -> server that tasks may ask")
    prices: dict[str, Price] = Field(default_factory=dict, description="annotator model -> what its tokens cost")
    hub_endpoint: HttpAddress = Field(
        min_length=1, default="https://huggingface.co", description="the model hub, or a mirror of it"
    )
    hub_hosts: list[str] = Field(
        default_factory=lambda: ["huggingface.co", "hf.co"],
        description="to which the hub may send a download, subdomains included",
    )
    hub_token: BearerToken | None = Field(default=None, description="for gated and private repositories of the hub")
    llm_memory: dict[Annotated[int, Field(ge=0)] | Literal["cpu"], ByteSize] = Field(
        default_factory=dict,
        description="GPU number or `cpu` -> memory that an LLM's weights may take, as 70GiB; the rest stays on disk",
    )
    checkpoint_seconds: float = Field(
        default=60.0,
        ge=0,
        description="`train` keeps where it stands at the end of an epoch, unless it did so less than this before",
    )
    train_processes: int | None = Field(
        default=None, gt=0, le=MOST, description="processes that share a training; one for each GPU where left out"
    )
    alerts: dict[str, SecretStr] = Field(
        default_factory=dict, description="channel -> address of its webhook; a task file names the channel"
    )
    compute: Literal["local", "kubernetes"] = Field(
        default="local", description="where Airflow runs heavy steps: processes beside it, or pods"
    )
    kubernetes: Kubernetes = Field(default_factory=Kubernetes, description="how a step runs as a pod")
    shard_rows: Annotated[int, Field(gt=0, le=MOST)] = Field(
        default=50_000, description="documents in a shard of a label run, as long as `max_shards` allows it"
    )
    max_shards: Annotated[int, Field(gt=0, le=MOST)] = Field(default=8, description="shards of a label run at most")
    shard_overhead_seconds: float = Field(
        default=20.0,
        ge=0,
        description="what a shard costs beside its work; at the rate of the task's last label run it is given 20 times "
        "as much to do, however few `shard_rows` are",
    )
    allow_future: bool = Field(default=False, description="take days that have not begun, which are refused otherwise")
    log: Literal["plain", "json"] = Field(default="plain", description="how log lines are written")
    hand_over: str | None = Field(
        default=None,
        description="note in the lake for a manifest of over 4 KiB; Airflow names one for each pod",
    )
    secrets_dir: Path | None = Field(default=None, description="folder of secrets, a file for each, named as here")

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
        mounted = NestedSecretsSettingsSource(file_secret_settings, secrets_dir=directory, secrets_dir_missing="error")
        return init_settings, mounted, env_settings

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.compute == "kubernetes" and not self.kubernetes.image:
            raise ValueError("compute is kubernetes but no image is set: set LLAMBERT_KUBERNETES__IMAGE")
        return self

    @property
    def model_cache(self) -> Path:
        """Where verified copies of model versions lie."""
        return self.state / "models"

    @property
    def candidates(self) -> Path:
        """Where trained encoders wait for their registration."""
        return self.state / "candidates"

    def mirror(self, model: str) -> Path | None:
        """Return the folder in which this deployment keeps a model, or None where it comes from the hub.

        Raise ConfigError for a folder that is not there or may not be read, and for a model without one whose
        organisation is not allowed.
        """
        mirrored = self.model_paths.get(model)
        if mirrored is None:
            self.allow(model)
            return None
        try:
            for path in (mirrored, *filter(Path.is_file, mirrored.iterdir())) if mirrored.is_dir() else (mirrored,):
                os.close(os.open(path, os.O_RDONLY))
        except PermissionError as error:
            mend = f"let user {os.geteuid()} read it (chmod -R a+rX {mirrored})"
            raise ConfigError(f"model {model!r}: {error.filename} may not be read; {mend}") from error
        except OSError as error:
            mend = "mend LLAMBERT_MODEL_PATHS or mirror the model there"
            raise ConfigError(f"model {model!r}: no {error.filename}; {mend}") from error
        return mirrored

    def allow(self, model: str) -> None:
        """Raise ConfigError for a model that may not come from the hub."""
        organisation = model.split("/", maxsplit=1)[0]
        if organisation not in self.model_orgs:
            raise ConfigError(
                f"model {model!r}: models of {organisation!r} are not allowed here (LLAMBERT_MODEL_ORGS is "
                f"{self.model_orgs}); add the organisation, name the model's folder in LLAMBERT_MODEL_PATHS or choose "
                "another"
            )

    def server(self, name: str) -> Server:
        """Return the server of that name; raise ConfigError with the known names otherwise."""
        if name not in self.servers:
            raise ConfigError(
                f"annotator.server {name!r}: the servers here are {sorted(self.servers)}; name one of them, or set "
                f"LLAMBERT_SERVERS__{name.upper()}__URL"
            )
        return self.servers[name]

    def connection(self, name: str) -> SecretStr:
        """Return the URI of a named connection; raise ConfigError with the known names otherwise."""
        if name not in self.connections:
            raise ConfigError(
                f"connection {name!r}: not known here, where there are {sorted(self.connections)}; set "
                f"LLAMBERT_CONNECTIONS__{name.upper()}, or mount a file of that name in LLAMBERT_SECRETS_DIR"
            )
        return self.connections[name]

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
        raise refusal(error) from None
    except SettingsError as error:
        # Its cause, a JSON error, carries the value.
        if (field := re.search(r'for field "(\w+)"', str(error))) is None:
            raise ConfigError(f"settings: LLAMBERT_SECRETS_DIR: {error}") from None
        raise ConfigError(
            f"settings: LLAMBERT_{field[1].upper()}: must be JSON, as all lists and maps are: "
            '["s3://landing/"] or {"name": "value"}'
        ) from None


def refusal(error: ValidationError) -> ConfigError:
    """Say which variables break which rules."""
    faults = "; ".join(
        f"LLAMBERT_{'__'.join(str(part) for part in fault['loc']).upper() or '*'}: {in_our_words(fault)}"
        for fault in error.errors(include_input=False, include_url=False)
    )
    return ConfigError(f"settings: {faults}")


def computing_environment() -> dict[str, str]:
    """Return the variables for a child process that only computes: none that may hold a secret is among them."""
    return {name: value for name, value in os.environ.items() if name.startswith(_COMPUTING)}
