"""Reads what reviewers answered: the table they were given, filled in, or what Label Studio exports as JSON."""

import csv
import datetime
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, ValidationError

from llambert_etl.errors import ConfigError, DataError
from llambert_etl.reviews.files import unharmed
from llambert_etl.reviews.reviewed import UNCLEAR
from llambert_etl.wording import heading, short, shown, told

MAX_BYTES = 1 << 28
# Under these names the others are compared with people.
MACHINES = ("encoder", "llm", "gold")
_NEEDED = ("id", "label", "annotator")
# No column is called so.
_BEYOND = "\0"


def _moment(value: object) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(str(value))
    # A local time is another instant on every machine, and a year that nobody can have answered in is a slip.
    if moment.tzinfo is None or not 2000 <= moment.year < 2100:
        raise ValueError(value)
    return moment.astimezone(datetime.UTC)


# Label Studio numbers its users, and a data set its documents.
_AS_TEXT = BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)


class _Answer(BaseModel):
    """One answer as a file has it."""

    id: Annotated[str, _AS_TEXT]
    text_hash: str | None = None
    annotator: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), _AS_TEXT]
    label: str
    labelled_at: Annotated[datetime.datetime, BeforeValidator(_moment)] | None = None


@dataclass(frozen=True)
class Given:
    """One valid answer. `place` names the file and the row; `text_hash` is None where the file has none."""

    place: str
    id: str
    text_hash: str | None
    annotator: str
    answer: str
    labelled_at: datetime.datetime | None


@dataclass
class Returned:
    """What some files hold: answers, rows without one, and everything that is wrong with them."""

    answers: list[Given] = field(default_factory=list)
    unanswered: int = 0
    skipped: int = 0
    faults: list[str] = field(default_factory=list)


def read_answers(files: Sequence[Path], labels: Sequence[str]) -> Returned:
    """Return what the files hold. Raise DataError or ConfigError for a file that cannot be read at all."""
    reply = Returned()
    choices = {"mixed": UNCLEAR, "unclear": UNCLEAR, UNCLEAR: UNCLEAR, **{label.casefold(): label for label in labels}}
    for file in files:
        content = _content(file)
        read = _csv if file.suffix.lower() == ".csv" else _label_studio
        rows = read(file, content, reply)
        for place, row in rows:
            if not (row["label"] or "").strip():
                reply.unanswered += 1
            elif isinstance(found := _given(place, row, choices), str):
                reply.faults.append(found)
            else:
                reply.answers.append(found)
    _find_doubles(reply)
    return reply


def _given(place: str, row: dict[str, Any], choices: dict[str, str]) -> Given | str:
    """Return the answer, or what is wrong with it."""
    try:
        read = _Answer.model_validate({name: given for name, given in row.items() if given not in (None, "")})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        name = fault["loc"][0]
        return f"{place}: {name} {shown(row.get(str(name)))}: {_RULES.get(str(name), fault['msg'])}"
    answer = choices.get(read.label.strip().casefold())
    if answer is None:
        return (
            f"{place}: label {shown(read.label)} is not one of {sorted({*choices.values()})}; mend it or leave it empty"
        )
    if read.annotator.casefold() in MACHINES:
        return f"{place}: annotator {shown(read.annotator)} is a name that a report uses for itself; give the person's"
    return Given(place, read.id, read.text_hash, read.annotator, answer, read.labelled_at)


_RULES = {
    "id": "must be the document's id, as it was exported",
    "annotator": "must name who answered, in at most 200 characters",
    "labelled_at": "must be a moment with its zone, such as 2026-11-10T09:30:00Z; mend it or leave it empty",
}


def _find_doubles(reply: Returned) -> None:
    seen: dict[tuple[str, str], Given] = {}
    for given in reply.answers:
        first = seen.setdefault((given.id, given.annotator), given)
        if first is not given:
            twice = f"{shown(given.annotator)} has answered {short(given.id)} in {first.place} too"
            reply.faults.append(f"{given.place}: {twice}; keep one answer")


def _content(file: Path) -> str:
    if file.suffix.lower() not in (".csv", ".json"):
        raise DataError(f"review {str(file)!r}: expected the exported .csv, or a .json exported by Label Studio")
    try:
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise DataError(f"review {str(file)!r} has {size} bytes, at most {MAX_BYTES} are read; import it in parts")
        return file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"review {str(file)!r} cannot be read: {error.strerror}; mend the path") from error
    except UnicodeDecodeError as error:
        raise DataError(f"review {str(file)!r} is not UTF-8: save it again as CSV UTF-8") from error


def _csv(file: Path, content: str, reply: Returned) -> Iterator[tuple[str, dict[str, Any]]]:
    # Where the comma is the decimal mark, spreadsheets write semicolons.
    delimiter = max(",;\t", key=content.partition("\n")[0].count)
    csv.field_size_limit(MAX_BYTES)
    reader = csv.DictReader(io.StringIO(content, newline=""), restkey=_BEYOND, delimiter=delimiter, strict=True)
    try:
        columns, names = list(reader.fieldnames or ()), (*_NEEDED, "labelled_at", "text_hash")
        if absent := [name for name in _NEEDED if name not in columns]:
            raise DataError(f"review {str(file)!r}: columns {absent} are missing, {heading(columns, _NEEDED)}")
        if twice := [name for name in names if columns.count(name) > 1]:
            raise DataError(f"review {str(file)!r}: columns {twice} stand there twice; keep one of each")
        for number, row in enumerate(reader, 1):
            place = f"{file.name!r} row {number}"
            if any(row.pop(_BEYOND, ())):  # behind a comma of a text without quotes, each cell is another column's
                reply.faults.append(f"{place}: more cells than columns; put a text that holds {delimiter!r} in quotes")
                continue
            yield place, {name: unharmed(row.get(name) or "") for name in names}
    except csv.Error as error:
        line = reader.reader.line_num
        raise DataError(f"review {str(file)!r} line {line} cannot be read: {error}; save it again") from error


class _Result(BaseModel):
    type: str
    value: dict[str, Any]


class _Annotation(BaseModel):
    """`completed_by` is a number, or an object where the export was asked for names."""

    completed_by: Any = None
    was_cancelled: bool = False
    result: list[_Result] = Field(default_factory=list)
    created_at: str | None = None

    @property
    def annotator(self) -> object:
        who = self.completed_by
        return who.get("email") or who.get("id") if isinstance(who, dict) else who

    @property
    def choices(self) -> list[str]:
        given = [each.value.get("choices") for each in self.result if each.type == "choices"]
        return [str(choice) for choices in given if isinstance(choices, list) for choice in choices]


class _Task(BaseModel):
    data: dict[str, Any]
    annotations: list[_Annotation]


def _label_studio(file: Path, content: str, reply: Returned) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"review {str(file)!r} is not readable JSON: {told(error)}; export it again") from error
    if not isinstance(found, list):
        raise DataError(f"review {str(file)!r}: expected a list of tasks; export as JSON, not as another format")
    for number, entry in enumerate(found, 1):
        place = f"{file.name!r} row {number}"
        try:
            task = _Task.model_validate(entry)
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors()[0]["loc"])
            reply.faults.append(f"{place}: {where or 'it'} is not that of a task exported as JSON; export it again")
            continue
        asked = {"id": task.data.get("document"), "text_hash": task.data.get("text_hash")}
        if not task.annotations:
            yield place, {**asked, "label": ""}
        for annotation in task.annotations:
            if annotation.was_cancelled:
                reply.skipped += 1
            elif len(annotation.choices) > 1:
                reply.faults.append(f"{place}: {len(annotation.choices)} labels chosen, expected one; mend the answer")
            else:
                row = {**asked, "annotator": annotation.annotator, "labelled_at": annotation.created_at}
                yield place, {**row, "label": "".join(annotation.choices)}
