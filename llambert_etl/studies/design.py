"""Which trainings each kind of study is made of."""

import logging
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from llambert_etl.config import LabellingTask, Recipe, Strategy
from llambert_etl.corpus.sampling import draw
from llambert_etl.errors import DataError
from llambert_etl.studies.curve import APART
from llambert_etl.studies.data import Pools
from llambert_etl.studies.noise import annotator_errors, flip, uniform_errors
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.points import Point

logger = logging.getLogger(__name__)

_SMALLEST = 100
_NEEDED = 2  # rows of a label


def strategies(task: LabellingTask, plan: StudyPlan, pools: Pools) -> list[Point]:
    """Lay gold, LLM labels, more LLM labels, and one after the other side by side, as the paper's tables do."""
    compared = plan.strategies.compare or _possible(task, pools)
    if "soft" in plan.strategies.targets and set(compared) != {"gold"}:
        _check_soft(task, pools.llm)
    points = []
    for seed in plan.seeds:
        gold = draw(pools.gold, plan.gold_rows or pools.gold.height, seed)
        sample = draw(pools.llm, task.annotator.sample, seed)
        extended = draw(pools.llm, task.annotator.sample + task.annotator.extra, seed)
        stages: Mapping[Strategy, tuple[pl.DataFrame, ...]] = {
            "gold": (gold,),
            "llm": (sample,),
            "llm+extra": (extended,),
            "combined": (extended, gold),
        }
        for strategy in compared:
            for targets in plan.strategies.targets if strategy != "gold" else ["hard"]:
                soft = targets == "soft"
                series = f"{strategy}, soft labels" if soft else strategy
                recipe = _recipe(task, seed, soft_labels=soft)
                points.append(Point(series, None, recipe, _taught(stages[strategy], soft=soft)))
    return points


def size(task: LabellingTask, plan: StudyPlan, pools: Pools) -> list[Point]:
    """Learn from more and more rows of each kind; a larger draw holds every smaller one of its seed."""
    chosen: Mapping[str, pl.DataFrame] = {"gold": pools.gold, "llm": pools.llm}
    return [
        Point(name, float(rows), _recipe(task, seed), _taught((draw(chosen[name], rows, seed),)))
        for name in plan.size.strategies
        for rows in _sizes(name, task, plan, chosen[name])
        for seed in plan.seeds
    ]


def mislabelling(task: LabellingTask, plan: StudyPlan, pools: Pools) -> list[Point]:
    """Learn from gold whose labels were made wrong, with a body that learns too and with one that is frozen."""
    varied, points = plan.mislabelling, []
    for seed in plan.seeds:
        gold = draw(pools.gold, plan.gold_rows or pools.gold.height, seed)
        labels = gold["label"].to_list()
        for kind in varied.flips:
            errors = uniform_errors(labels, task.label_names) if kind == "uniform" else annotator_errors(pools.judged)
            for share in varied.shares:
                wrong = gold.with_columns(label=pl.Series(flip(labels, share, errors, seed)))
                for body in varied.bodies:
                    series = f"{kind.replace('_', ' ')} errors, body {body}"
                    points.append(Point(series, share, _bodied(task, plan, seed, body), (wrong,)))
    return points


DESIGNS: Mapping[str, Callable[[LabellingTask, StudyPlan, Pools], list[Point]]] = {
    "strategies": strategies,
    "size": size,
    "mislabelling": mislabelling,
}


def check(task: LabellingTask, points: list[Point]) -> None:
    """Raise DataError, before anything is trained, where a point could not be: each label needs two rows to learn."""
    if not points:
        raise DataError(f"study of {task.name}: too few rows of every label for any size; name others in size.rows")
    for point in points:
        for stage in point.stages:
            counts = _counts(task, stage)
            if min(counts.values()) < _NEEDED:
                where = point.series if point.x is None else f"{point.series} at {point.x:g}"
                raise DataError(
                    f"study of {task.name}: {where} (seed {point.recipe.seed}) needs two rows or more of every label "
                    f"to learn from, found {counts}; import more gold, annotate more, or leave it out of the plan"
                )


def _counts(task: LabellingTask, rows: pl.DataFrame) -> dict[str, int]:
    return dict.fromkeys(task.labels, 0) | dict(rows["label"].value_counts().iter_rows())


def _possible(task: LabellingTask, pools: Pools) -> list[Strategy]:
    gold, llm = not pools.gold.is_empty(), not pools.llm.is_empty()
    possible: dict[Strategy, bool] = {
        "gold": gold,
        "llm": llm,
        "llm+extra": llm and task.annotator.extra > 0,
        "combined": gold and llm,
    }
    if not (found := [strategy for strategy, has_rows in possible.items() if has_rows]):
        raise DataError(
            f"study of {task.name}: neither gold train rows nor LLM labels are there to learn from; run `llambert gold "
            "import` or `llambert annotate`"
        )
    return found


def _check_soft(task: LabellingTask, llm: pl.DataFrame) -> None:
    """Raise DataError where soft targets would be the hard ones under another name."""
    if llm.height and llm["probabilities"].null_count() == llm.height:
        raise DataError(
            f"study of {task.name}: `soft` targets are the LLM's probabilities, and it gave none with its {llm.height} "
            "labels; ask it with `method: score`, or take `soft` out of strategies.targets"
        )


def _sizes(name: str, task: LabellingTask, plan: StudyPlan, pool: pl.DataFrame) -> list[int]:
    """Return the plan's sizes that there are rows for, or where it names none, those that can be learnt from."""
    available = pool.height
    if plan.size.rows:
        sizes = sorted(rows for rows in plan.size.rows if rows <= available)
        left_out = sorted(set(plan.size.rows) - set(sizes))
    else:
        doubled = [_SMALLEST * 2**step for step in range(32)]
        all_sizes = [*(rows for rows in doubled if rows * APART <= available), available]
        sizes = [rows for rows in all_sizes if _can_be_learnt(task, pool, rows, plan.seeds)]
        left_out = sorted(set(all_sizes) - set(sizes))
    if left_out:
        logger.warning("study of size: %s %s left out: %s rows of %s", name, left_out, available, _counts(task, pool))
    return sizes


def _can_be_learnt(task: LabellingTask, pool: pl.DataFrame, rows: int, seeds: Sequence[int]) -> bool:
    """Tell whether every seed draws enough rows of each label, be it ever so rare."""
    return all(min(_counts(task, draw(pool, rows, seed)).values()) >= _NEEDED for seed in seeds)


def _recipe(task: LabellingTask, seed: int, **changes: object) -> Recipe:
    return task.encoder.model_copy(update={"seed": seed, "soft_labels": False, **changes})


def _bodied(task: LabellingTask, plan: StudyPlan, seed: int, body: str) -> Recipe:
    if body == "trained":
        return _recipe(task, seed)
    return _recipe(task, seed, frozen=True, learning_rate=plan.mislabelling.frozen_learning_rate)


def _taught(stages: tuple[pl.DataFrame, ...], *, soft: bool = False) -> tuple[pl.DataFrame, ...]:
    """Leave the LLM's probabilities out where its labels are learnt."""
    return stages if soft else tuple(stage.drop("probabilities", strict=False) for stage in stages)
