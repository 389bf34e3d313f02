"""`make up`, `make local` and `make demo` where they cannot begin: a reason and an exit code, and no traceback."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from laptop.__main__ import main as stack
from laptop.demo.__main__ import main as demo


@pytest.mark.parametrize(("main", "words"), [(stack, ["up"]), (demo, [])])
def test_a_state_that_cannot_be_written_is_named(
    main: Callable[[], int],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    state = tmp_path / "state"
    state.write_text("a file")
    monkeypatch.setattr(sys, "argv", ["main", *words, "--state", str(state)])
    assert main() == 75
    assert str(state) in capsys.readouterr().err


@pytest.mark.parametrize("name", ["my files", "josé"])
def test_a_folder_in_which_no_lake_can_lie_is_refused_before_anything_is_written(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / name
    monkeypatch.setattr(sys, "argv", ["main", "local", "--state", str(state)])
    assert stack() == 78
    assert "LLAMBERT_LAKE: no folder of it, or above it, may have " in capsys.readouterr().err
    assert not state.exists()
