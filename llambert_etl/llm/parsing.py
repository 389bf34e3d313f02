"""From what a model said to a label, or to no label and the reason. Never a default."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from llambert_etl.config import LabellingTask
from llambert_etl.llm import Reply
from llambert_etl.schemas import AnnotationStatus

# Goes into every annotation: change it with any change of what `parse` returns.
PARSER_VERSION = "3"

_AROUND = " \t\r\n.,;:!?'\"`*_()[]{}<>«»“”‘’„-–—"
# "not positive" holds one label and means another.
_NEGATIONS = frozenset(
    "no not non never neither nor none nothing nobody nowhere cannot hardly barely scarcely unlikely without".split()
)
# What a model thinks is no answer, least of all where it was cut off as it thought.
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL | re.IGNORECASE)
# Around a word that is a whole answer: "Answer: **no**, it …". "No idea" and "there is no" have none.
_BEFORE, _AFTER = r"(?:^|[:\n])[\s*_\"'`“‘„«(\[]*", r"[*_\"'`”’»)\]]*\s*(?:$|[.,;:!?(–—\n]|-\s)"
_WORD = re.compile(r"[\w'’]+")


class Parsed(NamedTuple):
    """A label, or the reason why there is none: `empty`, `ambiguous` or `not_a_label`."""

    label: str | None
    reason: str | None


def parse(reply: str, labels: Sequence[str], *, exact: bool = False) -> Parsed:
    """Accept a reply that is a label, or that names exactly one label as a whole word and negates nothing.

    A label that is itself a negation, as `no` is, counts only where it is an answer: it begins a line or follows a
    colon, and punctuation or nothing comes after it. `exact` accepts the label alone, as the replies that LlamBERT
    published were parsed. What stands between `<think>` and `</think>` is not read.
    """
    said = bare(_THOUGHT.sub("", reply))
    if not said:
        return Parsed(None, "not_a_label" if bare(reply) else "empty")
    known = {bare(label): label for label in labels}
    if said in known:
        return Parsed(known[said], None)
    spelt = _whole_words(labels)
    named = set() if exact else _named(said, spelt)
    if not named:
        return Parsed(None, "not_a_label")
    if len(named) > 1 or _negates(said, named, spelt):
        return Parsed(None, "ambiguous")
    return Parsed(known[named.pop()], None)


def bare(said: str) -> str:
    """Return what was said without white space and punctuation around it, in lower case."""
    return said.strip(_AROUND).casefold()


def _whole_words(labels: Sequence[str]) -> re.Pattern[str]:
    """Match labels with or without punctuation at their end; the longest first, so that `sci fi` is not also `sci`."""
    spellings = {*map(bare, labels), *(label.casefold() for label in labels)}
    longest_first = "|".join(map(re.escape, sorted(spellings, key=len, reverse=True)))
    return re.compile(rf"(?<![\w-])(?:{longest_first})(?![\w-])")


def _named(said: str, spelt: re.Pattern[str]) -> set[str]:
    found = {bare(label) for label in spelt.findall(said)}
    return {label for label in found if label not in _NEGATIONS or _is_answer(label, said)}


def _is_answer(label: str, said: str) -> bool:
    return re.search(f"{_BEFORE}{re.escape(label)}{_AFTER}", said) is not None


def _negates(said: str, named: set[str], spelt: re.Pattern[str]) -> bool:
    # What is part of the label, as in "no finding", does not turn it round.
    around = spelt.sub(lambda label: " " if bare(label[0]) in named else label[0], said)
    words = (word.replace("’", "'") for word in _WORD.findall(around))
    return any((word in _NEGATIONS and word not in named) or word.endswith("n't") for word in words)


def read_reply(task: LabellingTask, raw: str, tokens: int) -> Reply:
    """Return what the model said as a label of the task, or as `unparsed` with the reason."""
    parsed = parse(raw, task.label_names, exact=task.annotator.parse == "exact")
    status = AnnotationStatus.UNPARSED if parsed.label is None else AnnotationStatus.LABELLED
    return Reply(parsed.label, None, raw, status, parsed.reason, tokens)
