"""The commands that look after models before a step opens them: `llambert models …`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from llambert_etl.cli.clients import Clients
from llambert_etl.cli.options import command
from llambert_etl.cli.outcome import emit
from llambert_etl.config import ModelId, Revision
from llambert_etl.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="Models before they are used.")


@command(app, "models pull --task movie_sentiment", name="pull")
def pull(
    model: Annotated[str | None, typer.Argument(help="its name on the hub; or leave it out and give --task")] = None,
    revision: Annotated[str | None, typer.Option("--revision", help="commit of MODEL, 40 hexadecimal digits")] = None,
    task: Annotated[str | None, typer.Option("--task", help="mirror both models of this task file")] = None,
) -> None:
    """Mirror models of the hub in the lake, where steps find them while the hub is out of reach."""
    from llambert_etl.hub.mirrors import pull

    if task is not None and (model or revision):
        raise ConfigError("models pull: give --task NAME, or MODEL and --revision, not both")
    clients = Clients()
    for name, commit in _named(model, revision) if task is None else _models_of(task, clients):
        emit(json.dumps(pull(name, commit, storage=clients.lake.storage, settings=clients.settings)._asdict()))


def _models_of(task: str, clients: Clients) -> list[tuple[str, str]]:
    """Return what steps of the task would ask the hub for."""
    found = clients.task(task)
    used = [(found.encoder.model, found.encoder.revision)]
    if found.annotator.loads_model:
        used.insert(0, (found.annotator.model, found.annotator.revision))
    return [each for each in used if each[0] not in clients.settings.model_paths]


def _named(model: str | None, revision: str | None) -> list[tuple[str, str]]:
    try:
        return [TypeAdapter(tuple[ModelId, Revision]).validate_python((model, revision))]
    except ValidationError:
        raise ConfigError(
            f"models pull: give --task NAME, or a MODEL such as FacebookAI/roberta-large (found {model!r}) and "
            f"--revision with the 40 digits of its commit (found {revision!r})"
        ) from None


@command(app, "models list", name="list")
def list_models() -> None:
    """Print the models that the lake mirrors, one JSON a line."""
    from llambert_etl.hub.mirrors import mirrored

    for each in mirrored(Clients().lake.storage):
        emit(json.dumps(each._asdict()))


@command(app, "models unpack llm.gguf /models/llm", name="unpack")
def unpack(
    file: Annotated[Path, typer.Argument(help="a GGUF file")],
    folder: Annotated[Path, typer.Argument(help="a new folder, for LLAMBERT_MODEL_PATHS to name")],
) -> None:
    """Write a GGUF file as a folder of safetensors, which opens in a second instead of half a minute."""
    from llambert_etl.llm.weights import unpack

    unpack(file, folder)
    emit(json.dumps({"folder": str(folder)}))
