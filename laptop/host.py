"""What the stack takes from the machine it runs on: programs of this environment, and a clean set of variables."""

import os
import shutil
import sys
from pathlib import Path

from laptop.ports import LOOPBACK
from llambert_etl.errors import ConfigError

# Another deployment's settings in the user's shell must not reach the stack's servers.
FOREIGN = ("LLAMBERT_", "AIRFLOW_", "MLFLOW_", "AWS_", "_AIRFLOW_")

QUIET = {
    "NO_PROXY": f"{LOOPBACK},localhost",
    "no_proxy": f"{LOOPBACK},localhost",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "DO_NOT_TRACK": "true",
}


def executable(name: str) -> str:
    """Return the path of a program that is installed beside this interpreter, or on PATH."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise ConfigError(f"no program {name!r} beside {sys.executable}: run `make setup`, or install the extra `dev`")
    return found


def server_environment() -> dict[str, str]:
    """Return the user's variables without any that configure the stack's servers, and with telemetry off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    beside = str(Path(sys.executable).parent)
    return {**kept, **QUIET, "PATH": os.pathsep.join([beside, kept.get("PATH", os.defpath)])}
