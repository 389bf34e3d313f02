"""The strict parser: some two hundred replies, each with what it is and what it is not."""

import pytest

from llambert_etl.llm.parsing import parse

SENTIMENT = ("positive", "negative")
YES_NO = ("yes", "no")
TOPICS = ("sports", "business", "sci", "sci fi")
FINDINGS = ("no finding", "finding", "Neopl.", "Rh-")
DEGREES = ("positive", "very positive", "negative")
ZERO_ONE = ("0", "1")
LETTERS = ("A", "B")

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
    ("analysisIt could be negative.assistantfinalpositive", SENTIMENT, "positive"),
    ("analysisIt could be negative.assistantcommentaryHm.assistantfinal**Positive**", SENTIMENT, "positive"),
    ("analysisLet me think. It is positive", SENTIMENT, "not_a_label"),
    ("Analysis: the review is positive.", SENTIMENT, "positive"),
    ("<|channel|>final<|message|>positive<|return|>", SENTIMENT, "positive"),
    ("<|channel|>analysis<|message|>No.<|end|><|start|>assistant<|channel|>final<|message|>yes", YES_NO, "yes"),
    ("<|channel|>analysis<|message|>It is positive", SENTIMENT, "not_a_label"),
    ("final<|message|>positive", SENTIMENT, "positive"),
    ("It could be negative here.</think> Mixed.", SENTIMENT, "not_a_label"),
    ("It could be negative here.</think> Positive.", SENTIMENT, "positive"),
    ("Positive.<think>Or negative", SENTIMENT, "not_a_label"),
    ("<think>a</think> Negative. <think>b</think> Positive.", SENTIMENT, "positive"),
    ("<thinking>negative?</thinking>positive", SENTIMENT, "positive"),
    ("<thought>negative?</thought>positive", SENTIMENT, "positive"),
    ("<thinking>It is positive", SENTIMENT, "not_a_label"),
    ("[THINK]negative?[/THINK]positive", SENTIMENT, "positive"),
    ("[THINK]It is positive", SENTIMENT, "not_a_label"),
    ("<seed:think>negative?</seed:think>positive", SENTIMENT, "positive"),
    ("◁think▷negative?◁/think▷positive", SENTIMENT, "positive"),
    ("<|channel>thought\nnegative?<channel|>positive<turn|>", SENTIMENT, "positive"),
    ("thought\nIt is positive", SENTIMENT, "not_a_label"),
    ("<|START_THINKING|>negative?<|END_THINKING|><|START_RESPONSE|>positive<|END_RESPONSE|>", SENTIMENT, "positive"),
    ("<|inner_prefix|>negative?<|inner_suffix|>positive", SENTIMENT, "positive"),
    ("Here is my thought process: negative? Here is my response: positive", SENTIMENT, "positive"),
    ("Here's my thought process: it is positive", SENTIMENT, "not_a_label"),
    ("<think>x</think>\n<answer>\npositive\n</answer>", SENTIMENT, "positive"),
    ("It may be negative. <answer>positive</answer>", SENTIMENT, "positive"),
    ("<answer>positive</answer> or <answer>negative</answer>", SENTIMENT, "ambiguous"),
    ("positive<|im_end|>\n<|im_start|>user\nnegative", SENTIMENT, "positive"),
    # numbers
    ("0", ZERO_ONE, "0"),
    ("1.", ZERO_ONE, "1"),
    ("**1**", ZERO_ONE, "1"),
    ("Answer: 1", ZERO_ONE, "1"),
    ("Score: 1", ZERO_ONE, "1"),
    ("The answer is 1.", ZERO_ONE, "1"),
    ("1, because it is warm", ZERO_ONE, "1"),
    ("1. The reviewer recommends it.", ZERO_ONE, "1"),
    ('{"label": 1, "confidence": 0.93}', ZERO_ONE, "1"),
    ("0.9", ZERO_ONE, "not_a_label"),
    ("Score: 0.97", ZERO_ONE, "not_a_label"),
    ("Score: 1.0", ZERO_ONE, "not_a_label"),
    (".1", ZERO_ONE, "not_a_label"),
    ("-1", ZERO_ONE, "not_a_label"),
    ("−1", ZERO_ONE, "not_a_label"),
    ("10", ZERO_ONE, "not_a_label"),
    ("1,000", ZERO_ONE, "not_a_label"),
    ("1%", ZERO_ONE, "not_a_label"),
    ("0/10", ZERO_ONE, "not_a_label"),
    ("Score: 1 / 5", ZERO_ONE, "not_a_label"),
    ("Score: 1 out of 10", ZERO_ONE, "not_a_label"),
    ("It gets **1** star", ZERO_ONE, "not_a_label"),
    ("Score: **1** star", ZERO_ONE, "not_a_label"),
    ("1st", ZERO_ONE, "not_a_label"),
    ("There is 1 good scene", ZERO_ONE, "not_a_label"),
    ("1. A fine cast\n2. A dull plot", ZERO_ONE, "not_a_label"),
    ("0 or 1", ZERO_ONE, "not_a_label"),
    ("between 0 and 1", ZERO_ONE, "not_a_label"),
    ("0, perhaps 1", ZERO_ONE, "ambiguous"),
    ("4.5 stars", ("5 stars", "4 stars"), "not_a_label"),
    ("I give it 5 stars", ("5 stars", "4 stars"), "5 stars"),
    ("version 1.0", ("1", "1.0"), "not_a_label"),
    ("Label: 1.0", ("1", "1.0"), "1.0"),
    # labels that contain others
    ("**Very** positive", DEGREES, "very positive"),
    ("very  positive", DEGREES, "very positive"),
    ("Very\npositive", DEGREES, "very positive"),
    ("It is *very* *positive*.", DEGREES, "very positive"),
    ("very\u00a0positive", DEGREES, "very positive"),
    ("Very-positive", DEGREES, "very positive"),
    ("Very positive", ("positive", "very_positive"), "very_positive"),
    ("positive", DEGREES, "positive"),
    ("Very positive, or just positive", DEGREES, "ambiguous"),
    ("very positive outlook", ("very positive", "positive outlook"), "ambiguous"),
    ("sci-fi", ("sci fi", "sci-fi"), "sci-fi"),
    ("It is _positive_.", SENTIMENT, "positive"),
    ("positive.The film", SENTIMENT, "positive"),
    # letters, and words that prose is full of
    ("A", LETTERS, "A"),
    ("a", LETTERS, "A"),
    ("A.", LETTERS, "A"),
    ("(A)", LETTERS, "A"),
    ("A)", LETTERS, "A"),
    ("'B'", LETTERS, "B"),
    ("**B**", LETTERS, "B"),
    ("Answer: A", LETTERS, "A"),
    ("Option B", LETTERS, "B"),
    ("### B", LETTERS, "B"),
    ("> B", LETTERS, "B"),
    ("It is $\\boxed{B}$", LETTERS, "B"),
    ("\\boxed{1}", ZERO_ONE, "1"),
    ("#1", ZERO_ONE, "not_a_label"),
    ("The answer is **B** because it drags", LETTERS, "B"),
    ("A) The reviewer likes it", LETTERS, "A"),
    ("This is a bad film. Answer: B", LETTERS, "B"),
    ("This is a bad film", LETTERS, "not_a_label"),
    ("A bad film", LETTERS, "not_a_label"),
    ("**A** bad film", LETTERS, "not_a_label"),
    ("It is a 'B' movie", LETTERS, "not_a_label"),
    ("A or B", LETTERS, "not_a_label"),
    ("A, B", LETTERS, "ambiguous"),
    ("It is a German text", ("it", "de"), "not_a_label"),
    ("Language: it", ("it", "de"), "it"),
    ("It is unlike any other film", ("sports", "other"), "not_a_label"),
    ("Category: other", ("sports", "other"), "other"),
    ("The answer is no.", YES_NO, "no"),
    # other scripts
    ("Ответ: да.", ("да", "нет"), "да"),
    ("дача", ("да", "нет"), "not_a_label"),
    ("सकारात्मकता", ("सकारात्मक", "नकारात्मक"), "not_a_label"),
    ("सकारात्मक।", ("सकारात्मक", "नकारात्मक"), "सकारात्मक"),
    ("评价：正面。", ("正面", "负面"), "正面"),
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
    ("It is anything but positive", SENTIMENT, "ambiguous"),
    ("far from positive", SENTIMENT, "ambiguous"),
    ("a false positive", SENTIMENT, "ambiguous"),
    ('{"positive": false}', SENTIMENT, "ambiguous"),
    ("nicht positive", SENTIMENT, "ambiguous"),
    ("The claim is false.", ("true", "false"), "false"),
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


CUT = [
    ("positive", SENTIMENT, "positive"),
    ("Positive. The reviewer", SENTIMENT, "positive"),
    ("Positive\n\nThe review is", SENTIMENT, "positive"),
    ("**Positive** - the", SENTIMENT, "positive"),
    ("<think>negative?</think>\n\nPositive, for", SENTIMENT, "positive"),
    ("It has positive moments, but overall the film is", SENTIMENT, "cut_off"),
    ("Positive moments abound, but the", SENTIMENT, "cut_off"),
    ("The review is positive", SENTIMENT, "cut_off"),
    ("Positive. No, neg", SENTIMENT, "cut_off"),
    ("Positive, but neg", SENTIMENT, "cut_off"),
    ("Positive. Or negative", SENTIMENT, "cut_off"),
    ("positive", ("positive", "positive with doubts"), "cut_off"),
    ("very", ("very", "very positive"), "cut_off"),
    ("1", ("1", "10"), "cut_off"),
    ("1. The film", ZERO_ONE, "cut_off"),
    ("0.", ZERO_ONE, "cut_off"),
    ("1", ZERO_ONE, "1"),
    ("<think>It is positive", SENTIMENT, "cut_off"),
    ("", SENTIMENT, "cut_off"),
]


@pytest.mark.parametrize(("reply", "labels", "expected"), CUT)
def test_a_reply_that_was_cut_off_is_a_label_only_if_it_begins_with_it(
    reply: str, labels: tuple[str, ...], expected: str
) -> None:
    parsed = parse(reply, labels, cut=True)
    assert (parsed.label or parsed.reason) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("**Very**  positive.", "very positive"),
        ("<think>negative?</think>positive", "positive"),
        ("<answer>positive</answer>", "positive"),
        ("It is positive", "not_a_label"),
    ],
)
def test_exactly_a_label_is_a_label_in_any_markup_and_behind_a_thought(reply: str, expected: str) -> None:
    parsed = parse(reply, DEGREES, exact=True)
    assert (parsed.label or parsed.reason) == expected


def test_a_reply_of_a_book_s_length_is_no_label_and_takes_no_time() -> None:
    assert parse("no 1. " * 100_000, (*YES_NO, *ZERO_ONE)).reason == "not_a_label"


def test_a_label_keeps_the_spelling_of_the_task() -> None:
    assert parse("GOOD film.", ("Good Film", "Bad Film")).label == "Good Film"


def test_a_label_with_characters_of_patterns_is_taken_literally() -> None:
    assert parse("it is v1.0", ("v1.0", "v1_0")).label == "v1.0"
    assert parse("it is v1x0", ("v1.0", "v2.0")).label is None
