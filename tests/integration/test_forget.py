"""A document that is forgotten is in no table, no export and, once the lake was maintained, in no file."""

import datetime
import json
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable

from laptop.environment import variables
from llambert_etl.cli import run
from llambert_etl.corpus.documents import hash_text
from llambert_etl.errors import TransientError
from llambert_etl.exports.snapshots import drop_old_snapshots, read_latest
from llambert_etl.lake.upkeep import drop_notes
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES, TableName
from llambert_etl.settings import Settings
from llambert_etl.steps.export import export
from llambert_etl.steps.forget import forget
from llambert_etl.steps.gold import import_gold
from llambert_etl.steps.plan import plan
from tests.given.labelling import Parity, Shelf, finish, label_run, run_shards
from tests.given.landing import DAY, Landing
from tests.given.poison import jsonl
from tests.given.tasks import make_task

NEXT = Partition("2026-11-11")
LATER = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
SECRET = "what only Ada could have written"
GONE = 'customer 17\'s "diary"'


class Archive(Landing):
    """Two days with labels and exports, answers of the LLM, gold and a question to people; one id is in all of them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.task = make_task(source={"uri": f"{self.folder}/{{partition}}/*"}, export="parquet")
        self.settings = Settings(lake=self.lake.uri, sources=[str(self.folder)], state=root / "state")
        self.root, self.shelf = root, Shelf(self.task, 1)
        at = datetime.datetime(2026, 11, 9, tzinfo=datetime.UTC)
        self.append("promotions", {"number": 1, "to_version": 1, "moved_by": "promote", "reason": "", "moved_at": at})
        mine = {"id": GONE, "text": SECRET}
        others = [{"id": f"r{number}", "text": f"review number {number}"} for number in range(9)]
        self.drop("a.jsonl", jsonl(*others, {"id": "twin", "text": "said by two"}, mine, mine))
        self.drop("a.jsonl", jsonl({"id": GONE, "text": f"{SECRET}, again"}, {"id": "r20", "text": "ok"}), NEXT)
        for day in (DAY, NEXT):
            self.ingest(day)
            self.label(day)
        said = {"model": "m", "revision": "0" * 40, "prompt_hash": "p", "status": "labelled", "label": "positive"}
        answered = ((GONE, SECRET), ("elsewhere", f"{SECRET}, again"), ("r1", "review number 1"))
        for key, text in answered:
            row = {"id": key, "text_hash": hash_text(text), "reply": f"positive, as in {text}", **said}
            self.append("annotations", row)
        self.append("reviews", {"id": GONE, "text_hash": hash_text(SECRET), "stratum": "random"})
        self.gold = root / "gold.jsonl"
        gold = [
            {**row, "label": label} for row, label in zip([*others, mine], ["positive", "negative"] * 5, strict=True)
        ]
        self.gold.write_bytes(jsonl(*gold, {"id": "r11", "text": "more", "label": "positive"}))
        self.import_gold()

    def label(self, day: Partition, name: str = "r1") -> Manifest:
        return label_run(self.lake, self.task, self.shelf, self.settings, run=name, day=day)[0]

    def export(self, day: Partition) -> Manifest:
        return export(Run(self.task, day, "r1"), lake=self.lake, settings=self.settings)

    def import_gold(self, day: Partition = DAY) -> Manifest:
        return import_gold(Run(self.task, day, "r1"), self.gold, lake=self.lake, settings=self.settings)

    def append(self, table: TableName, row: dict[str, object]) -> None:
        fixed = {"task": self.task.name, "partition": str(DAY), "run": "r1"}
        rows = pa.Table.from_pylist([{**row, **fixed}], schema=TABLES[table].schema)
        manifest = Manifest(step="append", task=self.task.name, partition=DAY, run="r1")
        self.lake.append_once(table, self.task.name, DAY, rows, manifest=manifest)

    def forget(self, **options: bool) -> dict[tuple[str, str], int]:
        removed = forget(self.task, [GONE], run="f1", lake=self.lake, **options)
        return {(each.table, each.partition): each.rows for each in removed}

    def holders(self) -> set[str]:
        """Return the tables in which a row has the id, a text of it or its hash."""
        told = (SECRET, hash_text(SECRET), hash_text(f"{SECRET}, again"))
        found = set()
        for table in TABLES:
            rows = self.lake.scan(table, self.task.name).collect().to_dicts()
            if any(row.get("id") == GONE or any(each in str(row) for each in told) for row in rows):
                found.add(table)
        return found

    def files(self) -> list[str]:
        """Return the files of the lake and the state folder in which the text can be read, or the id but in the log."""
        found = []
        for path in (path for name in ("lake", "state") for path in (self.root / name).rglob("*") if path.is_file()):
            content = str(pl.read_parquet(path).to_dicts()) if path.suffix == ".parquet" else path.read_text()
            if SECRET in content or (GONE in content and "_delta_log" not in path.parts):
                found.append(str(path.relative_to(self.root)))
        return found


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


EVERYWHERE = {"documents", "annotations", "gold", "labels", "reviews"}


def test_it_is_gone_from_every_table_and_everything_else_stays(archive: Archive) -> None:
    before = {table: archive.lake.scan(table, archive.task.name).collect() for table in TABLES}
    assert archive.holders() == EVERYWHERE
    removed = archive.forget()
    assert removed == {
        ("annotations", DAY): 2,
        ("reviews", DAY): 1,
        ("gold", DAY): 1,
        ("documents", DAY): 2,
        ("documents", NEXT): 1,
        ("labels", DAY): 1,
        ("labels", NEXT): 1,
    }
    assert archive.holders() == set()
    for table, rows in before.items():
        after = archive.lake.scan(table, archive.task.name).collect()
        if "id" in rows.columns:
            rows = rows.filter(~pl.col("id").is_in([GONE, "elsewhere"])).sort("partition", "id")
            after = after.filter(pl.col("id").is_not_null()).sort("partition", "id")
        assert after.equals(rows)
    assert archive.forget() == {}


def test_the_days_account_goes_on_with_what_is_left(archive: Archive) -> None:
    archive.forget()
    for table, day, rows in (
        ("documents", DAY, {"read": 12, "accepted": 10, "rejected": 2}),
        ("documents", NEXT, {"read": 2, "accepted": 1, "rejected": 1}),
        ("labels", DAY, {"read": 10, "inferred": 10, "reused": 0}),
        ("labels", NEXT, {"read": 1, "inferred": 1, "reused": 0}),
    ):
        commit = archive.lake.last_commit(table, archive.task.name, day)
        assert commit is not None
        assert commit.manifest is not None
        assert {name: count for name, count in commit.manifest.rows.items() if name in rows} == rows
        assert archive.lake.scan(table, archive.task.name, day).collect().height == rows["read"]
    commit = archive.lake.last_commit("documents", archive.task.name, DAY)
    assert commit.manifest.reasons == {"forgotten": 2}  # type: ignore[union-attr]


def test_what_comes_again_under_its_id_is_refused_without_a_trace(archive: Archive) -> None:
    archive.forget()
    archive.drop("b.jsonl", jsonl({"id": GONE, "text": f"{SECRET}, a third time"}, {"id": "r30", "text": "fine"}))
    done = archive.ingest(run="r2")
    assert done.rows == {"read": 14, "accepted": 11, "rejected": 3}
    assert done.reasons == {"forgotten": 3}
    assert archive.import_gold(NEXT).facts["replayed"]  # it is the file of the last import
    archive.gold.write_bytes(archive.gold.read_bytes() + jsonl({"id": "r12", "text": "new", "label": "negative"}))
    again = archive.import_gold(NEXT)
    assert (again.rows["read"], again.facts["forgotten"]) == (11, 1)
    assert archive.holders() == set()


def test_it_leaves_the_exports_with_the_command_and_the_files_once_they_are_old(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for day in (DAY, NEXT):
        archive.export(day)
    write_deployment(archive, monkeypatch)
    assert run(["forget", "--task", "reviews", "--id", GONE]) == 0
    said = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert said["exported_again"] == [DAY, NEXT]
    assert sum(each["rows"] for each in said["removed"]) == 9
    for file in read_latest(archive.lake, archive.task.name).files:
        rows = pl.read_parquet(archive.root / "lake" / "exports" / "reviews" / file.path)
        assert GONE not in rows["id"]
        assert SECRET not in str(rows.to_dicts())
    assert archive.files()
    for table in TABLES:  # as `maintain` does, once the retention is over
        old = DeltaTable(archive.lake.table_uri(table))
        old.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False, full=True)
    drop_old_snapshots(archive.lake, LATER)
    drop_notes(archive.lake, LATER)
    assert archive.files() == []


def test_an_export_that_failed_is_made_up_for_by_the_same_command(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for day in (DAY, NEXT):
        archive.export(day)
    write_deployment(archive, monkeypatch)
    command = ["forget", "--task", "reviews", "--id", GONE]

    def down(*_: object, **__: object) -> None:
        raise TransientError("the warehouse is down")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr("llambert_etl.steps.export.export", down)
        assert run(command) == 75
    assert archive.holders() == set()
    assert run(command) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["exported_again"] == [DAY, NEXT]
    for file in read_latest(archive.lake, archive.task.name).files:
        assert GONE not in pl.read_parquet(archive.root / "lake" / "exports" / "reviews" / file.path)["id"]


def test_a_restore_says_which_forgotten_documents_it_has_brought_back(
    archive: Archive, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_deployment(archive, monkeypatch)
    versions = {table: archive.lake.version(table) for table in ("gold", "promotions")}
    archive.append("promotions", {"number": 2, "to_version": 1, "moved_by": "promote", "reason": ""})
    archive.forget()
    for table, forgotten in (("gold", {"reviews": [GONE]}), ("promotions", {})):
        assert run(["restore", table, "--version", str(versions[table])]) == 0
        assert json.loads(capfd.readouterr().out.splitlines()[-1])["forget_again"] == forgotten


def write_deployment(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the archive the deployment of this process."""
    (archive.root / "include" / "tasks").mkdir(parents=True)
    fields = archive.task.model_dump(mode="json")
    (archive.root / "include" / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(fields))
    settings = archive.settings.model_copy(update={"include": archive.root / "include"})
    for name, value in variables(settings).items():
        monkeypatch.setenv(name, value)


def test_a_dry_run_says_the_same_and_changes_nothing(archive: Archive) -> None:
    said = archive.forget(dry_run=True)
    assert archive.holders() == EVERYWHERE
    assert archive.forget() == said


def test_a_label_run_that_was_planned_before_does_not_bring_it_back(archive: Archive) -> None:
    archive.drop("b.jsonl", jsonl({"id": "r30", "text": "came late"}))
    archive.ingest(run="r2")
    registry: Any = archive.shelf
    plan(Run(archive.task, DAY, "late"), lake=archive.lake, registry=registry, settings=archive.settings)
    run_shards(archive.lake, archive.task, archive.settings, DAY, "late", Parity(2))
    archive.forget()
    assert "newer documents" in str(finish(archive.lake, archive.task, DAY, "late").facts["skip"])
    assert archive.holders() == set()
    assert archive.label(DAY, "next").rows == {"read": 11, "inferred": 1, "reused": 10}
    assert archive.holders() == set()


def test_of_answers_that_are_committed_meanwhile_none_is_lost_and_none_escapes(archive: Archive) -> None:
    asked = {"model": "m", "revision": "0" * 40, "prompt_hash": "p", "status": "labelled", "label": "positive"}

    def change(rows: pl.LazyFrame) -> pl.LazyFrame:
        if archive.lake.scan("annotations", archive.task.name).filter(pl.col("id") == "r2").collect().is_empty():
            archive.append("annotations", {"id": "r2", "text_hash": hash_text("review number 2"), **asked})
            archive.append("annotations", {"id": GONE, "text_hash": hash_text("his latest"), **asked})
        return rows.filter(pl.col("id") != GONE)

    manifest = Manifest(step="forget", task=archive.task.name, partition=DAY, run="f1")
    archive.lake.rewrite_partition("annotations", archive.task.name, DAY, change, commit_key=None, manifest=manifest)
    assert sorted(archive.lake.scan("annotations", archive.task.name).collect()["id"]) == ["elsewhere", "r1", "r2"]
