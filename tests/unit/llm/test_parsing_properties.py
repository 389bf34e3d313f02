"""What holds of any reply and any set of labels: words, numbers, letters, several words, other scripts."""

import re
import string

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llambert_etl.llm.parsing import parse

WORDS = st.one_of(
    st.text(string.ascii_letters, min_size=3, max_size=6),
    st.text("ab", min_size=3, max_size=4),  # often one the beginning of another
    st.sampled_from(["positive", "negative", "very", "no", "not", "none", "other", "all", "It", "US", "de"]),
    st.sampled_from(["да", "нет", "正面", "负面", "सकारात्मक", "नकारात्मक", "إيجابي", "سلبي", "θετικός", "긍정", "ไม่ดี"]),
)
NUMBERS = st.one_of(st.integers(0, 20).map(str), st.sampled_from(["0.5", "1.5", "2024"]))
LETTERS = st.sampled_from(string.ascii_uppercase)
SEVERAL = st.lists(st.one_of(WORDS, NUMBERS), min_size=2, max_size=3).flatmap(
    lambda words: st.sampled_from([" ", "_", "-"]).map(lambda between: between.join(words))
)
LABEL = st.one_of(WORDS, NUMBERS, LETTERS, SEVERAL)
# Words of the decorations below.
LEADS = {"the", "answer", "is", "label"}


def tokens(text: str) -> list[str]:
    return re.findall(r"\d+(?:[.,:/]\d+)+|(?:[^\W_]|[\u0900-\u097f\u0e00-\u0e7f])+", text.casefold())


def within(part: list[str], whole: list[str]) -> bool:
    return any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))


@st.composite
def label_sets(draw: st.DrawFn) -> tuple[str, ...]:
    """Draw labels that a task may have together, often one the beginning of another."""
    found = draw(st.lists(LABEL, min_size=2, max_size=4))
    if draw(st.booleans()):
        found.append(f"{found[0]} {draw(WORDS)}")
    labels = list({tuple(tokens(label)): label for label in found}.values())
    assume(len(labels) > 1)
    assume(not LEADS & {token for label in labels for token in tokens(label)})
    return tuple(labels)


DECORATIONS = [
    *("{}", " {}\n", "\n\n{}", "{}.", "{}!", "'{}'", '"{}"', "“{}”", "**{}**", "*{}*", "__{}__", "`{}`", "({})"),
    *("[{}]", "- {}", "* {}", "```\n{}\n```", "Answer: {}", "**Answer:** {}", "Answer: **{}**.", "The answer is {}."),
    *('{{"label": "{}"}}', "<answer>{}</answer>", "{}</s>", "<think>{other} or {}?</think>\n\n{}", "{other}</think>{}"),
    *("analysisNot {other}.assistantfinal{}", "[THINK]{other}[/THINK]{}"),
    "<|channel|>analysis<|message|>{other}<|end|><|start|>assistant<|channel|>final<|message|>{}<|return|>",
]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(label_sets(), st.sampled_from(DECORATIONS), st.data())
def test_a_label_is_read_in_any_common_decoration(labels: tuple[str, ...], dressed: str, data: st.DataObject) -> None:
    label = data.draw(st.sampled_from(labels))
    other = data.draw(st.sampled_from([name for name in labels if name != label]))
    reply = dressed.replace("{other}", other).replace("{}", label).replace("{{", "{").replace("}}", "}")
    assert parse(reply, labels).label == label


FILLERS = st.sampled_from(["film", "a", "bad", "I", "it", "is", "us", "not", "very", "positively", "abab", "1st"])
ODD = st.sampled_from(["0.9", "10", "1.0", "100%", "0/10", "-1", "$2", "3:30", "1,5", "7 out of 10", "5 stars", "v1"])
MARKS = st.sampled_from([" ", " ", ", ", ". ", "\n", ": ", " **", "** ", "-", "/", "'", " (", ") ", "_"])


@st.composite
def replies(draw: st.DrawFn, labels: tuple[str, ...]) -> str:
    """Draw prose with some labels, parts of labels, and numbers that are no labels."""
    parts = [part for label in labels for part in (label, label[:-1], label + "s", "non-" + label) if part]
    piece = st.one_of(FILLERS, ODD, st.sampled_from(parts))
    return "".join(draw(piece) + draw(MARKS) for _ in range(draw(st.integers(1, 6))))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(label_sets(), st.data(), st.booleans(), st.booleans())
def test_a_reply_without_the_words_of_a_label_never_gives_it(
    labels: tuple[str, ...], data: st.DataObject, exact: bool, cut: bool
) -> None:
    reply = data.draw(replies(labels))
    found = parse(reply, labels, exact=exact, cut=cut)
    assert (found.label is None) != (found.reason is None)
    assert found.label is None or within(tokens(found.label), tokens(reply))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(label_sets(), st.sampled_from([" or ", ", ", " and ", "\n", ". ", "/", " vs. ", "; maybe "]), st.data())
def test_a_reply_that_names_two_labels_is_none_of_them(
    labels: tuple[str, ...], between: str, data: st.DataObject
) -> None:
    first, second = data.draw(st.permutations(labels))[:2]
    assume(not within(tokens(first), tokens(second)) and not within(tokens(second), tokens(first)))
    dressed = data.draw(st.sampled_from(["{}", "**{}**", "Answer: {}", "It is {}.", "({})"]))
    reply = dressed.replace("{}", f"{first}{between}{second}")
    assume(not any(within(tokens(third), tokens(reply)) for third in labels if third not in (first, second)))
    assert parse(reply, labels).label is None


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    label_sets(),
    st.sampled_from(["{}", "  {}\n\n", "**{}**", "*{}*", "__{}__", "`{}`", "```\n{}\n```", "\t{} "]),
    st.data(),
)
def test_white_space_and_markup_around_a_reply_change_nothing(
    labels: tuple[str, ...], around: str, data: st.DataObject
) -> None:
    reply = data.draw(replies(labels)).strip(" \n*_`'")
    assert parse(around.replace("{}", reply), labels) == parse(reply, labels)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(label_sets(), st.data())
def test_a_reply_that_was_cut_off_gives_no_label_that_the_whole_one_would_not(
    labels: tuple[str, ...], data: st.DataObject
) -> None:
    reply = data.draw(replies(labels))
    cut = parse(reply, labels, cut=True)
    assert cut.label is None or cut.label == parse(reply, labels).label
