"""The README's way from texts to labels without any server, line by line as it stands, on models that are tiny."""

import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from laptop.__main__ import local
from laptop.environment import ENCODER
from laptop.stack import REPOSITORY
from llambert_etl.cli import run
from tests.models.encoders import pretrained

README = REPOSITORY / "README.md"
TEXTS = {f"{word} {number}": label for word, label in (("good", "billing"), ("bad", "other")) for number in range(30)}
ROWS = [{"id": str(number), "text": text, "label": label} for number, (text, label) in enumerate(TEXTS.items())]


DAY, NEXT = "2026-11-10", "2026-11-11"


class Machine:
    """A folder with the files that the README speaks of, and the deployment that its first line makes there."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch
        self.task = folder / "include" / "tasks" / "tickets.yaml"
        pl.DataFrame(ROWS).select("id", "text").write_csv(folder / "tickets.csv")
        pl.DataFrame(ROWS).select("id", "label").write_csv(folder / "gold.csv")
        patch.chdir(folder)
        local(folder / ".local")
        said = subprocess.run(["bash", "-c", ". .local/env; env -0"], capture_output=True, check=True).stdout
        for name, _, value in (entry.partition("=") for entry in said.decode().split("\0")):
            if name.startswith("LLAMBERT_"):
                patch.setenv(name, value)
        patch.setenv("LLAMBERT_INCLUDE", str(folder / "include"))
        patch.setenv("LLAMBERT_MODEL_PATHS", json.dumps({ENCODER: str(pretrained(folder / "encoder"))}))

    def type(self, line: str) -> list[str]:
        """Run one line here, so that it imports nothing anew; return what it has printed."""
        out = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "__stdout__", out)
            code = run(shlex.split(line)[1:])
        assert code == 0, line
        return out.getvalue().splitlines()

    def steps(self, line: str) -> list[tuple[str, str]]:
        return [(each["step"], each["partition"]) for each in map(json.loads, self.type(line))]

    def edit(self, **parts: Any) -> None:
        fields = yaml.safe_load(self.task.read_text())
        merged = {
            name: {**fields.get(name, {}), **part} if isinstance(part, dict) else part for name, part in parts.items()
        }
        self.task.write_text(yaml.safe_dump({**fields, **merged}, sort_keys=False))

    def shrink(self) -> None:
        """Take replies that are there already in place of an LLM, and an encoder that learns in seconds."""
        pl.DataFrame(ROWS).write_csv(self.folder / "include" / "replies.csv")
        recorded = {"file": "replies.csv", "reply": "label"}
        self.edit(
            annotator={"method": "generate", "recorded": recorded},
            encoder={"epochs": 30, "learning_rate": 0.002, "max_length": 32},
        )


@pytest.fixture(scope="module")
def lines() -> list[str]:
    (block,) = re.findall(r"```bash\n(.*?)```", README.read_text(), flags=re.DOTALL)
    return list(block.splitlines())


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with pytest.MonkeyPatch.context() as patch:
        yield Machine(tmp_path_factory.mktemp("machine"), patch)


@pytest.fixture(scope="module")
def said(machine: Machine, lines: list[str]) -> list[list[str]]:
    """What each line has printed."""
    made, new, *others = lines
    assert made == "make local && . .local/env"
    assert "-m laptop local\n" in (REPOSITORY / "Makefile").read_text()
    machine.type(new)
    machine.shrink()
    return [machine.type(line) for line in others]


def test_six_lines_lead_from_texts_to_labels_without_a_server(machine: Machine, said: list[list[str]]) -> None:
    ingested, retrained, labelled, status = said
    assert json.loads(ingested[-1])["step"] == "check"
    assert json.loads(retrained[-1])["step"] == "promote"
    published = json.loads(labelled[-1])
    assert (published["step"], published["rows"]["read"]) == ("publish", len(ROWS))
    assert "60 accepted" in "\n".join(status)
    table = pl.scan_delta(str(machine.folder / ".local/lake/labels")).collect()
    assert sorted(table["id"]) == sorted(row["id"] for row in ROWS)
    assert not list(machine.folder.glob("mlruns*")), "files of runs lie beside the registry's"


def test_the_line_of_a_label_run_again_finds_nothing_to_do(
    machine: Machine, said: list[list[str]], lines: list[str]
) -> None:
    (line,) = machine.type(next(line for line in lines if " run label " in line))
    assert (json.loads(line)["step"], json.loads(line)["facts"]["fresh"]) == ("plan", True)


def test_a_retrain_whose_promotion_needs_an_approval_only_says_what_it_would_do(
    machine: Machine, said: list[list[str]]
) -> None:
    machine.edit(retrain={"approval": True})
    *_, trained, promoted = machine.type(f"llambert run retrain --task tickets --partition {DAY}")
    assert json.loads(trained)["step"] == "train"
    assert json.loads(promoted)["facts"]["dry_run"] is True


def test_a_night_by_hand_checks_past_days_that_have_changed_and_exports_where_the_task_says_so(
    machine: Machine, said: list[list[str]]
) -> None:
    machine.edit(export="parquet")
    landed = machine.folder / ".local/landing/tickets" / DAY / "tickets.csv"
    landed.write_text(landed.read_text() + "late,good late\n")
    pl.DataFrame(ROWS).select("id", "text").write_csv(machine.folder / "more.csv")
    put, *steps = machine.type(f"llambert run ingest more.csv --task tickets --partition {NEXT}")
    assert json.loads(put)["put"].endswith(f"/tickets/{NEXT}/more.csv")
    done = [(each["step"], each["partition"]) for each in map(json.loads, steps)]
    assert done == [("ingest", NEXT), ("check", DAY), ("check", NEXT)]
    label = f"llambert run label --task tickets --partition {NEXT}"
    assert [step for step, _ in machine.steps(label)] == ["plan", "label", "check", "publish", "export"]
    shutil.rmtree(machine.folder / ".local/lake/exports")  # as if killed between the last two
    assert machine.steps(label) == [("plan", NEXT), ("export", NEXT)]
    assert list((machine.folder / ".local/lake/exports/tickets" / NEXT).rglob("labels.parquet"))
