"""A study's plan: what it says by itself, and what it refuses."""

from pathlib import Path

import pytest

from llambert_etl.errors import ConfigError
from llambert_etl.studies.plan import load_plan
from tests.given.tasks import make_task


def written(include: Path, content: str) -> Path:
    path = include / "studies" / "reviews.yaml"
    path.parent.mkdir()
    path.write_text(content)
    return path


def test_a_task_without_a_plan_is_studied_by_the_defaults(tmp_path: Path) -> None:
    assert load_plan(tmp_path, make_task()).seeds == [1, 2, 3]


def test_a_plan_is_read_beside_the_task_that_it_is_named_after(tmp_path: Path) -> None:
    written(tmp_path, "seeds: [7]\nsize: {strategies: [gold], rows: [50, 100]}\n")
    plan = load_plan(tmp_path, make_task())
    assert (plan.seeds, plan.size.strategies, plan.size.rows) == ([7], ["gold"], [50, 100])


def test_seeds_of_the_command_line_replace_those_of_the_plan(tmp_path: Path) -> None:
    assert load_plan(tmp_path, make_task(), "4,5").seeds == [4, 5]


@pytest.mark.parametrize("seeds", ["1,1", "one", "", "1;2", "-1", "4294967296"])
def test_seeds_that_are_no_different_numbers_are_refused(tmp_path: Path, seeds: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        load_plan(tmp_path, make_task(), seeds)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("seeds: [1, 1]", "names one twice"),
        ("seeds: []", "seeds"),
        ("seeds: [1, -1]", "seeds.1"),
        ("strategies: {compare: [llm, gold, llm]}", "strategies.compare: ['llm', 'gold', 'llm'] names one twice"),
        ("mislabelling: {shares: [0, 0.1, 0.0]}", "mislabelling.shares: [0.0, 0.1, 0.0] names one twice"),
        ("prompts: {shots: [2, 2]}", "prompts.shots: [2, 2] names one twice"),
        ("sizes: {}", "unknown field; did you mean 'size'?"),
        ("mislabelling: {shares: [1.5]}", "mislabelling.shares.0"),
        ("mislabelling: {shares: [0.1, 0.2]}", "mislabelling.shares: add 0.0"),
        ("strategies: {compare: [silver]}", "strategies.compare.0"),
        ("prompts: {templates: [../secret.j2]}", "prompts.templates.0"),
        ("- seeds", "must be a mapping"),
    ],
)
def test_a_wrong_plan_is_refused_with_its_file_and_field(tmp_path: Path, content: str, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ConfigError) as refused:
        load_plan(tmp_path, make_task())
    assert str(path) in str(refused.value)
    assert said in str(refused.value)
