"""docs/extending.md is true: its lines and its code add a source, an annotator, an export and a gate that work."""

import ast
import importlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from llambert_etl.config import LabellingTask
from llambert_etl.config.yaml_files import read_yaml
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.lake import Lake
from llambert_etl.llm.annotators import open_annotator
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.annotate import annotate
from llambert_etl.steps.check import check_documents
from llambert_etl.steps.export import export
from llambert_etl.steps.ingest import ingest
from tests.given.labelling import DAY, NEXT, Shelf, label_run
from tests.given.tasks import make_task, task_fields
from tests.unit import extending
from tests.unit.extending.gate import LongerGates
from tests.unit.test_config import INCLUDE

PAGE = (INCLUDE.parent / "docs" / "extending.md").read_text(encoding="utf-8")
MODULES = ("source", "annotator", "export", "gate")
(TASK_FILE,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
LINES = re.findall(r'^\| `([a-z_/]+)\.py` \| `([A-Z]+)(?:\["(\w+)"\])?` \| `(.+),` \|$', PAGE, flags=re.MULTILINE)
TEXTS = {"1": "Thanks, great help.", "2": "It came late and broken.", "3": "Where is it?"}


def shown(module: str) -> str:
    """Return a module as the page has it, without the line that says what it is."""
    text = (Path(extending.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
    return "\n".join(text.splitlines()[ast.parse(text).body[0].end_lineno :]).strip()


def named(word: str) -> Any:
    """Return what a line of the page names: a word in quotes, or something of the four modules."""
    if word.startswith('"'):
        return word.strip('"')
    name, _, attribute = word.partition(".")
    found = next(
        getattr(module, name)
        for module in (importlib.import_module(f"{extending.__name__}.{each}") for each in MODULES)
        if hasattr(module, name)
    )
    return getattr(found, attribute) if attribute else found


@pytest.fixture
def kinds(monkeypatch: pytest.MonkeyPatch) -> type[LabellingTask]:
    """Put the page's lines where they belong; return what task files are then read as."""
    for file, name, key, line in LINES:
        table = getattr(importlib.import_module(f"llambert_etl.{file.replace('/', '.')}"), name)
        if key:
            monkeypatch.setitem(table, key, [*table[key], named(line)])
        else:
            told, _, kind = line.partition(": ")
            monkeypatch.setitem(table, named(told), named(kind))

    class Task(LabellingTask):
        gates: LongerGates = Field(default_factory=LongerGates, description="what must hold between two steps")

    return Task


class Shop:
    """A SQLite file of tickets, a lake, and the page's task that reads one into the other."""

    def __init__(self, root: Path, kinds: type[LabellingTask]) -> None:
        self.file, self.root, self.kinds = root / "tickets.db", root, kinds
        with sqlite3.connect(self.file) as database:
            database.execute("CREATE TABLE tickets (number INTEGER, body TEXT, written TEXT)")
            rows = [(number, text, f"{DAY} 10:00:00") for number, text in TEXTS.items()]
            database.executemany("INSERT INTO tickets VALUES (?, ?, ?)", [*rows, ("4", "Tomorrow.", NEXT)])
        self.settings = Settings(lake=str(root / "lake"), state=root / "state", include=INCLUDE, sources=[str(root)])
        self.lake = Lake.from_settings(self.settings)
        self.lake.create_tables()
        self.task = self.read(TASK_FILE)

    def read(self, content: str) -> LabellingTask:
        path = self.root / "tickets.yaml"
        path.write_text(content.replace("/data/tickets.db", str(self.file)))
        return read_yaml(path, self.kinds)

    def ingest(self, run: str = "r1", day: Partition = DAY) -> Manifest:
        return ingest(Run(self.task, day, run), lake=self.lake, settings=self.settings)


@pytest.fixture
def shop(tmp_path: Path, kinds: type[LabellingTask]) -> Shop:
    return Shop(tmp_path, kinds)


def column(lake: Lake, table: Any, key: str, value: str) -> dict[str, Any]:
    return dict(lake.scan(table, "tickets", DAY).select(key, value).collect().iter_rows())


def test_the_page_shows_the_code_that_is_tested_and_counts_its_lines() -> None:
    assert re.findall(r"^```python\n(.*?)\n```", PAGE, flags=re.MULTILINE | re.DOTALL) == [*map(shown, MODULES)]
    counted = [sum(bool(line.strip()) for line in shown(module).splitlines()) for module in MODULES]
    assert [int(count) for count in re.findall(r"^\| a.*\| (\d+) \+ \d \|$", PAGE, flags=re.MULTILINE)] == counted


def test_without_its_lines_the_page_s_task_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tickets.yaml"
    path.write_text(TASK_FILE)
    with pytest.raises(ConfigError) as refusal:
        read_yaml(path, LabellingTask)
    said = str(refusal.value)
    for field in ("source.sqlite", "annotator.words", "gates.min_chars"):
        assert f"{path}: {field}: unknown field" in said
    assert f"{path}: export.1.connection: is missing; add it" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("day: written", "dai: written", r"source\.dai: unknown field; did you mean 'day'\?"),
        ("words: {content: [thanks, great]", "words: {content: yes", r"annotator\.words\.content: must be a list"),
        ("csv: desk", "csv: ../desk", r"export\.1\.csv: must be lower-case letters, digits and underscores"),
        ("{csv: desk}", "excel", r"export: must be none, parquet, .*\{csv: <folder>\}"),
        ("min_chars: 5", "min_chars: 0", r"gates\.min_chars: must be above 0"),
        ("  method: generate\n", "", "annotator: words: replies are parsed, so set method: generate"),
    ],
)
def test_what_is_wrong_with_a_new_kind_is_told_like_what_is_wrong_with_the_others(
    shop: Shop, old: str, new: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"tickets\.yaml: .*{said}"):
        shop.read(TASK_FILE.replace(old, new))


def test_a_task_file_of_today_keeps_its_hash_beside_new_kinds_and_a_new_gate(kinds: type[LabellingTask]) -> None:
    today, longer = task_fields(), task_fields()
    longer["gates"]["min_chars"] = 5
    hashes = [kinds.model_validate(fields).config_hash for fields in (today, longer)]
    assert hashes[0] == make_task().config_hash != hashes[1]


def test_rows_of_the_new_source_become_documents_and_an_unchanged_day_commits_nothing(shop: Shop) -> None:
    assert shop.ingest().rows == {"read": 3, "accepted": 3, "rejected": 0}
    assert column(shop.lake, "documents", "id", "text") == TEXTS
    assert set(column(shop.lake, "documents", "id", "source").values()) == {str(shop.file)}
    assert shop.ingest("r2").facts["replayed"] is True


def test_the_new_source_reads_what_the_deployment_allows_and_nothing_else(shop: Shop) -> None:
    shop.settings = shop.settings.model_copy(update={"sources": ["/elsewhere"]})
    with pytest.raises(ConfigError, match="is not under any of LLAMBERT_SOURCES"):
        shop.ingest()


def test_a_day_of_texts_that_are_too_short_does_not_pass_the_new_gate(shop: Shop) -> None:
    shop.ingest()
    check_documents(Run(shop.task, DAY, "r1"), lake=shop.lake)
    shop.task = shop.read(TASK_FILE.replace("min_chars: 5", "min_chars: 15"))
    with pytest.raises(DataError, match=r"shortest text: observed .*, expected >= 15 \(gates\.min_chars\)"):
        check_documents(Run(shop.task, DAY, "r2"), lake=shop.lake)


def test_the_new_annotator_answers_by_its_words(shop: Shop) -> None:
    shop.ingest()
    answered = annotate(
        Run(shop.task, DAY, "r1"), lake=shop.lake, annotator=open_annotator(shop.task, shop.settings), prompt_hash="p"
    )
    assert (answered.rows["labelled"], answered.rows["unparsed"]) == (2, 1)
    assert column(shop.lake, "annotations", "id", "label") == {"1": "content", "2": "angry", "3": None}


def test_labels_are_brought_to_the_new_export_once_and_then_held(shop: Shop) -> None:
    shop.ingest()
    label_run(shop.lake, shop.task, Shelf(shop.task, 1), shop.settings)
    outcomes = [
        export(Run(shop.task, DAY, run), lake=shop.lake, settings=shop.settings).facts["exports"] for run in ("1", "2")
    ]
    assert outcomes == [{"parquet": state, "csv/desk": state} for state in ("exported", "held")]
    (file,) = (shop.settings.state / "csv" / "desk" / "tickets" / DAY).iterdir()
    assert len(file.read_text().splitlines()) == 1 + len(TEXTS)
