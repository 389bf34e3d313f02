"""From what a model said to a label, or to no label and the reason. Never a default."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from llambert_etl.config import LabellingTask
from llambert_etl.llm import Reply
from llambert_etl.llm.mentions import AROUND, Mention, bare, find, plain
from llambert_etl.llm.thoughts import answer_part
from llambert_etl.schemas import AnnotationStatus

# Goes into every annotation: change it with any change of what `parse` returns.
PARSER_VERSION = "4"
# Why there is no label in a reply that was read; other reasons are not the parser's.
NO_LABEL = ("empty", "cut_off", "ambiguous", "not_a_label")

# "not positive" holds one label and means another.
_NEGATIONS = frozenset(
    "no not non never neither nor none nothing nobody nowhere cannot hardly barely scarcely unlikely without".split()
)
# They turn a label round, but are no answer themselves, as "no" is.
_TURNED = re.compile(
    r"\b(?:anything but|far from|less than|instead of|opposite of|lack(?:s|ing)?|fail(?:s|ed)? to be|false"
    r"|nicht|keine?|pas|não|nunca|не)\b"
)
# A word is what people write without a thought of labels, so as a label it counts only where it is an answer.
_COMMON = frozenset("all and any for her him his how its one other our out some that the this two who you".split())
_WORD = re.compile(r"[\w']+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")

_MARKUP, _HEAD = " \t\r\n*_`~", re.compile(r"\A(?:#{1,6}|>)\s+")
# Around what is a whole answer: "Answer: **no**, it …". "No idea" and "there is no" have none.
_OPENING = r"[\s*_\"'`“‘„«「『（(\[{]*"
_LEAD = (
    r"\b(?:answer|label|class|category|topic|type|option|choice|choose|select|pick|score|rating|grade|sentiment|verdict"
    r"|result|say|assign|rate(?:\s+(?:it|this))?)(?:\s+(?:is|of|would be))?\s"
)
_BEFORE = re.compile(rf"(?:[\n:：=>]|→|\\boxed|{_LEAD}){_OPENING}\Z")
_LED = re.compile(rf"(?:[:：=]|→|{_LEAD})\s?\*\*\Z")
_AFTER = re.compile(r"[*_]*\)[*_]*\s|[*_\"'`”’»」』）)\]}$]*\s*(?:\Z|[.,;:!?(–—\n<}|。，！？；：（]|-\s)")
# "1 / 5", "1 out of 5", "**1** star" and "1 (of 5)" do not answer 1.
_MEASURED = re.compile(
    r"[*_]{0,2}[^\S\n]*(?:[/:–—-]{1,2}[^\S\n]*\d|[(]?[^\S\n]*(?:[%/]|percent\b|out of\b|of\b|stars?\b|points?\b))"
)
# How far back an answer is looked for: enough for a lead and what opens a quotation.
_NEAR = 60
# "1. The plot …" begins a list where another line does so too.
_LISTED = re.compile(r"(?:\A|\n)[^\S\n]*[*_(]*(?:\d{1,3}|[a-z])[.)][*_]*[^\S\n]+\S")
_ITEM = re.compile(r"[.)][*_]*[^\S\n]+\S")
_FRACTION = re.compile(r"\d[.,:/-]\Z")
# In characters: an answer to a labelling question has a few, and reading takes time.
_LONGEST = 20_000
_LAST_WORD = re.compile(r"\w{2,40}\Z")


class Parsed(NamedTuple):
    """A label, or the reason why there is none: `empty`, `cut_off`, `ambiguous` or `not_a_label`."""

    label: str | None
    reason: str | None


def parse(reply: str, labels: Sequence[str], *, exact: bool = False, cut: bool = False) -> Parsed:
    """Accept a reply that is a label, or that names exactly one label as a whole word and negates nothing.

    Only what follows the model's last thought is read. A label that prose is full of (`no`, `A`, `1`) counts only
    where it is an answer: it begins a line or follows a colon or a lead such as "the answer is", and punctuation or
    nothing comes after it. `exact` accepts the label alone, as the replies that LlamBERT published were parsed. A
    reply that was `cut` off must begin with its label, for what is missing may turn the rest round.
    """
    answer = answer_part(reply)
    found = _read(answer, labels, exact) if answer is not None else Parsed(None, "not_a_label")
    if cut and (found.label is None or not _Said.of(answer or "", labels).comes_first(found.label, labels)):
        return Parsed(None, "cut_off")
    # A model that has only thought has not said nothing.
    return found if answer or not bare(reply) else Parsed(None, "not_a_label")


def _read(answer: str, labels: Sequence[str], exact: bool) -> Parsed:
    said = _Said.of(answer, labels)
    if said.begins >= said.ends:
        return Parsed(None, "empty")
    whole = {mention.label for mention in said.mentions if said.is_all(mention)}
    if len(whole) == 1:
        return Parsed(whole.pop(), None)
    answers = set() if exact else {mention.label for mention in said.mentions if said.answers(mention)}
    if not answers:
        return Parsed(None, "not_a_label")
    if len({mention.label for mention in said.mentions if said.names(mention)}) > 1 or said.negates(answers):
        return Parsed(None, "ambiguous")
    return Parsed(answers.pop(), None)


@dataclass(frozen=True)
class _Said:
    """The part of a reply that is its answer, and the labels in it."""

    text: str
    begins: int  # behind white space and punctuation
    ends: int
    mentions: list[Mention]
    is_list: bool

    @classmethod
    def of(cls, answer: str, labels: Sequence[str]) -> Self:
        answer = _HEAD.sub("", answer.strip(_MARKUP))
        text = plain(answer)
        begins, ends = len(text) - len(text.lstrip(AROUND)), len(text.rstrip(AROUND))
        mentions = find(answer, labels) if len(text) <= _LONGEST else []
        return cls(text, begins, ends, mentions, len(_LISTED.findall(text)) > 1)

    def is_all(self, mention: Mention) -> bool:
        """Tell whether nothing stands around a label but white space and punctuation."""
        return mention.start <= self.begins and self.ends <= mention.end

    def names(self, mention: Mention) -> bool:
        """Tell whether a label is meant: "a" in prose is not the label A, but "A" may be, wherever it stands."""
        key = bare(mention.label)
        meant = key not in _NEGATIONS and (mention.as_spelt or not key.isalpha() or not _is_prose(mention.label))
        return meant or self._stands_alone(mention)

    def answers(self, mention: Mention) -> bool:
        return not _is_prose(mention.label) or self._stands_alone(mention)

    def negates(self, answers: set[str]) -> bool:
        # What is part of the label, as in "no finding", does not turn it round.
        around = list(self.text)
        for mention in self.mentions:
            if mention.label in answers:
                around[mention.start : mention.end] = " " * (mention.end - mention.start)
        rest = "".join(around).replace("’", "'")
        turned = any(word in _NEGATIONS or word.endswith("n't") for word in _WORD.findall(rest))
        return turned or _TURNED.search(rest) is not None

    def comes_first(self, label: str, labels: Sequence[str]) -> bool:
        """Tell whether a reply that breaks off begins with its label, and breaks off in none that may be another."""
        first = next(mention for mention in self.mentions if mention.label == label)
        if first.start > self.begins or not _AFTER.match(self.text, first.end):
            return False
        # The first of a list, perhaps, or a number whose fraction is missing.
        if _is_prose(label) and (_ITEM.match(self.text, first.end) or _FRACTION.search(self.text, first.end - 1)):
            return False
        others = [bare(other) for other in labels if other != label]
        begun = _LAST_WORD.search(self.text)
        broken = bare(label) if self.ends <= first.end else begun and begun[0]
        return not broken or not any(other.startswith(broken) for other in others)

    def _stands_alone(self, mention: Mention) -> bool:
        begin = mention.start - _NEAR
        before = self.text[begin : mention.start] if begin > 0 else f"\n{self.text[: mention.start]}"
        if self.text[mention.end - 1].isdigit() and _MEASURED.match(self.text, mention.end):
            return False
        wrapped = _LED.search(before) and self.text.startswith("**", mention.end)
        if not wrapped and not (_BEFORE.search(before) and _AFTER.match(self.text, mention.end)):
            return False
        return not (self.is_list and _ITEM.match(self.text, mention.end))


def _is_prose(label: str) -> bool:
    """Tell whether replies hold a label's letters or digits whatever they answer."""
    key = bare(label)
    short = len(key) == 1 or (len(label) == 2 and label.isascii())
    return short or key in _NEGATIONS or key in _COMMON or _NUMBER.fullmatch(key) is not None


def read_reply(task: LabellingTask, raw: str, tokens: int, *, cut: bool = False) -> Reply:
    """Return what the model said as a label of the task, or as `unparsed` with the reason."""
    parsed = parse(raw, task.label_names, exact=task.annotator.parse == "exact", cut=cut)
    status = AnnotationStatus.UNPARSED if parsed.label is None else AnnotationStatus.LABELLED
    return Reply(parsed.label, None, raw, status, parsed.reason, tokens)
