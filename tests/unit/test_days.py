"""Which days a command takes: none that has not begun, unless it is told to, and none at the ends of the calendar."""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from llambert_etl.cli import run
from llambert_etl.cli.app import app
from llambert_etl.corpus.documents import hash_text
from llambert_etl.errors import ConfigError
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition, day_before, parse_partition, refuse_ahead, today
from tests.given.tasks import task_fields

FAR = "2962-11-10"
# Every command of a day, with what else it needs.
COMMANDS = (
    "ingest",
    "annotate",
    "estimate",
    "check documents",
    "train",
    "promote",
    "study strategies",
    "training-due",
    "relabel --upto 2026-11-10",
    "plan",
    "label --shard 0",
    "publish",
    "export",
    "gold import g.csv",
    "landing put a.jsonl",
    "run ingest",
    "run retrain",
    "run label",
    "batch write b.jsonl",
    "batch read b.jsonl",
    "review export to",
    "review import r.csv",
)


@pytest.fixture(autouse=True)
def landing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A deployment with one task; its landing folder is returned."""
    landing = tmp_path / "landing"
    fields = {**task_fields(), "source": {"uri": f"{landing}/{{partition}}/*.jsonl", "id": "id", "text": "text"}}
    (tmp_path / "include/tasks").mkdir(parents=True)
    (tmp_path / "include/tasks/reviews.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    (tmp_path / "include/prompts").mkdir()
    (tmp_path / "include/prompts" / fields["prompt"]["template"]).write_text("{{ text }}")
    monkeypatch.setenv("LLAMBERT_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("LLAMBERT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LLAMBERT_INCLUDE", str(tmp_path / "include"))
    monkeypatch.setenv("LLAMBERT_SOURCES", json.dumps([f"{landing}/"]))
    monkeypatch.delenv("LLAMBERT_ALLOW_FUTURE", raising=False)
    return landing


@pytest.mark.parametrize("command", COMMANDS)
def test_a_day_that_has_not_begun_is_refused_by_every_command(capfd: pytest.CaptureFixture[str], command: str) -> None:
    assert run([*command.split(), "--task", "reviews", "--partition", FAR]) == 78
    assert f"partition {FAR} has not begun: by this machine's clock it is {today()}" in capfd.readouterr().err


def test_every_command_of_a_day_is_among_those() -> None:
    def leaves(command: Any, *names: str) -> Iterator[tuple[str, ...]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from leaves(inner, *names, name)
        if any(each.name == "partition" and each.required for each in command.params):
            yield names

    asked = [tuple(command.split()) for command in COMMANDS]
    for names in leaves(typer.main.get_command(app)):
        assert any(each[: len(names)] == names for each in asked), names


def test_today_has_begun_and_the_day_after_has_not() -> None:
    refuse_ahead(Partition("2026-11-30"), Partition("2026-11-30"))
    with pytest.raises(ConfigError, match="partition 2026-12-01 has not begun"):
        refuse_ahead(Partition("2026-12-01"), Partition("2026-11-30"))


@pytest.mark.parametrize("allowed", ["by the command", "by the deployment"])
def test_a_day_ahead_is_taken_where_it_is_meant(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, landing: Path, allowed: str
) -> None:
    monkeypatch.setenv("LLAMBERT_ALLOW_FUTURE", str(allowed == "by the deployment"))
    drop(landing, FAR)
    option = ["--allow-future"] if allowed == "by the command" else []
    assert run(["ingest", "--task", "reviews", "--partition", FAR, *option]) == 0
    assert run(["relabel", "--task", "reviews", "--partition", "2026-11-10", "--upto", FAR, *option]) == 0
    assert json.loads(capfd.readouterr().out.splitlines()[-1])["facts"]["bring_back"] == [FAR]


@pytest.mark.parametrize(("name", "noted"), [("r1", False), ("r" * 5_000, True)])
def test_a_manifest_too_long_for_last_words_is_left_in_the_note_that_its_starter_names(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    landing: Path,
    tmp_path: Path,
    name: str,
    noted: bool,
) -> None:
    monkeypatch.setenv("LLAMBERT_HAND_OVER", "_manifests/1.json")
    drop(landing, "2026-11-10")
    assert run(["ingest", "--task", "reviews", "--partition", "2026-11-10", "--run", name]) == 0
    note = tmp_path / "lake" / "_staging" / "_manifests" / "1.json"
    assert note.exists() == noted
    if noted:
        assert note.read_text() == capfd.readouterr().out.splitlines()[-1]


def test_a_range_that_ends_ahead_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["relabel", "--task", "reviews", "--partition", "2026-11-10", "--upto", FAR]) == 78
    assert f"partition {FAR} has not begun" in capfd.readouterr().err


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "0000-01-01", "9999-12-32", "10000-01-01"])
@pytest.mark.parametrize("command", ["ingest --missed", "training-due", "plan", "relabel --upto 2026-11-10"])
def test_what_is_no_day_or_before_the_earliest_is_refused(
    capfd: pytest.CaptureFixture[str], command: str, day: str
) -> None:
    said = "is before 1970-01-01, the earliest day" if day in ("0001-01-01", "1969-12-31") else "is not a day"
    assert run([*command.split(), "--task", "reviews", "--partition", day, "--allow-future"]) == 78
    assert f"partition '{day}' {said}" in capfd.readouterr().err


@pytest.mark.parametrize("day", ["1970-01-01", "2028-02-29", "9999-12-31"])
def test_the_first_the_last_and_a_leap_day_are_days(capfd: pytest.CaptureFixture[str], landing: Path, day: str) -> None:
    drop(landing, day)
    assert parse_partition(day) == day
    chosen = ["--task", "reviews", "--allow-future", "--partition", day]
    for command in (["ingest", "--missed"], ["check", "documents"], ["relabel", "--upto", "9999-12-31"]):
        assert run([*command, *chosen]) == 0, capfd.readouterr().err


def set_clock(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Have this process's clock so many days ahead of the true one."""
    true = datetime.datetime

    class Wrong(true):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return true.now(tz) + datetime.timedelta(days=days)

    monkeypatch.setattr(datetime, "datetime", Wrong)


@pytest.mark.parametrize("days", [-1, 0, 1])
def test_a_clock_that_is_a_day_wrong_changes_no_row_of_the_night(
    monkeypatch: pytest.MonkeyPatch, landing: Path, tmp_path: Path, days: int
) -> None:
    night = day_before(today())
    drop(landing, night)
    given = [f"{n},text {n},{('positive', 'negative')[n % 2]},{('train', 'test')[n // 2 % 2]}" for n in range(40)]
    (tmp_path / "gold.csv").write_text("\n".join(["id,text,label,split", *given]))
    set_clock(monkeypatch, days)
    for command in (["ingest"], ["check", "documents"], ["gold", "import", str(tmp_path / "gold.csv")]):
        assert run([*command, "--task", "reviews", "--partition", night]) == 0
    lake = Lake(str(tmp_path / "lake"))
    (document,) = lake.scan("documents", "reviews").collect().iter_rows(named=True)
    assert document == {
        "task": "reviews",
        "partition": night,
        "id": "a",
        "status": "accepted",
        "reason": None,
        "source": str(landing / night / "a.jsonl"),
        "place": "line 1",
        "text": "fine",
        "text_hash": hash_text("fine"),
        "run": "cli",
    }
    gold = lake.scan("gold", "reviews").collect()
    assert (gold.height, set(gold["partition"]), set(gold["labelled_at"])) == (40, {night}, {None})


def test_a_clock_that_is_a_day_late_says_so_where_it_refuses_today(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    day = today()
    set_clock(monkeypatch, -1)
    assert run(["ingest", "--task", "reviews", "--partition", day]) == 78
    assert f"by this machine's clock it is {day_before(day)} (UTC); mend the day or the clock" in capfd.readouterr().err


def drop(landing: Path, day: str) -> None:
    (landing / day).mkdir(parents=True)
    (landing / day / "a.jsonl").write_text('{"id": "a", "text": "fine"}\n')
