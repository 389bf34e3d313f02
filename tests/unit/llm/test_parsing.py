"""The strict parser: sixty replies, each with what it is and what it is not."""

import pytest

from llambert_etl.llm.parsing import parse

SENTIMENT = ("positive", "negative")
YES_NO = ("yes", "no")
TOPICS = ("sports", "business", "sci", "sci fi")
FINDINGS = ("no finding", "finding", "Neopl.", "Rh-")

REPLIES = [
    # the label, dressed up
    ("positive", SENTIMENT, "positive"),
    ("negative", SENTIMENT, "negative"),
    ("Positive", SENTIMENT, "positive"),
    ("NEGATIVE", SENTIMENT, "negative"),
    (" positive\n", SENTIMENT, "positive"),
    ("positive.", SENTIMENT, "positive"),
    ("positive!", SENTIMENT, "positive"),
    ("'negative'", SENTIMENT, "negative"),
    ('"Positive"', SENTIMENT, "positive"),
    ("“negative”", SENTIMENT, "negative"),
    ("**Negative**", SENTIMENT, "negative"),
    ("`positive`", SENTIMENT, "positive"),
    ("[positive]", SENTIMENT, "positive"),
    ("positive,", SENTIMENT, "positive"),
    ("- negative", SENTIMENT, "negative"),
    ("yes", YES_NO, "yes"),
    ("No.", YES_NO, "no"),
    ("YES!!!", YES_NO, "yes"),
    ("sci fi", TOPICS, "sci fi"),
    ("Sci.", TOPICS, "sci"),
    # one label among other words
    ("The review is positive.", SENTIMENT, "positive"),
    ("Negative.\n\nThe reviewer mentions", SENTIMENT, "negative"),
    ("Sentiment: negative", SENTIMENT, "negative"),
    ("I would say: Positive", SENTIMENT, "positive"),
    ("positive positive positive", SENTIMENT, "positive"),
    ("Overall, negative (mostly).", SENTIMENT, "negative"),
    ("No, the term is vascular", YES_NO, "no"),
    ("Yes, it is.", YES_NO, "yes"),
    ("**No**, the term is vascular", YES_NO, "no"),
    ("No - it is a vessel", YES_NO, "no"),
    ("No\n\nThe term is vascular", YES_NO, "no"),
    ("Answer: 'No'. It is a vessel", YES_NO, "no"),
    ("The term is vascular.\nNo", YES_NO, "no"),
    ("None: it is a recipe", ("none", "sports"), "none"),
    ("This is sci fi", TOPICS, "sci fi"),
    ("Label = business", TOPICS, "business"),
    # a label that ends in punctuation, or that holds a negation
    ("Neopl.", FINDINGS, "Neopl."),
    ("neopl", FINDINGS, "Neopl."),
    ("It is neopl., I think", FINDINGS, "Neopl."),
    ("It is Rh- in my view", FINDINGS, "Rh-"),
    ("Answer: no finding", FINDINGS, "no finding"),
    ("There is no finding here", FINDINGS, "no finding"),
    ("There is not a finding", FINDINGS, "ambiguous"),
    ("No finding? Not quite", FINDINGS, "ambiguous"),
    ("No finding, or a finding", FINDINGS, "ambiguous"),
    # what was thought before it
    ("<think>\n\n</think>\n\npositive", SENTIMENT, "positive"),
    ("<think>Is it positive or not?</think> Negative.", SENTIMENT, "negative"),
    ("<think>\nOkay, the user asks whether the review is positive", SENTIMENT, "not_a_label"),
    ("<think>It is positive.</think>", SENTIMENT, "not_a_label"),
    # nothing
    ("", SENTIMENT, "empty"),
    ("   \n\t ", SENTIMENT, "empty"),
    ("...", SENTIMENT, "empty"),
    ("''", SENTIMENT, "empty"),
    ("!?", YES_NO, "empty"),
    # more than one, or turned round
    ("positive or negative", SENTIMENT, "ambiguous"),
    ("both positive and negative", SENTIMENT, "ambiguous"),
    ("Negative, then positive", SENTIMENT, "ambiguous"),
    ("not positive", SENTIMENT, "ambiguous"),
    ("It isn't negative", SENTIMENT, "ambiguous"),
    ("It isn’t negative", SENTIMENT, "ambiguous"),
    ("neither positive", SENTIMENT, "ambiguous"),
    ("No, it is positive", SENTIMENT, "ambiguous"),
    ("hardly positive", SENTIMENT, "ambiguous"),
    ("There is nothing positive about it", SENTIMENT, "ambiguous"),
    ("It is unlikely to be positive", SENTIMENT, "ambiguous"),
    ("yes and no", YES_NO, "ambiguous"),
    ("Yes, no doubt", YES_NO, "ambiguous"),
    ("Yes. No.", YES_NO, "ambiguous"),
    ("sports or business?", TOPICS, "ambiguous"),
    # something else
    ("Mixed", SENTIMENT, "not_a_label"),
    ("neutral", SENTIMENT, "not_a_label"),
    ("Negaative", SENTIMENT, "not_a_label"),
    ("positiv", SENTIMENT, "not_a_label"),
    ("positively", SENTIMENT, "not_a_label"),
    ("non-positive", SENTIMENT, "not_a_label"),
    ("seropositive", SENTIMENT, "not_a_label"),
    ("yes", SENTIMENT, "not_a_label"),
    ("positive", YES_NO, "not_a_label"),
    ("nope", YES_NO, "not_a_label"),
    ("I cannot answer that", SENTIMENT, "not_a_label"),
    ("No idea.", YES_NO, "not_a_label"),
    ("**No** idea", YES_NO, "not_a_label"),
    ("I have no answer", YES_NO, "not_a_label"),
    ("There is no information about this term", YES_NO, "not_a_label"),
    ("There is no doubt, it is related", YES_NO, "not_a_label"),
    ("I'm sorry, but there is no", YES_NO, "not_a_label"),
    ("None of them", ("none", "sports"), "not_a_label"),
    ("1", SENTIMENT, "not_a_label"),
    ("позитивный", SENTIMENT, "not_a_label"),
    ("<script>alert(1)</script>", SENTIMENT, "not_a_label"),
    ("'; DROP TABLE annotations; --", SENTIMENT, "not_a_label"),
]


@pytest.mark.parametrize(("reply", "labels", "expected"), REPLIES)
def test_a_reply_is_a_label_or_a_reason(reply: str, labels: tuple[str, ...], expected: str) -> None:
    parsed = parse(reply, labels)
    assert (parsed.label or parsed.reason) == expected
    assert (parsed.label is None) != (parsed.reason is None)


def test_the_table_has_sixty_replies_or_more() -> None:
    assert len(REPLIES) >= 60


def test_a_label_keeps_the_spelling_of_the_task() -> None:
    assert parse("GOOD film.", ("Good Film", "Bad Film")).label == "Good Film"


def test_a_label_with_characters_of_patterns_is_taken_literally() -> None:
    assert parse("it is v1.0", ("v1.0", "v1_0")).label == "v1.0"
    assert parse("it is v1x0", ("v1.0", "v2.0")).label is None
