"""promote on a real MLflow server: the better encoder ends up champion, and the audit log has each move once."""

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from mlflow import MlflowClient

from llambert_etl.config import LabellingTask
from llambert_etl.documents import hash_text
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.gold import gold_as_of, gold_hash
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry
from llambert_etl.schemas import TABLES
from llambert_etl.settings import Settings
from llambert_etl.steps.promote import promote
from tests.encoders import LABELS, crafted, taught
from tests.tasks import make_task

EARLIER, DAY, NEXT = Partition("2026-11-09"), Partition("2026-11-10"), Partition("2026-11-11")
RIGHT = {"good": "positive", "fine": "positive", "bad": "negative", "poor": "negative"}


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {
        "right": taught(root / "right", RIGHT),
        "worse": taught(root / "worse", {**RIGHT, "fine": "negative"}),
        "collapsed": crafted(root / "collapsed", "positive"),
    }


class House:
    """A task with gold, its registry and its lake."""

    def __init__(self, settings: Settings, encoders: dict[str, Path], root: Path) -> None:
        self.task = make_task(name=f"reviews_{uuid.uuid4().hex[:8]}")
        self.encoders = encoders
        self.registry = Registry.from_settings(settings)
        self.lake = Lake(str(root / "lake"))
        self.lake.create_tables()
        self.client = MlflowClient(settings.mlflow_uri, settings.mlflow_uri)

    def gold(self, day: Partition = EARLIER) -> None:
        rows = [
            {
                "task": self.task.name,
                "partition": day,
                "id": f"{day}-{number}-{word}",
                "text": f"the film {word}",
                "text_hash": hash_text(f"the film {word}"),
                "label": label,
                "split": "test",
                "annotator": "ada",
                "run": "gold",
            }
            for number in range(5)
            for word, label in RIGHT.items()
        ]
        manifest = Manifest(step="gold import", task=self.task.name, partition=day, run="gold")
        table = pa.Table.from_pylist(rows, schema=TABLES["gold"].schema)
        self.lake.append_once("gold", self.task.name, day, table, manifest=manifest)

    def train(
        self,
        kind: str,
        day: Partition = DAY,
        labels: tuple[str, ...] = LABELS,
        measured: dict[str, float] | None = None,
    ) -> int:
        """Register an encoder; `measured` is what its training found on the gold of this moment."""
        test = gold_as_of(self.task, self.lake, day) if measured else None
        return self.registry.register(
            self.task.name,
            day,
            run_key=uuid.uuid4().hex,
            folder=self.encoders[kind],
            labels=labels,
            params={},
            metrics=measured or {"gold.macro_f1": 0.5, "gold.accuracy": 0.5},
            gold_hash="" if test is None else gold_hash(test),
            config_hash=self.task.config_hash,
        ).version

    def promote(
        self, day: Partition = DAY, run: str = "r1", task: LabellingTask | None = None, **options: Any
    ) -> dict[str, Any]:
        manifest = promote(
            task or self.task,
            day,
            run=run,
            lake=self.lake,
            registry=self.registry,
            **options,
        )
        return manifest.facts

    @property
    def champion(self) -> int | None:
        found = self.registry.champion(self.task.name)
        return None if found is None else found.version

    def moves(self) -> list[tuple[int | None, int, str]]:
        rows = self.lake.scan("promotions", self.task.name).sort("moved_at").collect()
        return rows.select("from_version", "to_version", "moved_by").rows()

    def strict(self, **gates: float) -> LabellingTask:
        return make_task(name=self.task.name, gates=gates)

    def tags(self, version: int) -> dict[str, str]:
        return self.client.get_model_version(f"llambert.{self.task.name}", str(version)).tags


@pytest.fixture
def house(registry_settings: Settings, encoders: dict[str, Path], tmp_path: Path) -> House:
    house = House(registry_settings, encoders, tmp_path)
    house.gold()
    return house


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
    assert "not more than 0.0 better" in equal["reason"]
    assert house.champion == better
    assert house.moves() == [(None, 1, "promote"), (1, better, "promote")]


def test_a_collapsed_encoder_is_refused_with_what_was_seen_and_expected(house: House) -> None:
    version = house.train("collapsed")
    with pytest.raises(DataError, match="gives 'negative' to 0.0000 of gold, expected 0.05 or more"):
        house.promote()
    assert house.champion is None
    assert house.moves() == []
    assert house.tags(version)["llambert.decision"].startswith("refused: collapsed")


def test_what_training_measured_on_the_same_gold_counts_until_gold_changes(house: House) -> None:
    shares = {f"gold.predicted_share.{label}": 0.5 for label in LABELS}
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
    with pytest.raises(DataError, match=r"gold macro F1 is 0\.7333, expected 0\.9 or more"):
        house.promote(task=house.strict(min_gold_f1=0.9))
    assert house.tags(version)["llambert.decision"].startswith("refused: gold macro F1")
    assert house.registry.decided_upto(house.task.name) is None


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


@pytest.mark.parametrize("verb", ["set_champion", "set_decided_upto", "note_decision"])
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


def test_a_move_by_hand_counts_and_is_entered_by_the_next_run(house: House) -> None:
    house.train("worse")
    house.promote()
    by_hand = house.train("collapsed", NEXT)
    house.client.set_registered_model_alias(f"llambert.{house.task.name}", "champion", str(by_hand))
    better = house.train("right", NEXT)
    assert house.promote(NEXT, "r2")["decision"] == "promoted"
    assert house.moves() == [(None, 1, "promote"), (1, by_hand, "by hand"), (by_hand, better, "promote")]


def test_a_dry_run_says_what_would_be_decided_and_writes_nothing(house: House) -> None:
    version = house.train("right")
    facts = house.promote(dry_run=True)
    assert (facts["decision"], facts["champion"], facts["candidate"]) == ("promoted", None, version)
    assert house.champion is None
    assert house.moves() == []
    assert house.registry.decided_upto(house.task.name) is None
    assert "llambert.decision" not in house.tags(version)


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


def test_a_day_without_a_candidate_keeps_the_champion(house: House) -> None:
    house.train("right")
    house.promote()
    assert house.promote(NEXT, "r2")["reason"] == f"no version was trained as of {NEXT}"
    assert house.champion == 1
