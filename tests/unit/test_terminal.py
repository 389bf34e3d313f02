"""What reaches a terminal is text, of which nothing is obeyed there; and a reader that goes leaves no noise behind."""

import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from llambert_etl.cli.outcome import conclude, set_up_logging
from llambert_etl.cli.terminal import visible
from llambert_etl.errors import DataError
from tests.given.tasks import task_fields

INCLUDE = Path(__file__).parents[2] / "include"
SHOW = ["tasks", "show", "--task", "movie_sentiment", "--include", str(INCLUDE)]
# Erases the screen, names the window, turns the direction of writing, and begins a line of its own.
ORDERS = "\x1b[2J \x1b]0;title\x07 \x9b31m \u202egnp.\u2066exe \x7f \u2028 \r\n\ud800"


def start(arguments: list[str], **options: object) -> "subprocess.Popen[bytes]":
    argv = [sys.executable, "-c", "from llambert_etl.cli import main; main()", *arguments]
    return subprocess.Popen(argv, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


def test_no_order_to_a_terminal_is_left_and_other_text_is_as_it_was() -> None:
    shown = visible(ORDERS)
    assert all(character.isprintable() for character in shown)
    assert visible("Müller, 中文, 👩‍🔬, الشاشة [b] \\n") == "Müller, 中文, 👩‍🔬, الشاشة [b] \\n"


def test_a_line_of_json_keeps_its_meaning() -> None:
    line = visible(json.dumps({"text": ORDERS}, ensure_ascii=False))
    assert json.loads(line) == {"text": ORDERS}
    assert line.isprintable()


@pytest.mark.parametrize("error", [DataError(ORDERS), ValueError(ORDERS)])
def test_the_last_line_of_an_error_is_one_line_that_no_terminal_obeys(
    capfd: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail() -> None:
        raise error

    conclude(fail)
    lines = capfd.readouterr().err.split("\n")
    assert all(line.isprintable() for line in lines)
    assert lines[-2].startswith("llambert: ")


@pytest.mark.parametrize("style", ["plain", "json"])
def test_a_line_of_the_log_is_not_obeyed_and_forges_no_other(capsys: pytest.CaptureFixture[str], style: str) -> None:
    set_up_logging(style)  # type: ignore[arg-type]
    logging.getLogger("llambert_etl.steps").info("read %s é", ORDERS)
    (line,) = capsys.readouterr().err.split("\n")[:-1]
    assert line.isprintable()


def test_a_library_tells_no_story_and_may_warn(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("plain")
    chatty = logging.getLogger("great_expectations.data_context")
    chatty.setLevel(logging.INFO)  # as the library itself does
    chatty.info("Created temporary directory")
    chatty.warning("out of memory")
    assert [line[9:] for line in capsys.readouterr().err.splitlines()] == ["warning out of memory"]


@pytest.mark.parametrize("arguments", [SHOW, ["--help"]], ids=["result", "help"])
def test_a_reader_that_has_gone_ends_a_command_without_a_word(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start(arguments, stdout=writer)
    os.close(writer)
    _, said = process.communicate()
    assert (process.returncode, said) == (141, b"")


def test_a_full_stdout_is_told_as_such() -> None:
    with Path("/dev/full").open("w") as full:
        process = start(SHOW, stdout=full)
        _, said = process.communicate()
    assert process.returncode == 75
    assert said.startswith(b"llambert: stdout: cannot be written: No space left on device; ")


@pytest.mark.parametrize(("more", "is_json"), [([], False), (["--json"], True)], ids=["table", "json"])
def test_a_person_at_a_terminal_sees_a_table_and_a_program_its_json(
    tmp_path: Path, more: list[str], is_json: bool
) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "landing").mkdir()
    source = {"uri": f"{tmp_path}/landing/{{partition}}.csv", "id": "id", "text": "text"}
    fields = {**task_fields(), "source": source}
    (tmp_path / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    (tmp_path / "landing" / "2026-11-10.csv").write_text("id,text\n1,fine\n")
    own = {"LAKE": f"{tmp_path}/lake", "INCLUDE": str(tmp_path), "SOURCES": json.dumps([f"{tmp_path}/landing/"])}
    environment = {**os.environ, **{f"LLAMBERT_{name}": value for name, value in own.items()}}
    master, slave = pty.openpty()
    arguments = ["ingest", *more, "--task", "reviews", "--partition", "2026-11-10"]
    process = start(arguments, stdout=slave, env=environment)
    _, story = process.communicate()
    shown = os.read(master, 1 << 16).decode()
    os.close(slave)
    os.close(master)
    assert process.returncode == 0, story
    assert b"1 read, 1 accepted, 0 rejected, at version" in story
    if is_json:
        assert json.loads(shown)["rows"] == {"read": 1, "accepted": 1, "rejected": 0}
    else:
        assert "1 read, 1 accepted, 0 rejected" in shown
        assert "{" not in shown
