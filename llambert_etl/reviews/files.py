"""The files that reviewers are given: a table for spreadsheets, and tasks for Label Studio."""

import csv
import io
import json
import os
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError
from llambert_etl.reviews.reviewed import UNCLEAR
from llambert_etl.store.space import room_in

MANIFEST = "manifest.json"

# A spreadsheet takes a cell that begins with one of these for a formula. An apostrophe before it makes it text; before
# an apostrophe stands another, so that taking one away always gives back what was there.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


@dataclass(frozen=True)
class Sheet:
    """One document as a reviewer sees it. `prediction` is None where the reviewer is not to see the encoder's label."""

    id: str
    text: str
    text_hash: str
    prediction: str | None
    model: str


def harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def unharmed(cell: str) -> str:
    """Undo `harmless`; a cell whose apostrophe a spreadsheet has dropped is right as it is."""
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(_FORMULA) else cell


def table(sheets: Sequence[Sheet]) -> str:
    """Return a CSV with columns to fill in. It begins with a mark that tells spreadsheets that it is UTF-8."""
    suggested = any(sheet.prediction is not None for sheet in sheets)
    columns = ["id", "text", *(["prediction"] if suggested else []), "label", "annotator", "labelled_at"]
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, [*columns, "text_hash"], quoting=csv.QUOTE_ALL, restval="")
    writer.writeheader()
    for sheet in sheets:
        row = {"id": sheet.id, "text": sheet.text, "text_hash": sheet.text_hash}
        if suggested:
            row["prediction"] = sheet.prediction or ""
        writer.writerow({name: harmless(value) for name, value in row.items()})
    return f"\ufeff{lines.getvalue()}"


def label_studio_tasks(sheets: Sequence[Sheet]) -> str:
    return json.dumps([_task(sheet) for sheet in sheets], ensure_ascii=False, indent=1)


def _task(sheet: Sheet) -> dict[str, object]:
    # Label Studio has an `id` of its own.
    data = {"document": sheet.id, "text": sheet.text, "text_hash": sheet.text_hash}
    if sheet.prediction is None:
        return {"data": data}
    choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [sheet.prediction]}}
    return {"data": data, "predictions": [{"model_version": sheet.model, "result": [choice]}]}


def label_studio_config(task: LabellingTask) -> str:
    """Return the labelling interface: the text, the task's labels and a way to say that none fits."""
    view = ET.Element("View")
    ET.SubElement(view, "Header", value=task.description)
    ET.SubElement(view, "Text", name="text", value="$text")
    choices = ET.SubElement(view, "Choices", name="label", toName="text", choice="single", required="true")
    for label, meaning in task.labels.items():
        ET.SubElement(choices, "Choice", value=label, hint=meaning)
    ET.SubElement(choices, "Choice", value=UNCLEAR, hint="Mixed, or impossible to tell.")
    ET.indent(view)
    return ET.tostring(view, encoding="unicode") + "\n"


@contextmanager
def new_folder(folder: Path, files: Mapping[str, str]) -> Iterator[Callable[[str], None]]:
    """Write the files beside a new folder and make it, empty; what is given moves them into it, with a manifest.

    The files appear all at once or not at all. Where the folder holds these very files, nothing changes. Raise
    ConfigError before anything is done inside where it cannot be written, or holds anything else: somebody may have
    answered in it.
    """
    contents = {name: content.encode() for name, content in files.items()}
    with ExitStack() as held:
        with _faults(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(held.enter_context(tempfile.TemporaryDirectory(prefix=".review-", dir=folder.parent)))
            whole, empty = scratch / "review", scratch / "empty"
            whole.mkdir()
            empty.mkdir()
            for name, content in contents.items():
                (whole / name).write_bytes(content)
            _move(empty, folder, contents)

        def finish(manifest: str) -> None:
            with _faults(folder):
                (whole / MANIFEST).write_text(manifest, encoding="utf-8")
                _move(whole, folder, contents)

        yield finish


@contextmanager
def _faults(folder: Path) -> Iterator[None]:
    try:
        with room_in(folder.parent):
            yield
    except OSError as error:
        raise ConfigError(f"review {str(folder)!r} cannot be written: {error.strerror}; give another folder") from error


def _move(source: Path, folder: Path, contents: Mapping[str, bytes]) -> None:
    try:
        os.replace(source, folder)
    except OSError:
        if not _holds(folder, contents):  # else this export was here before, or the same at this time
            raise


def _holds(folder: Path, contents: Mapping[str, bytes]) -> bool:
    """Tell whether the folder holds these very files, or nothing; raise ConfigError where it holds others."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    held = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}
    if held != contents:
        raise ConfigError(f"review {str(folder)!r} holds other files, perhaps answers; give a new folder")
    return True
