"""Which trainings a study is made of."""

import polars as pl
import pytest

from llambert_etl.errors import DataError
from llambert_etl.studies.data import Pools
from llambert_etl.studies.design import check, size
from llambert_etl.studies.plan import StudyPlan
from tests.given.tasks import three_label_task
from tests.unit.quality.frames import digest

TASK = three_label_task()


def pools(*counts: int) -> Pools:
    """Return pools whose LLM has given each label so often, and without gold to learn from."""
    labels = [label for label, count in zip(TASK.label_names, counts, strict=True) for _ in range(count)]
    texts = [f"text {number}" for number in range(len(labels))]
    hashes = [digest(text) for text in texts]
    llm = pl.DataFrame({"text": texts, "text_hash": hashes, "label": labels, "probabilities": [None] * len(labels)})
    return Pools(gold=llm.head(0), test=llm, llm=llm, judged=llm.head(0))


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ((200, 200, 200), [100, 200, 400, 600]),
        ((140, 140, 140), [100, 200, 420]),  # 400 and 420 would be one size measured twice
        ((396, 396, 8), [400, 800]),  # of fewer rows, a seed draws too few of the rare label
    ],
)
def test_sizes_are_doubled_as_far_as_they_can_be_learnt_from(counts: tuple[int, ...], sizes: list[int]) -> None:
    points = size(TASK, StudyPlan(), pools(*counts))
    assert sorted({point.x for point in points}) == sizes
    assert {point.series for point in points} == {"llm"}
    check(TASK, points)


def test_where_no_size_can_be_learnt_from_nothing_is_trained() -> None:
    with pytest.raises(DataError, match="too few rows of every label for any size"):
        check(TASK, size(TASK, StudyPlan(), pools(500, 500, 1)))
