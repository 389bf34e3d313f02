"""The annotate step on a real lake: asked once, committed batch by batch, and every document accounted for."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pyarrow as pa
import pytest

from llambert_etl.config import LabellingTask
from llambert_etl.documents import hash_text
from llambert_etl.errors import DataError, TransientError
from llambert_etl.lake import Lake
from llambert_etl.llm import Reply
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.schemas import TABLES, AnnotationStatus, DocumentStatus
from llambert_etl.steps.annotate import annotate
from tests.tasks import REVISION, make_task, three_label_task

DAY, NEXT = Partition("2026-11-10"), Partition("2026-11-11")


class RuleAnnotator:
    """Answers by a rule of its own and remembers what it was asked. `before` runs ahead of each call."""

    def __init__(
        self,
        rule: Callable[[str], str | None],
        *,
        model: str = "tests/rule",
        revision: str = REVISION,
        batch_size: int = 4,
        before: Callable[[int], None] = lambda call: None,
    ) -> None:
        self.model, self.revision, self.batch_size = model, revision, batch_size
        self._rule, self._before = rule, before
        self.asked: list[str] = []
        self.calls = 0

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        self.calls += 1
        self._before(self.calls)
        self.asked += texts
        return [self._reply(self._rule(text)) for text in texts]

    @staticmethod
    def _reply(said: str | None) -> Reply:
        if said is None:
            return Reply(None, None, "", AnnotationStatus.FAILED, "not_finite", 3)
        if said == "Mixed":
            return Reply(None, None, said, AnnotationStatus.UNPARSED, "not_a_label", 3)
        return Reply(said, {said: 0.9, "other": 0.1}, said, AnnotationStatus.LABELLED, None, 3)


def _even(text: str) -> str:
    return "positive" if int(text.split()[1]) % 2 == 0 else "negative"


def _ingest(lake: Lake, task: LabellingTask, partition: Partition, numbers: Sequence[int]) -> None:
    texts = [f"text {number}" for number in numbers]
    rows = [
        {
            "task": task.name,
            "partition": str(partition),
            "id": f"id-{text}",
            "status": DocumentStatus.ACCEPTED.value,
            "reason": None,
            "source": "tests",
            "place": "line 1",
            "text": text,
            "text_hash": hash_text(text),
            "run": "tests",
        }
        for text in texts
    ]
    table = pa.Table.from_pylist(rows, schema=TABLES["documents"].schema)
    staged = lake.stage("documents", task.name, partition, [table], name="tests")
    manifest = Manifest(step="ingest", task=task.name, partition=partition, run="tests")
    lake.replace_partition("documents", task.name, partition, staged, commit_key=f"{numbers}", manifest=manifest)


def _annotate(lake: Lake, annotator: RuleAnnotator, **changes: object) -> Manifest:
    arguments: dict[str, object] = {"task": make_task(), "partition": DAY, "run": "r1", "prompt_hash": "p1", **changes}
    task, partition = arguments.pop("task"), arguments.pop("partition")
    return annotate(task, partition, lake=lake, annotator=annotator, **arguments)  # type: ignore[arg-type]


def _slow_clock() -> Callable[[], float]:
    """Return a clock on which every look is a minute after the last: each call of the annotator is committed."""
    minutes: Iterator[int] = count()
    return lambda: 60.0 * next(minutes)


def _rows(lake: Lake, task: str = "reviews") -> list[dict[str, object]]:
    return lake.scan("annotations", task).collect().to_dicts()


def _statuses(lake: Lake) -> Counter[object]:
    return Counter(row["status"] for row in _rows(lake))


def _killed(call: int) -> Callable[[int], None]:
    def before(now: int) -> None:
        if now == call:
            raise KeyboardInterrupt

    return before


def test_every_sampled_document_is_asked_once_and_kept(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(10))
    annotator = RuleAnnotator(_even)
    done = _annotate(lake, annotator)
    assert done.rows == {"read": 10, "labelled": 10, "unparsed": 0, "failed": 0, "reused": 0}
    assert done.facts["label_shares"] == {"positive": 0.5, "negative": 0.5}
    assert done.tokens == 30
    assert sorted(annotator.asked) == sorted(f"text {number}" for number in range(10))
    for row in _rows(lake):
        assert row["id"] == f"id-text {str(row['id']).split()[-1]}"
        assert row["text_hash"] == hash_text(str(row["id"]).removeprefix("id-"))
        assert row["label"] == row["reply"] == _even(str(row["id"]).removeprefix("id-"))
        assert row["probabilities"] == [
            {"label": row["label"], "probability": 0.9},
            {"label": "other", "probability": 0.1},
        ]
        assert (row["prompt_hash"], row["model"], row["revision"]) == ("p1", "tests/rule", REVISION)
        assert (row["parser_version"], row["run"], row["partition"]) == ("1", "r1", str(DAY))


def test_three_labels_are_counted_apart(lake: Lake) -> None:
    task = three_label_task()
    _ingest(lake, task, DAY, range(9))
    names = task.label_names
    done = _annotate(lake, RuleAnnotator(lambda text: names[int(text.split()[1]) % 3]), task=task)
    assert done.facts["label_shares"] == dict.fromkeys(names, 1 / 3)


def test_a_second_run_asks_nothing(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(10))
    first = _annotate(lake, RuleAnnotator(_even))
    again = RuleAnnotator(_even)
    done = _annotate(lake, again, run="r2")
    assert again.calls == 0
    assert done.rows == {"read": 10, "labelled": 0, "unparsed": 0, "failed": 0, "reused": 10}
    assert done.facts["label_shares"] == first.facts["label_shares"]
    assert len(_rows(lake)) == 10


def test_the_next_night_asks_only_about_new_texts(lake: Lake) -> None:
    task = make_task()
    _ingest(lake, task, DAY, range(10))
    _annotate(lake, RuleAnnotator(_even))
    _ingest(lake, task, NEXT, range(8, 13))
    night = RuleAnnotator(_even)
    done = _annotate(lake, night, partition=NEXT)
    assert sorted(night.asked) == ["text 10", "text 11", "text 12"]
    assert done.rows["read"] == 13
    assert done.rows["reused"] == 10


def test_a_larger_sample_asks_only_about_the_difference(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(30))
    small, large = RuleAnnotator(_even), RuleAnnotator(_even)
    _annotate(lake, small, sample=10)
    done = _annotate(lake, large, sample=20)
    assert len(small.asked) == len(large.asked) == 10
    assert not set(small.asked) & set(large.asked)
    assert (done.rows["read"], done.rows["reused"]) == (20, 10)


@pytest.mark.parametrize(
    ("annotator", "prompt"),
    [
        (RuleAnnotator(_even), "p2"),
        (RuleAnnotator(_even, model="tests/other"), "p1"),
        (RuleAnnotator(_even, revision="1" * 40), "p1"),
    ],
    ids=["prompt", "model", "revision"],
)
def test_another_prompt_model_or_revision_reuses_nothing_and_overwrites_nothing(
    lake: Lake, annotator: RuleAnnotator, prompt: str
) -> None:
    _ingest(lake, make_task(), DAY, range(6))
    _annotate(lake, RuleAnnotator(_even))
    before = {str(row) for row in _rows(lake)}
    done = _annotate(lake, annotator, prompt_hash=prompt)
    assert done.rows["labelled"] == 6
    after = {str(row) for row in _rows(lake)}
    assert before < after
    assert len(after) == 12


def test_unparsed_replies_are_kept_raw_and_never_asked_again(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(6))
    done = _annotate(lake, RuleAnnotator(lambda text: "Mixed"))
    assert done.rows == {"read": 6, "labelled": 0, "unparsed": 6, "failed": 0, "reused": 0}
    assert done.reasons == {"not_a_label": 6}
    assert {(row["label"], row["reply"], row["reason"]) for row in _rows(lake)} == {(None, "Mixed", "not_a_label")}
    again = RuleAnnotator(_even)
    _annotate(lake, again)
    assert again.calls == 0


def test_failed_answers_are_kept_and_asked_again_until_there_is_one(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(6))
    failed = _annotate(lake, RuleAnnotator(lambda text: None))
    _annotate(lake, RuleAnnotator(lambda text: None))
    assert failed.rows["failed"] == 6
    assert _statuses(lake) == {"failed": 6}
    done = _annotate(lake, RuleAnnotator(_even))
    assert done.rows == {"read": 6, "labelled": 6, "unparsed": 0, "failed": 0, "reused": 0}
    assert _statuses(lake) == {"failed": 6, "labelled": 6}
    assert _annotate(lake, RuleAnnotator(_even)).rows["reused"] == 6


def test_a_kill_loses_the_batch_in_flight_and_nothing_else(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(20))
    killed = RuleAnnotator(_even, before=_killed(call=4))
    with pytest.raises(KeyboardInterrupt):
        _annotate(lake, killed, clock=_slow_clock())
    assert len(_rows(lake)) == len(killed.asked) == 12
    again = RuleAnnotator(_even)
    done = _annotate(lake, again)
    assert not set(killed.asked) & set(again.asked)
    assert done.rows == {"read": 20, "labelled": 8, "unparsed": 0, "failed": 0, "reused": 12}
    assert len({row["text_hash"] for row in _rows(lake)}) == len(_rows(lake)) == 20


def test_batches_younger_than_a_minute_are_committed_together(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(20))
    before = lake.version("annotations")
    _annotate(lake, RuleAnnotator(_even), clock=lambda: 0.0)
    assert lake.version("annotations") == before + 1


def test_sigterm_commits_the_batch_in_flight_and_is_transient(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(20))

    def stop(call: int) -> None:
        if call == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TransientError, match="after 8 of 20 documents; they are committed"):
        _annotate(lake, RuleAnnotator(_even, before=stop))
    assert len(_rows(lake)) == 8
    assert signal.getsignal(signal.SIGTERM) == before
    assert _annotate(lake, RuleAnnotator(_even)).rows["reused"] == 8


def test_sigterm_in_the_last_batch_finishes_the_step(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(4))
    stop = RuleAnnotator(_even, before=lambda call: os.kill(os.getpid(), signal.SIGTERM))
    assert _annotate(lake, stop).rows["labelled"] == 4


def test_the_extra_documents_of_a_strategy_are_asked_about_beside_the_sample(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(30))
    asked = {"llm": RuleAnnotator(_even), "llm+extra": RuleAnnotator(_even)}
    for strategy, annotator in asked.items():
        task = make_task(annotator={"sample": 10, "extra": 15}, encoder={"strategy": strategy})
        _annotate(lake, annotator, task=task)
    assert {strategy: len(annotator.asked) for strategy, annotator in asked.items()} == {"llm": 10, "llm+extra": 15}


def test_a_sample_smaller_than_asked_is_said(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(3))
    done = _annotate(lake, RuleAnnotator(lambda text: "positive"), sample=100)
    assert (done.facts["sample_wanted"], done.facts["sample"], done.facts["sample_is_short"]) == (100, 3, True)
    assert done.facts["label_shares"] == {"positive": 1.0, "negative": 0.0}


def test_an_empty_corpus_asks_nothing_and_commits_nothing(lake: Lake) -> None:
    before = lake.version("annotations")
    annotator = RuleAnnotator(_even)
    done = _annotate(lake, annotator)
    assert done.rows == {"read": 0, "labelled": 0, "unparsed": 0, "failed": 0, "reused": 0}
    assert annotator.calls == 0
    assert lake.version("annotations") == before


def test_documents_after_the_partition_are_not_seen(lake: Lake) -> None:
    _ingest(lake, make_task(), NEXT, range(5))
    assert _annotate(lake, RuleAnnotator(_even), partition=DAY).rows["read"] == 0


def test_the_last_commit_carries_the_account_of_the_run(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(10))
    done = _annotate(lake, RuleAnnotator(_even), clock=_slow_clock())
    commit = next(lake.commits("annotations", "reviews"))
    assert commit.manifest is not None
    assert commit.manifest.rows == done.rows
    assert done.versions_written == {"annotations": commit.version}


def test_any_annotator_stops_when_its_tokens_are_used_up(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(10))
    with pytest.raises(DataError, match="24 of 20 tokens in run .r1.; 2 documents are left to ask"):
        _annotate(lake, RuleAnnotator(_even), task=make_task(annotator={"budget": {"tokens": 20}}))


def test_progress_is_told_after_each_batch(lake: Lake) -> None:
    _ingest(lake, make_task(), DAY, range(10))
    seen: list[tuple[int, int]] = []
    _annotate(lake, RuleAnnotator(_even), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]
