"""The help is whole on a narrow terminal, and each command shows how it is typed."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from llambert_etl.cli import run
from llambert_etl.cli.app import app

WIDTH = 80


def commands(group: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from commands(command, *path, name)


ALL = dict(commands(typer.main.get_command(app)))
LEAVES = {path: command for path, command in ALL.items() if not hasattr(command, "commands")}


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(WIDTH))


@pytest.mark.parametrize("path", [(), *ALL], ids=" ".join)
def test_no_line_of_the_help_is_cut(capfd: pytest.CaptureFixture[str], path: tuple[str, ...]) -> None:
    assert run([*path, "--help"]) == 0
    shown = capfd.readouterr().out
    assert max(map(len, shown.splitlines())) <= WIDTH
    assert "…" not in shown
    words = set(re.split(r"[\s│]+", shown))
    options = {name for each in getattr(ALL.get(path), "params", ()) for name in (*each.opts, *each.secondary_opts)}
    assert {option for option in options if option.startswith("--")} <= words
    assert not re.findall(r"<[a-z][^>│]*│", shown), "a list of choices goes on in the next line"


def test_a_terminal_too_narrow_for_frames_shows_each_option_whole() -> None:
    command = [sys.executable, "-c", "from llambert_etl.cli import main; main()", "review", "export", "--help"]
    shown = subprocess.run(
        command, env={**os.environ, "COLUMNS": "40"}, capture_output=True, check=True
    ).stdout.decode()
    options = {name for each in LEAVES["review", "export"].params for name in each.opts if name.startswith("--")}
    assert options <= set(shown.split())
    assert "…" not in shown


def test_each_number_has_a_bound_but_a_seed_which_is_only_hashed() -> None:
    """One above a library's integers would end as a bug, or as a registry that does not answer."""
    bounds = {
        (*path, param.name): param.type_descriptor.parameter_info.max
        for path, command in LEAVES.items()
        for param in command.params
        if param.type_descriptor.annotation is int
    }
    assert len(bounds) > 10
    assert [name for name, bound in bounds.items() if bound is None] == [("review", "export", "seed")]


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_a_command_shows_an_example_of_itself_with_all_that_it_needs(path: tuple[str, ...]) -> None:
    command = LEAVES[path]
    example = shlex.split(command.epilog.removeprefix("Example: llambert "))
    assert tuple(example[: len(path)]) == path
    command.make_context(" ".join(path), example[len(path) :])  # parsed, not run: raises for what is missing or unknown


@pytest.mark.parametrize("arguments", [[], ["tasks"], ["gold"], ["run"]], ids=" ".join)
def test_who_names_no_command_is_shown_what_there_is(capfd: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(arguments) == 0
    out, err = capfd.readouterr()
    assert "Usage: llambert" in out
    assert err == ""


def test_the_help_has_its_parts_in_the_order_of_the_work_and_the_exit_codes(capfd: pytest.CaptureFixture[str]) -> None:
    run([])
    shown = capfd.readouterr().out
    parts = re.findall(r"╭─ ([\w ]+?) ─", shown)
    assert parts == [
        "Options",
        "Begin here",
        "From files to a champion",
        "From a champion to labels",
        "Look",
        "By hand",
        "The deployment",
    ]
    assert "Exit codes: 0 done, 65 mend the data" in shown


def test_the_version_is_a_result(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", capfd.readouterr().out)
