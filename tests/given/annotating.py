"""A corpus to annotate, and an annotator that answers by a rule."""

from collections.abc import Callable, Sequence

from llambert_etl.config import LabellingTask
from llambert_etl.corpus.documents import hash_text
from llambert_etl.lake import Lake
from llambert_etl.llm import Reply
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import AnnotationStatus, DocumentStatus
from llambert_etl.steps.annotate import annotate
from tests.given.tasks import REVISION, make_task
from tests.unit.quality import frames

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


def even(text: str) -> str:
    return "positive" if int(text.split()[1]) % 2 == 0 else "negative"


def ingest(lake: Lake, task: LabellingTask, partition: Partition, numbers: Sequence[int]) -> None:
    rows = [
        {
            "task": task.name,
            "id": f"id-text {number}",
            "status": DocumentStatus.ACCEPTED.value,
            "text": f"text {number}",
            "text_hash": hash_text(f"text {number}"),
        }
        for number in numbers
    ]
    frames.put(lake, "documents", rows, task, partition)


def run_annotate(lake: Lake, annotator: RuleAnnotator, **changes: object) -> Manifest:
    arguments: dict[str, object] = {"task": make_task(), "partition": DAY, "run": "r1", "prompt_hash": "p1", **changes}
    run = Run(*(arguments.pop(name) for name in ("task", "partition", "run")))  # type: ignore[arg-type]
    return annotate(run, lake=lake, annotator=annotator, **arguments)  # type: ignore[arg-type]


def annotations(lake: Lake) -> list[dict[str, object]]:
    return lake.scan("annotations", "reviews").collect().to_dicts()
