"""Where a text names the labels of a task, as whole words and in any markup."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

AROUND = " \t\r\n.,;:!?'\"`*_()[]{}<>«»“”‘’„-–—…•。，！？：；、「」『』（）【】"
# What may stand between the words of a label, and what ties a label to a longer word, as in "non-positive".
_BETWEEN = r"[\s*_`~\"'“”‘’«»-]+"
_TIES = "_*`~-'’"
_HYPHENS = str.maketrans("‐‑−", "---")
# "0.9", "10:1", "7/1", "$1" and "-1" are not 1; nor are "1.5", "1:30", "1/5" and "1%".
_NUMBER_BEFORE = re.compile(r"(?:[.,$€£#+^~≈±≤≥-]|\d[:/'’])\Z")
_NUMBER_AFTER = re.compile(r"[.,:/'’–—-]\d|[%+°$€£^]")


@dataclass(frozen=True)
class Mention:
    """A label in a text; the places are those of the text as `plain` makes it. `as_spelt`: in the task's own case."""

    label: str
    start: int
    end: int
    as_spelt: bool

    def is_part_of(self, other: "Mention") -> bool:
        return other.start <= self.start and self.end <= other.end and self.end - self.start < other.end - other.start


def plain(text: str) -> str:
    """Return a text without regard to case and to how its accents and hyphens are written."""
    return unicodedata.normalize("NFC", _normal(text).casefold())


def bare(said: str) -> str:
    """Return what was said without white space and punctuation around it, in lower case."""
    return plain(said).strip(AROUND)


def find(text: str, labels: Sequence[str]) -> list[Mention]:
    """Return the labels that a text names, in order, without those that are part of another: `sci` in `sci fi`."""
    spoken, said = _normal(text), plain(text)
    found = [
        Mention(label, match.start(), match.end(), _is_spelt(label, spoken, said, match))
        for label, pattern in _patterns(tuple(labels))
        for match in pattern.finditer(said)
        if _is_bounded(said, match.start(), match.end())
    ]
    found.sort(key=lambda mention: (mention.start, -mention.end))
    return list(_widest(found))


def _widest(found: Sequence[Mention]) -> Iterator[Mention]:
    """Yield the mentions that are part of no other; they are sorted, the longer first."""
    reach: Mention | None = None
    for mention in found:
        if reach is None or not mention.is_part_of(reach):
            yield mention
            reach = mention if reach is None or mention.end >= reach.end else reach


@lru_cache(maxsize=64)
def _patterns(labels: tuple[str, ...]) -> list[tuple[str, re.Pattern[str]]]:
    """Match each label with white space or markup between its words, and with or without punctuation at its end."""
    words = {label: [word for word in re.split(r"[\s_-]+", bare(label)) if word] for label in labels}
    patterns = []
    for label, parts in words.items():
        key = bare(label)
        # Of `sci fi` and `sci-fi`, if a task has both, a reply must write the one that it means.
        alone = sum(parts == others for others in words.values()) == 1
        spelt = _BETWEEN.join(map(re.escape, parts)) if alone else re.escape(key)
        tail = plain(label).partition(key)[2].strip()
        if parts:
            patterns.append((label, re.compile(spelt + (f"(?:{re.escape(tail)})?" if tail else ""))))
    return patterns


def _normal(text: str) -> str:
    return unicodedata.normalize("NFC", text).translate(_HYPHENS)


def _is_spelt(label: str, spoken: str, said: str, match: re.Match[str]) -> bool:
    return len(spoken) != len(said) or spoken[match.start() : match.end()].strip(AROUND) == _normal(label).strip(AROUND)


def _is_bounded(said: str, start: int, end: int) -> bool:
    """Tell whether a match is no part of a longer word or number."""
    before, after = said[max(0, start - 8) : start], said[end : end + 8]
    if _is_tied(before.rstrip(_TIES)[-1:]) or _is_tied(after.lstrip(_TIES)[:1]):
        return False
    if said[start].isdigit() and _NUMBER_BEFORE.search(before):
        return False
    return not (said[end - 1].isdigit() and _NUMBER_AFTER.match(after))


def _is_tied(character: str) -> bool:
    # Accents and vowel signs of other scripts are no letters, but parts of words.
    return character.isalnum() or (character != "" and unicodedata.category(character).startswith("M"))
