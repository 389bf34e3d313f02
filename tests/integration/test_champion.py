"""Alias and log of the champion on a real MLflow server: crashes, rivals and people leave them in step."""

from collections.abc import Callable
from typing import Any

import pytest

from llambert_etl.champion.moves import Champion
from llambert_etl.errors import TransientError
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry
from llambert_etl.run import Run
from tests.given.labelling import drop
from tests.given.promotion import DAY, LATER, NEXT, House


def test_a_move_by_hand_counts_and_is_entered_by_the_next_run(house: House) -> None:
    house.train("worse")
    house.promote()
    by_hand = house.train("collapsed", NEXT)
    house.client.set_registered_model_alias(f"llambert.{house.task.name}", "champion", str(by_hand))
    better = house.train("right", NEXT)
    assert house.promote(NEXT, "r2")["decision"] == "promoted"
    assert house.moves() == [(None, 1, "promote"), (1, by_hand, "by hand"), (by_hand, better, "promote")]


def test_days_are_brought_back_by_a_promotion_and_by_a_move_by_hand_that_is_found(house: House) -> None:
    drop(house.lake, house.task, ["the film good"], day=NEXT)
    house.train("right")
    assert house.promote()["bring_back"] == [NEXT]
    by_hand = house.train("worse", NEXT)
    house.client.set_registered_model_alias(f"llambert.{house.task.name}", "champion", str(by_hand))
    found = house.promote(NEXT, "r2")
    assert (found["decision"], found["bring_back"]) == ("kept", [NEXT])
    assert house.promote(NEXT, "r2")["bring_back"] == [NEXT]
    assert house.promote(NEXT, "r3")["bring_back"] == []


def test_a_promotion_in_the_making_is_no_move_by_hand(house: House) -> None:
    house.train("right")
    house.registry = _Crashing(house.registry, "set_champion")  # type: ignore[assignment]
    with pytest.raises(TransientError, match="crash"):
        house.promote()
    Champion(Run(house.task, DAY, "label"), house.lake, house.registry, dry_run=False).notice()
    assert (house.champion, house.moves()) == (1, [])


@pytest.mark.parametrize("verb", ["announce_move", "set_champion", "set_decided_upto", "note_decision"])
def test_a_rerun_after_a_crash_finishes_the_same_promotion(house: House, verb: str) -> None:
    house.train("worse")
    house.promote()
    better = house.train("right", NEXT)
    whole = house.registry
    house.registry = _Crashing(whole, verb)  # type: ignore[assignment]
    with pytest.raises(TransientError, match="crash"):
        house.promote(NEXT, "r2")
    house.registry = whole
    assert house.promote(NEXT, "r2")["decision"] == "promoted"
    assert (house.champion, house.moves()) == (better, [(None, 1, "promote"), (1, better, "promote")])
    assert house.registry.decided_upto(house.task.name) == NEXT


class _Crashing:
    """A registry whose process dies right after one request went through."""

    def __init__(self, whole: Registry, verb: str) -> None:
        self._whole, self._verb = whole, verb

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._whole, name)
        if name != self._verb:
            return real

        def die(*arguments: object) -> None:
            real(*arguments)
            raise TransientError("crash")

        return die


class _Interrupted:
    """A registry that lets something else happen right before it sets the alias."""

    def __init__(self, whole: Registry, meanwhile: Callable[[], object]) -> None:
        self._whole, self._meanwhile = whole, meanwhile

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def set_champion(self, task: str, version: int | None) -> None:
        self._meanwhile()
        self._whole.set_champion(task, version)


def promote_late(house: House, day: Partition, meanwhile: Callable[[], object]) -> None:
    """Promote a day's candidate, whose alias is set only after something else has happened."""
    whole = house.registry

    def happen() -> None:
        house.registry = whole
        meanwhile()

    house.registry = _Interrupted(whole, happen)  # type: ignore[assignment]
    with pytest.raises(TransientError, match="another promotion was entered meanwhile"):
        house.promote(day, f"run of {day}")


@pytest.fixture
def rivals(house: House) -> House:
    """The worst is champion, and two days have a better candidate each."""
    house.train("worst")
    house.promote()
    house.train("worse", NEXT)
    house.train("right", LATER)
    return house


def test_a_worse_candidate_that_sets_the_alias_last_is_taken_back(rivals: House) -> None:
    promote_late(rivals, NEXT, lambda: rivals.promote(LATER, "r3"))
    assert (rivals.champion, rivals.moves()[1:]) == (2, [(1, 3, "promote")])
    assert rivals.promote(NEXT, "r2")["decision"] == "kept"
    assert (rivals.champion, rivals.moves()[1:]) == (3, [(1, 3, "promote")])
    # It is remembered no longer: a person may choose it all the same.
    rivals.client.set_registered_model_alias(f"llambert.{rivals.task.name}", "champion", "2")
    assert rivals.promote(NEXT, "r2")["decision"] == "kept"
    assert (rivals.champion, rivals.moves()[-1]) == (2, (3, 2, "by hand"))


def test_the_best_candidate_wins_though_another_was_entered_first(rivals: House) -> None:
    promote_late(rivals, LATER, lambda: rivals.promote(NEXT, "r2"))
    assert rivals.promote(LATER, "r3")["decision"] == "promoted"
    assert (rivals.champion, rivals.moves()[1:]) == (3, [(1, 2, "promote"), (2, 3, "promote")])


def test_a_promotion_that_nobody_runs_again_is_entered_by_the_next(rivals: House) -> None:
    whole = rivals.registry
    rivals.registry = _Crashing(whole, "set_champion")  # type: ignore[assignment]
    with pytest.raises(TransientError, match="crash"):
        rivals.promote(NEXT, "r2")
    rivals.registry = whole
    rivals.promote(LATER, "r3")
    assert (rivals.champion, rivals.moves()[1:]) == (3, [(1, 2, "promote"), (2, 3, "promote")])


def test_a_candidate_that_a_person_chose_before_its_promotion_is_entered_as_theirs(house: House) -> None:
    house.train("worse")
    house.promote()
    chosen = house.train("right", NEXT)
    house.client.set_registered_model_alias(f"llambert.{house.task.name}", "champion", str(chosen))
    assert house.promote(NEXT, "r2")["decision"] == "kept"
    assert (house.champion, house.moves()[1:]) == (chosen, [(1, chosen, "by hand")])
