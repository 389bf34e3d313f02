"""Facts are written and read by the same models; those of other versions stay readable."""

import pytest

from llambert_etl.errors import DataError
from llambert_etl.facts import Agreed, Decided, Due, Ingested, Late, Planned, Published, Trained
from llambert_etl.manifest import Facts, Manifest
from llambert_etl.partition import Partition

MANIFEST = Manifest(step="plan", task="t", partition=Partition("2026-11-10"), run="r")


def test_what_was_set_is_written_and_nothing_else() -> None:
    told = MANIFEST.telling(Planned(shards=0, skip=None))
    assert told.facts == {"shards": 0, "skip": None}
    assert Planned.of(told) == Planned(shards=0)
    assert MANIFEST.telling(Trained(model_version=3)).telling(Due(due=True)).facts == {"model_version": 3, "due": True}


def test_facts_of_another_version_are_passed_over() -> None:
    assert Planned.of({"step": "plan", "facts": {"shards": 2, "weather": "fine"}}).shards == 2


@pytest.mark.parametrize("kind", [Agreed, Decided, Due, Late, Planned, Trained])
@pytest.mark.parametrize("told", [None, {}, {"step": "x"}, {"step": "x", "facts": {}}, MANIFEST])
def test_what_a_later_step_needs_and_is_not_told_is_an_error(kind: type[Facts], told: object) -> None:
    with pytest.raises(DataError, match="does not tell .*required.*run that step again"):
        kind.of(told)


@pytest.mark.parametrize("kind", [Ingested, Published])
def test_an_account_without_facts_is_readable(kind: type[Facts]) -> None:
    assert kind.of(MANIFEST) == kind()
