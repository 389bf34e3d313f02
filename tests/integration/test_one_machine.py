"""The README's way from texts to labels without any server, line by line as it stands, on models that are tiny."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

from llambert_etl.cli import run
from llambert_etl.stack.__main__ import local
from llambert_etl.stack.environment import ENCODER
from llambert_etl.stack.stack import REPOSITORY
from tests.encoders import pretrained

README = REPOSITORY / "README.md"
TEXTS = {f"{word} {number}": label for word, label in (("good", "billing"), ("bad", "other")) for number in range(30)}
ROWS = [{"id": str(number), "text": text, "label": label} for number, (text, label) in enumerate(TEXTS.items())]


@pytest.fixture
def lines() -> Iterator[str]:
    (block,) = re.findall(r"```bash\n(.*?)```", README.read_text(), flags=re.DOTALL)
    return iter(block.splitlines())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README speaks of; steps run there, and import nothing anew."""
    pl.DataFrame(ROWS).select("id", "text").write_csv(tmp_path / "tickets.csv")
    pl.DataFrame(ROWS).select("id", "label").write_csv(tmp_path / "gold.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_env(file: Path, monkeypatch: pytest.MonkeyPatch, **others: str) -> None:
    said = subprocess.run(["bash", "-c", f". {shlex.quote(str(file))}; env -0"], capture_output=True, check=True)
    for entry in said.stdout.decode().split("\0"):
        name, _, value = entry.partition("=")
        if name.startswith("LLAMBERT_"):
            monkeypatch.setenv(name, others.get(name, value))


def shrink(include: Path) -> None:
    """Edit the new task file: replies that are there already in place of an LLM, an encoder that learns in seconds."""
    path = include / "tasks" / "tickets.yaml"
    fields = yaml.safe_load(path.read_text())
    fields["annotator"] |= {"method": "generate", "recorded": {"file": "replies.csv", "reply": "label"}}
    fields["encoder"] |= {"epochs": 12, "learning_rate": 0.01, "max_length": 32}
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    pl.DataFrame(ROWS).write_csv(include / "replies.csv")


def test_six_lines_lead_from_texts_to_labels_without_a_server(
    machine: Path, lines: Iterator[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def type_(line: str) -> list[str]:
        capfd.readouterr()
        assert run(shlex.split(line)[1:]) == 0, capfd.readouterr().err
        return capfd.readouterr().out.splitlines()

    assert next(lines) == "make local && . .local/env"
    assert "-m llambert_etl.stack local\n" in (REPOSITORY / "Makefile").read_text()
    local(machine / ".local")
    tiny = json.dumps({ENCODER: str(pretrained(machine / "encoder"))})
    include = machine / "include"
    read_env(machine / ".local/env", monkeypatch, LLAMBERT_INCLUDE=str(include), LLAMBERT_MODEL_PATHS=tiny)

    type_(next(lines))
    shrink(include)
    type_(next(lines))
    promoted = json.loads(type_(next(lines))[-1])
    assert promoted["step"] == "promote"
    label = next(lines)
    published = json.loads(type_(label)[-1])
    assert (published["step"], published["rows"]["read"]) == ("publish", len(ROWS))
    assert "60 accepted" in "\n".join(type_(next(lines)))
    assert next(lines, None) is None

    table = pl.scan_delta(str(machine / ".local/lake/labels")).collect()
    assert sorted(table["id"]) == sorted(row["id"] for row in ROWS)
    assert not list(machine.glob("mlruns*")), "files of runs lie beside the registry's"
    again = [json.loads(line) for line in type_(label)]
    assert [(each["step"], each["facts"]["fresh"]) for each in again] == [("plan", True)]
