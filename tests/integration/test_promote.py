"""promote on a real MLflow server: the better encoder ends up champion, and the audit log has each move once."""

import json
import re

import pytest

from llambert_etl.errors import ConfigError, DataError
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.steps.promote import promote
from tests.given.busy import Busy
from tests.given.promotion import DAY, EARLIER, NEXT, House
from tests.given.tasks import make_task
from tests.models.encoders import LABELS


def test_the_first_candidate_becomes_champion(house: House) -> None:
    version = house.train("worse")
    facts = house.promote()
    assert (facts["decision"], facts["champion"], facts["candidate"]) == ("promoted", version, version)
    assert facts["metrics"]["champion"] is None
    assert facts["metrics"]["candidate"]["gold_accuracy"] == 0.75
    assert (house.champion, house.moves()) == (version, [(None, version, "promote")])
    assert house.registry.decided_upto(house.task.name) == DAY


def test_a_better_candidate_takes_over_and_an_equal_or_worse_one_does_not(house: House) -> None:
    house.train("worse")
    house.promote()
    better = house.train("right", NEXT)
    assert house.promote(NEXT, "r2")["decision"] == "promoted"
    house.train("right", NEXT)
    equal = house.promote(NEXT, "r3")
    house.train("worse", NEXT)
    worse = house.promote(NEXT, "r4")
    assert (equal["decision"], worse["decision"]) == ("kept", "kept")
    gain = "gain in gold macro F1: observed 0.0000 (1.0000 against 1.0000), expected > 0 (gates.min_gain)"
    assert equal["reason"] == gain
    assert house.champion == better
    assert house.moves() == [(None, 1, "promote"), (1, better, "promote")]


@pytest.mark.parametrize(
    ("floor", "said"),
    [
        (0.05, "share of gold given 'negative': observed 0.0000, expected >= 0.05 (gates.min_label_share)"),
        (0.0, "labels in use: observed 1, expected >= 2"),
    ],
)
def test_a_collapsed_encoder_is_refused_with_what_was_seen_and_expected(house: House, floor: float, said: str) -> None:
    version = house.train("collapsed")
    with pytest.raises(DataError, match=re.escape(f"version {version}: {said}")):
        house.promote(task=house.strict(min_gold_f1=0.0, min_label_share=floor))
    assert house.champion is None
    assert house.moves() == []
    assert house.tags(version)["llambert.decision"].startswith(f"refused: {said}")


def test_what_training_measured_on_the_same_gold_counts_until_gold_changes(house: House) -> None:
    shares = {f"gold.{name}.{label}": 0.5 for label in LABELS for name in ("predicted_share", "f1")}
    measured = {"gold.macro_f1": 0.97, "gold.accuracy": 0.98, **shares}
    house.train("collapsed", measured=measured)
    assert house.promote()["metrics"]["candidate"]["gold_f1_macro"] == 0.97
    house.gold(NEXT)
    house.train("worse", NEXT)
    facts = house.promote(NEXT, "r2")
    assert facts["decision"] == "promoted"
    assert facts["metrics"]["champion"]["gold_f1_macro"] < 0.5


def test_an_encoder_below_the_gate_is_refused_and_does_not_count_as_trained(house: House) -> None:
    version = house.train("worse")
    with pytest.raises(
        DataError, match=r"gold macro F1: observed 0\.7333 \(.*\), expected >= 0\.9 \(gates\.min_gold_f1\)"
    ):
        house.promote(task=house.strict(min_gold_f1=0.9))
    assert house.tags(version)["llambert.decision"].startswith("refused: gold macro F1")
    assert house.registry.decided_upto(house.task.name) is None


def test_an_encoder_below_the_gate_of_one_label_is_refused_with_that_label(house: House) -> None:
    version = house.train("worse")  # it finds every second positive: F1 0.6667, and 0.8 for the negative ones
    with pytest.raises(DataError, match=r"gold F1 of 'positive': observed 0\.6667 on 10 of 20 rows, expected >= 0\.7"):
        house.promote(task=house.strict(min_label_f1={"positive": 0.7}))
    assert house.tags(version)["llambert.decision"].startswith("refused: gold F1 of 'positive'")
    assert house.promote(task=house.strict(min_label_f1={"positive": 0.6, "negative": 0.7}))["champion"] == version


def test_what_was_measured_without_each_labels_f1_is_measured_again(house: House) -> None:
    shares = {f"gold.predicted_share.{label}": 0.5 for label in LABELS}
    house.train("worse", measured={"gold.macro_f1": 0.97, "gold.accuracy": 0.98, **shares})
    assert house.promote()["metrics"]["candidate"]["gold_accuracy"] == 0.75


def test_a_backfill_never_goes_back_to_an_older_candidate(house: House) -> None:
    newer = house.train("worse", DAY)
    house.promote()
    house.train("right", EARLIER)
    facts = house.promote(EARLIER, "r2")
    assert (facts["decision"], house.champion) == ("kept", newer)
    assert "never goes back" in facts["reason"]
    assert house.registry.decided_upto(house.task.name) == DAY


def test_a_rerun_changes_nothing_and_says_the_same(house: House) -> None:
    house.train("right")
    first, again = house.promote(), house.promote()
    assert (first["decision"], first["reason"]) == (again["decision"], again["reason"])
    assert house.promote(run="r2")["decision"] == "kept"
    assert len(house.moves()) == 1


def test_a_rollback_moves_back_and_is_entered(house: House) -> None:
    house.train("worse")
    house.promote()
    house.train("right", NEXT)
    house.promote(NEXT, "r2")
    facts = house.promote(NEXT, "cli", to=1)
    assert (facts["decision"], facts["champion"], house.champion) == ("rolled back", 1, 1)
    house.promote(NEXT, "cli", to=2)
    house.promote(NEXT, "cli", to=1)
    assert [move[1:] for move in house.moves()] == [
        (1, "promote"),
        (2, "promote"),
        (1, "rollback"),
        (2, "rollback"),
        (1, "rollback"),
    ]


def test_a_dry_run_says_what_would_be_decided_and_writes_nothing(house: House) -> None:
    version = house.train("right")
    facts = house.promote(dry_run=True)
    assert (facts["decision"], facts["champion"], facts["candidate"]) == ("promoted", None, version)
    assert house.champion is None
    assert house.moves() == []
    assert house.registry.decided_upto(house.task.name) is None
    assert "llambert.decision" not in house.tags(version)


def test_a_refused_candidate_is_kept_as_the_decision_and_who_approves_is_evidence(house: House) -> None:
    version = house.train("right")
    facts = house.promote(keep="rejected by ada: too early")
    assert (facts["decision"], facts["candidate"], house.champion) == ("kept", version, None)
    assert house.tags(version)["llambert.decision"] == "kept: rejected by ada: too early"
    assert house.registry.decided_upto(house.task.name) == DAY
    house.promote(run="r2", approved="ada: now")
    evidence = house.lake.scan("promotions", house.task.name).collect()["evidence"][0]
    assert json.loads(evidence)["approved"] == "ada: now"


def test_a_decision_is_about_the_gold_that_it_names(house: House) -> None:
    house.train("worse")
    before, busy = house.lake.version("gold"), Busy(house.lake.uri, "gold", lambda _: house.gold(DAY))
    made = promote(Run(house.task, DAY, "r1"), lake=busy, registry=house.registry)
    assert (made.versions_read, house.lake.version("gold")) == ({"gold": before}, before + 1)


def test_what_was_compared_is_promoted_whatever_was_trained_since(house: House) -> None:
    compared = house.train("right")
    house.train("right")
    house.promote(candidate=compared, approved="ada")
    assert house.champion == compared


def test_labels_in_another_order_are_a_configuration_error(house: House) -> None:
    version = house.train("right")
    flipped = make_task(name=house.task.name, labels={"negative": "It is bad.", "positive": "It is good."})
    for options in ({}, {"to": version}):
        with pytest.raises(ConfigError, match="put the task file's labels back"):
            house.promote(task=flipped, **options)


def test_without_gold_nothing_is_promoted(house: House) -> None:
    house.train("right", Partition("2026-11-01"))
    with pytest.raises(ConfigError, match="no gold test rows"):
        house.promote(Partition("2026-11-01"))


def test_a_swapped_candidate_is_refused(house: House) -> None:
    version = house.train("right")
    made = house.registry.version(house.task.name, version)
    house.client.log_artifact(made.run_id, str(house.encoders["worse"] / "model.safetensors"), "model/model")
    with pytest.raises(DataError, match="not the file that was registered"):
        house.promote()
    assert house.champion is None


def test_a_day_without_a_candidate_is_told_and_is_no_decision(house: House) -> None:
    house.train("right")
    house.promote()
    with pytest.raises(ConfigError, match=f"no version was trained as of {NEXT}; run `llambert train` for that day"):
        house.promote(NEXT, "r2")
    assert (house.champion, house.registry.decided_upto(house.task.name)) == (1, DAY)


@pytest.mark.parametrize("to", [1, 2], ids=["another version", "the version of that day"])
def test_a_promotion_as_of_a_day_far_ahead_is_repaired_by_a_rollback_as_of_today(house: House, to: int) -> None:
    far = Partition("2062-11-10")
    house.train("worst", EARLIER)
    house.promote(EARLIER)
    house.train("worse", far)
    house.promote(far, "mistyped")
    house.train("right", NEXT)
    assert "never goes back" in house.promote(NEXT, "r2")["reason"]
    for run in ("cli", "cli"):
        assert house.promote(NEXT, run, to=to, today=NEXT)["champion"] == to
    assert house.moves()[2:] == [(2, to, "rollback")]
    assert house.registry.decided_upto(house.task.name) == NEXT
    assert house.promote(NEXT, "r3")["decision"] == "promoted"
    house.train("worst", DAY)
    assert "never goes back" in house.promote(DAY, "r4")["reason"]


def test_a_rollback_as_of_an_earlier_day_takes_back_no_decision(house: House) -> None:
    house.train("worse", DAY)
    house.promote()
    house.train("right", NEXT)
    house.promote(NEXT, "r2")
    house.promote(EARLIER, "cli", to=1, today=NEXT)
    assert house.registry.decided_upto(house.task.name) == NEXT
