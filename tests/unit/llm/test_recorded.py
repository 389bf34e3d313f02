"""RecordedAnnotator: a file of replies answers by text, strictly where asked, and says what is wrong with a row."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from llambert_etl.config import LabellingTask, load_task
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.llm.annotators import open_annotator
from llambert_etl.llm.parsing import parse
from llambert_etl.llm.prompts import prompt_hash
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Settings
from tests.given.tasks import make_task

ROWS = {"review": ["A gem.", "A bore.", "A cafe\u0301."], "said": ["\n Positive", "Negative.\n\nThe reviewer", "Mixed"]}
# Llama-2-70b-chat on the 25,000 IMDb train reviews: what it said, what people say, how often (LlamBERT, published).
PUBLISHED = [
    ("Positive", "positive", 11_977),
    ("Negative", "negative", 11_755),
    ("\nPositive", "negative", 705),
    ("\nNegative", "positive", 481),
    ("\n  Positive", "negative", 20),
    ("\nnegative", "positive", 14),
    ("\n Negative", "positive", 13),
    ("\n Positive", "negative", 10),
    ("\n  Negative", "positive", 10),
    ("\n positive", "negative", 3),
    ("\npositive", "negative", 3),
    ("\nNegative.\n\nThe reviewer states", "positive", 2),
    ("\nNegative.\n\nThe reviewer mentions", "positive", 1),
    ("\nNegative.\n\nThe reviewer mentions", "negative", 1),
    ("\nNegative.\n\nThe review describes the", "negative", 1),
    ("\n negetive", "negative", 1),
    ("\nNegaative", "negative", 1),
    ("\nThe movie review discusses a film that portray", "positive", 1),
    ("\n Sure! Here's my answer:\n\n", "positive", 1),
]


def recorded_task(file: str = "replies.parquet", **more: Any) -> LabellingTask:
    recorded = {"file": file, "text": "review", "reply": "said"}
    return make_task(annotator={"method": "generate", "recorded": recorded, **more})


def settings(tmp_path: Path, rows: dict[str, list[Any]] = ROWS) -> Settings:
    pl.DataFrame(rows, strict=False).write_parquet(tmp_path / "replies.parquet")
    return Settings(lake=str(tmp_path / "lake"), include=tmp_path)


def test_a_text_is_answered_with_its_reply_and_one_that_was_never_asked_has_failed(tmp_path: Path) -> None:
    annotator = open_annotator(recorded_task(), settings(tmp_path))
    found = annotator.annotate(["A café.", "A gem.", "Unknown.", "A bore."])
    assert [(reply.label, reply.status, reply.reason) for reply in found] == [
        (None, AnnotationStatus.UNPARSED, "not_a_label"),
        ("positive", AnnotationStatus.LABELLED, None),
        (None, AnnotationStatus.FAILED, "not_recorded"),
        ("negative", AnnotationStatus.LABELLED, None),
    ]
    assert [reply.raw for reply in found] == ["Mixed", "\n Positive", "", "Negative.\n\nThe reviewer"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_other_kinds_of_files_are_read_too(tmp_path: Path, suffix: str) -> None:
    here, frame = settings(tmp_path), pl.DataFrame(ROWS)
    path = tmp_path / f"replies{suffix}"
    frame.write_csv(path) if suffix == ".csv" else frame.write_ndjson(path)
    assert open_annotator(recorded_task(path.name), here).annotate(["A gem."])[0].label == "positive"


def test_replies_in_csv_are_read_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "replies.csv").write_text('review,said\n1,1\nA gem.,true\nA bore.,\nA yawn.,""\n007,0.10\n')
    annotator = open_annotator(recorded_task("replies.csv"), settings(tmp_path))
    found = annotator.annotate(["1", "A gem.", "A bore.", "A yawn.", "007"])
    assert [reply.raw for reply in found] == ["1", "true", "", "", "0.10"]
    assert {reply.status for reply in found} == {AnnotationStatus.UNPARSED}


def test_exact_parsing_wants_the_label_alone_and_is_another_question(tmp_path: Path) -> None:
    here = settings(tmp_path)
    exact, mention = recorded_task(parse="exact"), recorded_task()
    assert [reply.label for reply in open_annotator(exact, here).annotate(["A gem.", "A bore."])] == ["positive", None]
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / exact.prompt.template).write_text("{{ text }}")
    assert prompt_hash(exact, tmp_path) != prompt_hash(mention, tmp_path)


def test_the_published_replies_parse_as_they_were_published() -> None:
    """24,991 labels and 9 abstentions, 23,732 of 25,000 right: the published 94.92 %, which is cut and not rounded."""
    parsed = [
        (parse(said, ("positive", "negative"), exact=True).label, truth, count) for said, truth, count in PUBLISHED
    ]
    assert sum(count for _, _, count in parsed) == 25_000
    assert sum(count for label, _, count in parsed if label is None) == 9
    assert sum(count for label, truth, count in parsed if label == truth) == 23_732


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        ({"text": ["a"], "said": ["b"]}, ConfigError, "has no column 'review', only"),
        ({"review": ["a", None], "said": ["positive"] * 2}, DataError, "row 2: review and said must be texts"),
        ({"review": ["a", ""], "said": ["positive"] * 2}, DataError, "row 2: review and said must be texts"),
        ({"review": ["a", "a"], "said": ["positive", "negative"]}, DataError, "row 2: the same text has another reply"),
    ],
    ids=["no column", "no text", "empty text", "two replies"],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_row(
    tmp_path: Path, rows: dict[str, list[Any]], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        open_annotator(recorded_task(), settings(tmp_path, rows))


@pytest.mark.parametrize(
    ("file", "message"), [("gone.parquet", "cannot be read"), ("replies.txt", r"expected a \.parquet")]
)
def test_a_file_that_is_not_there_or_of_no_known_kind_is_a_matter_of_settings(
    tmp_path: Path, file: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        open_annotator(recorded_task(file), settings(tmp_path))


def test_recorded_replies_are_not_scored(tmp_path: Path) -> None:
    path = tmp_path / "reviews.yaml"
    fields = make_task().model_dump(mode="json")
    fields["annotator"]["recorded"] = {"file": "replies.parquet"}
    path.write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match="annotator: recorded: replies are parsed, so set method: generate"):
        load_task(path)
