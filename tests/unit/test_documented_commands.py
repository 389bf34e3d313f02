"""What the documents tell to type can be typed: the commands are there, and take these options."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from tests.unit.test_help import ALL

ROOT = Path(__file__).parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md")))
EVERYWHERE = {"--help", "--json"}
PLACEHOLDERS = {"VERSION": "3", "N": "3"}


def typed(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each line that names a command, without `llambert`, and whether it is whole: it can be typed as it is."""
    fence = re.compile(r"^```.*?\n(.*?)^```", flags=re.MULTILINE | re.DOTALL)
    for block in fence.findall(text):
        yield from ((line, True) for line in re.findall(r"^llambert (.+)", block, flags=re.MULTILINE))
    for code in re.findall(r"`([^`]+)`", fence.sub("", text)):
        words = code.split()
        if words[1:] and words[0] == "llambert":
            yield " ".join(words[1:]), "--task" in words
        elif any(word.startswith("--") for word in words[1:]) and (words[0],) in ALL:
            yield " ".join(words), False


def fault(line: str, whole: bool) -> str | None:
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(line, comments=True)]
    path: tuple[str, ...] = ()
    while len(path) < len(words) and (*path, words[len(path)]) in ALL:
        path = (*path, words[len(path)])
    if path not in ALL:
        return None if words[0].startswith("-") or words[0].isupper() else "no such command"
    rest = words[len(path) :]
    if hasattr(ALL[path], "commands"):
        return "no such command of the group" if rest and not rest[0].startswith("-") else None
    known = {name for each in ALL[path].params for name in (*each.opts, *each.secondary_opts)} | EVERYWHERE
    if others := {word.partition("=")[0].strip("[]") for word in rest if word.lstrip("[").startswith("--")} - known:
        return f"no such option: {others}"
    if whole:
        try:
            ALL[path].make_context(" ".join(path), rest)  # parsed, not run
        except typer.BadParameter as error:
            return error.format_message()
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_a_document_names_commands_and_options_that_there_are(document: Path) -> None:
    lines = list(typed(document.read_text(encoding="utf-8")))
    assert [(line, why) for line, whole in lines if (why := fault(line, whole))] == []


def test_the_readme_has_commands_to_type() -> None:
    assert sum(whole for _, whole in typed(DOCUMENTS[0].read_text(encoding="utf-8"))) > 5
