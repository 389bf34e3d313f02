"""A command ends with one line that says what to mend, and with the exit code that a scheduler reads."""

import errno
import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from llambert_etl.cli import main, run
from llambert_etl.cli.outcome import conclude
from llambert_etl.config import find_task
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.lake import Lake

INCLUDE = Path(__file__).parents[2] / "include"
DAY = ["--partition", "2026-11-10"]


@pytest.fixture(autouse=True)
def _deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMBERT_LAKE", str(tmp_path / "lake"))
    monkeypatch.setenv("LLAMBERT_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LLAMBERT_INCLUDE", str(INCLUDE))
    monkeypatch.setenv("LLAMBERT_SOURCES", json.dumps([f"{tmp_path}/landing/"]))
    monkeypatch.setenv("LLAMBERT_MLFLOW_URI", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["ingest", "--task", "movie_sentiment", "--partition", "None"], 78, "no partition: this run has no partition"),
        (["ingest", "--task", "movie_sentiment", "--partition", "today"], 78, "partition 'today' is not a day"),
        (["ingest", "--task", "movie_sentiment"], 78, "Missing option '--partition'"),
        (["ingest", "--task", "nonsense", *DAY], 78, "no file"),
        (["ingest", "--task", "../etc", *DAY], 78, "a task name is lower-case letters"),
        (["ingest", "--task", "movie_sentiment", *DAY], 78, "LLAMBERT_SOURCES"),
        (["batch", "write", "requests.jsonl", "--task", "movie_sentiment", *DAY], 78, "set annotator.server"),
        (["estimate", "--task", "movie_sentiment", "--probe", "-1", *DAY], 78, "'--probe'"),
        (["restore", "documents", "--version", "7"], 78, "documents: version 7 is not before 0"),
        (["fly"], 78, "No such command 'fly'"),
        (["check", "weather", "--task", "movie_sentiment", *DAY], 78, "'weather' is not one of"),
        (
            ["label", "--task", "movie_sentiment", "--shard", "0", *DAY],
            78,
            "has no plan: run `llambert plan`",
        ),
        (["publish", "--task", "movie_sentiment", *DAY], 78, "has no plan: run `llambert plan`"),
        (["train", "--task", "movie_sentiment", "--strategy", "magic", *DAY], 78, "'magic' is not one of"),
        (
            ["review", "export", "to", "--task", "movie_sentiment", "--size", "0", *DAY],
            78,
            "'--size': Input should be greater",
        ),
        (["review", "export", "to", "--task", "movie_sentiment", "--stratum", "all", *DAY], 78, "'all' is not one of"),
        (["review", "export", "to", "--task", "movie_sentiment", *DAY], 65, "nothing to look at in"),
        (["review", "import", "no.csv", "--task", "movie_sentiment", *DAY], 78, "cannot be read: No such file"),
        (["gold", "import", "s3://elsewhere/g.csv", "--task", "movie_sentiment", *DAY], 78, "not under any of"),
        (["annotate", "--task", "movie_sentiment", "--strategy", "llm+extra", *DAY], 78, "needs annotator.extra"),
        (["annotate", "--task", "movie_sentiment", "--strategy", "gold", *DAY], 78, "run `llambert train` alone"),
        (["check", "annotations", "--task", "movie_sentiment", "--strategy", "gold", *DAY], 78, "has no use for the"),
        (["estimate", "--task", "movie_sentiment", "--strategy", "gold", *DAY], 78, "has no use for the"),
        (
            ["batch", "write", "new.jsonl", "--task", "movie_sentiment", "--strategy", "gold", *DAY],
            78,
            "has no use for",
        ),
    ],
)
def test_a_refusal_is_one_line_and_an_exit_code(
    capfd: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    assert run(arguments) == code
    out, err = capfd.readouterr()
    assert said in err
    assert out == ""
    assert "Traceback" not in err


def test_texts_that_cannot_be_decoded_are_a_fault_of_the_data(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"fine\n\xff\n"), "utf-8"))
    assert run(["predict", "--task", "movie_sentiment"]) == 65
    assert "stdin is not utf-8" in capfd.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "ingest",
        "gold import",
        "review export folder",
        "review import answers.csv",
        "annotate",
        "estimate",
        "batch write FILE",
        "batch read FILE",
        "check documents",
        "train",
        "promote",
        "training-due",
        "plan",
        "label --shard 0",
        "publish",
    ],
)
def test_a_step_refuses_a_task_file_that_is_not_the_one_its_caller_read(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    known = find_task(INCLUDE, "movie_sentiment").config_hash
    other = "0" * 16
    assert run([*command.split(), "--task", "movie_sentiment", "--expect", other, *DAY]) == 78
    assert f"--expect {other}, but the file in {INCLUDE} has the hash {known}" in capfd.readouterr().err
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize(
    ("error", "code"), [(TransientError("x"), 75), (DataError("x"), 65), (ConfigError("x"), 78), (ValueError("x"), 1)]
)
def test_each_error_has_its_exit_code(error: Exception, code: int) -> None:
    assert conclude(raising(error)) == code


def raising(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def test_an_error_of_ours_is_a_bug_whose_traceback_shows_no_value(capfd: pytest.CaptureFixture[str]) -> None:
    texts = pl.DataFrame({"text": ['it says "CANARY" here', "it's CANARY"]})

    def work() -> None:
        try:
            texts.select(pl.col("text").cast(pl.Int64))
        except pl.exceptions.PolarsError as error:
            raise KeyError(texts["text"][0]) from error

    assert conclude(work) == 1
    told = capfd.readouterr().err
    assert "InvalidOperationError: conversion from ...\n" in told
    assert "builtins.KeyError: ...\n" in told
    assert 'raise KeyError(texts["text"][0]) from error' in told
    assert "this is a bug in llambert, not in your data or settings" in told
    assert "CANARY" not in told


def test_errors_that_lead_to_each_other_are_each_told_once(capfd: pytest.CaptureFixture[str]) -> None:
    first, second = KeyError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert conclude(raising(first)) == 1
    assert capfd.readouterr().err.count("builtins.ValueError: b\n") == 1


def test_a_panic_of_a_library_is_a_bug_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert conclude(raising(pl.exceptions.PanicException("index out of bounds"))) == 1
    assert "PanicException: index out of bounds" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), 78, "'/data/x': Permission denied; mend it"),
        (OSError(errno.EIO, "Input/output error", "/data/x"), 75, "'/data/x': Input/output error; run the step again"),
        (OSError(errno.ESTALE, "Stale file handle"), 75, "this machine: Stale file handle; run the step again"),
        (OSError("a sentence of some library"), 1, "this is a bug in llambert"),
        (pl.exceptions.ComputeError("corrupt"), 1, "this is a bug in llambert"),
    ],
)
def test_only_what_this_machine_says_is_told_as_its_failure(
    capfd: pytest.CaptureFixture[str], error: Exception, code: int, says: str
) -> None:
    assert conclude(raising(error)) == code
    assert says in capfd.readouterr().err


@pytest.mark.parametrize(("error", "code"), [(DataError("mend it"), 65), (KeyError(), 1)])
def test_a_stderr_that_takes_nothing_changes_no_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fail() -> None:
        raise error

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sys.stderr", Full())
    assert conclude(fail) == code


def test_ctrl_c_is_no_success(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: Lake) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Lake, "create_tables", interrupt)
    assert run(["init"]) == 130
    assert capfd.readouterr().err == "llambert: interrupted; what is done stands: run it again for the rest\n"


def test_ctrl_c_while_a_command_is_loaded_is_told_in_one_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llambert_etl.cli.outcome.set_up_logging", interrupt)
    with pytest.raises(SystemExit, match="130"):
        main(["init"])
    assert capfd.readouterr().err == "llambert: interrupted; what is done stands: run it again for the rest\n"


@pytest.mark.parametrize("option", [["--run", "r\udcff"], ["--run=r\udcff"], ["--id", "\udce9" * 5_000]])
def test_an_argument_that_is_no_utf8_is_refused(capfd: pytest.CaptureFixture[str], option: list[str]) -> None:
    assert run(["forget", "--task", "movie_sentiment", "--id", "7", *option]) == 78
    assert "is not UTF-8" in capfd.readouterr().err


def test_a_missing_setting_is_a_refusal(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLAMBERT_LAKE")
    assert run(["init"]) == 78
    assert "LLAMBERT_LAKE: is missing" in capfd.readouterr().err


def test_the_doctor_lists_all_that_a_shell_without_settings_lacks(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LAKE", "SOURCES", "MLFLOW_URI"):
        monkeypatch.delenv(f"LLAMBERT_{name}")
    assert run(["doctor"]) == 78
    out, _ = capfd.readouterr()
    assert "LLAMBERT_LAKE: export LLAMBERT_LAKE=s3://warehouse/lake" in out
    assert """LLAMBERT_SOURCES: export LLAMBERT_SOURCES='["s3://landing/"]'""" in out
    assert "LLAMBERT_MLFLOW_URI: export LLAMBERT_MLFLOW_URI=http://127.0.0.1:5000" in out


def test_a_variable_that_no_setting_has_is_warned_of_without_its_value(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLAMBERT_MLFLOW_URL", "hunter2")
    monkeypatch.setenv("LLAMBERT_PAGES_SERVICE_HOST", "10.0.0.1")  # a cluster's own, of a service `llambert-pages`
    monkeypatch.setenv("LLAMBERT_PAGES_PORT_80_TCP", "tcp://10.0.0.1:80")
    monkeypatch.setenv("LLAMBERT_SERVERS__GPT__URL", "http://127.0.0.1:1/v1")
    assert run(["init"]) == 0
    err = capfd.readouterr().err
    assert (
        "LLAMBERT_MLFLOW_URL: no setting has this name, so it is not read; did you mean 'LLAMBERT_MLFLOW_URI'?" in err
    )
    assert err.count("warning") == 1
    assert "hunter2" not in err


@pytest.mark.parametrize("uri", ["", "http://127.0.0.1:1"], ids=["not set", "down"])
def test_the_tables_are_shown_without_mlflow(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    monkeypatch.setenv("LLAMBERT_MLFLOW_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert run(["status", "--task", "movie_sentiment"]) == 0
    out = capfd.readouterr().out
    assert "not known: " in out
    assert "documents" in out


def test_help_is_a_result(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "--help"]) == 0
    assert "--seeds" in capfd.readouterr().out


def test_what_a_library_prints_does_not_reach_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    assert conclude(lambda: print("a library's chatter")) == 0
    out, err = capfd.readouterr()
    assert (out, err) == ("", "a library's chatter\n")


def test_init_creates_the_tables_and_can_be_repeated(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["init"]) == 0
    assert run(["init"]) == 0
    last = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert last == {"lake": str(tmp_path / "lake"), "tables": "ready"}


def test_doctor_names_what_cannot_be_used(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 78
    out, _ = capfd.readouterr()
    assert "registry" in out
    assert "one writer wins" in out


def test_a_task_is_shown_with_its_defaults(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks", "show", "--task", "movie_sentiment", "--include", str(INCLUDE)]) == 0
    assert json.loads(capfd.readouterr().out)["source"]["max_chars"] == 100_000
