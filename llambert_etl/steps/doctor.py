"""Look whether a deployment can be used: each finding says what was seen and how to mend it."""

import shutil
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial

from llambert_etl.champion.moves import ensure_labels, standing
from llambert_etl.config import LabellingTask, TaskFiles, load_tasks
from llambert_etl.config.kinds import names_in
from llambert_etl.errors import ConfigError, LlambertError
from llambert_etl.lake import Lake
from llambert_etl.llm.server import ping
from llambert_etl.registry import Registry
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.store.atomic import WRITERS, race
from llambert_etl.store.postgres import connect
from llambert_etl.store.space import unusable

_MIN_FREE_BYTES = 5 * 1024**3


@dataclass(frozen=True)
class Finding:
    """`mend` says what to do; it is read only where `ok` is false."""

    what: str
    ok: bool
    seen: str
    mend: str = ""


# Without these nothing can be labelled; each with a value as it is written in a shell.
_NEEDED = {
    "LLAMBERT_LAKE": "s3://warehouse/lake  # or a folder: /data/lake",
    "LLAMBERT_SOURCES": """'["s3://landing/"]'  # or '["/data/landing/"]'""",
    "LLAMBERT_MLFLOW_URI": "http://127.0.0.1:5000  # or, for one machine, a file: sqlite:////data/mlflow.db",
}

# What a look comes to: as a finding, but for its name.
_Seen = tuple[bool, str, str]


def doctor(settings: Settings) -> list[Finding]:
    """Return every finding; a failed look is a finding, not an error."""
    files = load_tasks(settings.include)
    looks: dict[str, Callable[[Settings], _Seen]] = {
        "task files": partial(_task_files, files),
        "lake": _lake,
        "one writer wins": _one_writer_wins,
        "registry": _registry,
        "scratch disk": _disk,
        "models": _models,
        "champions": partial(_champions, files.tasks.values()),
        **_named_by_tasks(files.tasks.values()),
    }
    return [_look(what, look, settings) for what, look in looks.items()]


def without_settings(fault: ConfigError, present: Collection[str]) -> list[Finding]:
    """Return what to set first, where the settings cannot be read; `present` are the variables that there are."""
    needed = [
        Finding(name, name in present, "set" if name in present else "not set", f"export {name}={example}")
        for name, example in _NEEDED.items()
    ]
    return [*needed, Finding("settings", False, str(fault), "docs/reference.md has every setting")]


def _look(what: str, look: Callable[[Settings], _Seen], settings: Settings) -> Finding:
    try:
        return Finding(what, *look(settings))
    except (LlambertError, OSError) as error:
        said = unusable(error) if isinstance(error, OSError) else error
        if said is None:
            raise
        return Finding(what, False, str(said), "mend what the line says, then run doctor again")


def _task_files(found: TaskFiles, settings: Settings) -> _Seen:
    seen = f"{len(found.tasks)} tasks in {settings.include / 'tasks'}" + "".join(
        f"; {problem.replace(chr(10), '; ')}" for problem in found.problems.values()
    )
    return bool(found.tasks) and not found.problems, seen, "mend the files named"


def _lake(settings: Settings) -> _Seen:
    lake = Lake.from_settings(settings)
    lake.create_tables()
    for table in TABLES:
        lake.version(table)  # damaged, or another version's: that is told here and not by the night
    note, content = f"doctor/{uuid.uuid4().hex}", uuid.uuid4().hex
    lake.write_note(note, content)
    same = lake.read_note(note) == content
    return same, f"tables and a written note read back at {lake.uri}", "the store loses writes: replace it"


def _one_writer_wins(settings: Settings) -> _Seen:
    """Delta's commits rest on `If-None-Match: *` letting one writer through, whatever `atomic` edits on `If-Match`.

    Not every S3-compatible store does.
    """
    if not settings.lake.startswith("s3://"):
        return True, "a local folder", ""
    creators, changers = race(f"_staging/doctor/{uuid.uuid4().hex}", settings)
    seen = f"{creators} of {WRITERS} racing writers let through to create a file, {changers} to change it"
    return creators == changers == 1, seen, "this store cannot hold a lake: use one with conditional put"


def _registry(settings: Settings) -> _Seen:
    Registry.from_settings(settings).ping()
    return True, f"answers at {settings.mlflow_uri}", ""


def _champions(tasks: Collection[LabellingTask], settings: Settings) -> _Seen:
    lake, registry = Lake.from_settings(settings), Registry.from_settings(settings)
    seen, doubts = [], []
    for task in tasks:
        try:
            found = standing(task.name, lake, registry)
            found.ensure(task.name)
            if found.version is not None:
                ensure_labels(task, found.version)
            seen.append(str(found.version or f"{task.name}: none yet"))
        except ConfigError as error:
            doubts.append(str(error))
    return not doubts, "; ".join(doubts or seen), "mend what the line says"


def _disk(settings: Settings) -> _Seen:
    settings.state.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.state).free
    seen = f"{free / 1024**3:.1f} GiB free at {settings.state}"
    return free >= _MIN_FREE_BYTES, seen, "free some, or set LLAMBERT_STATE to a larger volume"


def _models(settings: Settings) -> _Seen:
    absent = [f"{model}: no {path}" for model, path in settings.model_paths.items() if not path.exists()]
    seen = "; ".join(absent) or f"{len(settings.model_paths)} mirrored models in place"
    return not absent, seen, "put the model there or mend LLAMBERT_MODEL_PATHS"


def _named_by_tasks(tasks: Collection[LabellingTask]) -> dict[str, Callable[[Settings], _Seen]]:
    """Return a look at each server, connection and channel that task files name, and at no others."""
    named = {(of, name) for task in tasks for _, of, name in names_in(task)}
    looks = {"server": _server, "connection": _connection, "channel": _channel}
    return {
        f"{of} {name}": partial(look, name)
        for of, look in looks.items()
        for name in sorted(name for kind, name in named if kind == of)
    }


def _server(name: str, settings: Settings) -> _Seen:
    server = settings.server(name)
    return True, f"lists {ping(name, server)} models at {server.url}", ""


def _connection(name: str, settings: Settings) -> _Seen:
    with connect(name, settings):
        return True, "opened and closed", ""


def _channel(name: str, settings: Settings) -> _Seen:
    """Nothing is posted: whoever reads the channel has not asked for it."""
    known = name in settings.alerts
    seen = "known" if known else f"a task names it, and the channels here are {sorted(settings.alerts)}"
    return known, seen, f"add {name!r} and its webhook to LLAMBERT_ALERTS"
