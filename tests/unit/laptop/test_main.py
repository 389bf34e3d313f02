"""`make up` and `make demo` where they cannot begin: a reason and an exit code, and no traceback."""

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
