"""A champion that the log names and a real MLflow has no more: everybody is told, and nobody is labelled by it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llambert_etl.cli import screens
from llambert_etl.errors import ConfigError
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.doctor import Finding, doctor
from llambert_etl.steps.plan import plan
from llambert_etl.steps.predict import predict
from llambert_etl.steps.status import status
from tests.given.labelling import drop
from tests.given.promotion import DAY, EARLIER, NEXT, House

Deed = Callable[[House, str], object]

DEEDS: dict[str, tuple[Deed, str]] = {
    "alias removed": (
        lambda house, model: house.client.delete_registered_model_alias(model, "champion"),
        "the alias of version 1 was removed",
    ),
    "version deleted": (lambda house, model: house.client.delete_model_version(model, "1"), "version 1 was deleted"),
    "version archived": (
        lambda house, model: house.client.transition_model_version_stage(model, "1", "Archived"),
        "version 1 is archived",
    ),
    "model renamed": (
        lambda house, model: house.client.rename_registered_model(model, f"{model}.old"),
        "was deleted or renamed",
    ),
    "model deleted": (lambda house, model: house.client.delete_registered_model(model), "was deleted or renamed"),
}
ALL = pytest.mark.parametrize(("deed", "said"), DEEDS.values(), ids=DEEDS)
# What is no version any more, so that a candidate has nothing to beat.
LOST = ("version deleted", "model renamed", "model deleted")
GONE = pytest.mark.parametrize("deed", [DEEDS[name][0] for name in LOST], ids=LOST)


@pytest.fixture
def crowned(house: House) -> House:
    """Version 1 was promoted, and the day has a document."""
    drop(house.lake, house.task, ["the film good"])
    house.train("right")
    house.promote()
    return house


def planned(house: House, settings: Settings, **options: int) -> dict[str, object]:
    made = plan(Run(house.task, DAY, "night"), lake=house.lake, registry=house.registry, settings=settings, **options)
    return dict(made.facts)


def looked(house: House, settings: Settings, root: Path) -> Finding:
    """Return what the doctor says of the task's champion."""
    (root / "tasks").mkdir(parents=True)
    (root / "tasks" / f"{house.task.name}.yaml").write_text(house.task.model_dump_json())
    here = settings.model_copy(update={"include": root, "lake": house.lake.uri})
    (found,) = [each for each in doctor(here) if each.what.startswith("champion")]
    return found


@ALL
def test_nothing_is_labelled_and_everybody_is_told(
    crowned: House,
    registry_settings: Settings,
    deed: Deed,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = looked(crowned, registry_settings, tmp_path / "before")
    deed(crowned, f"llambert.{crowned.task.name}")
    remedy = f"promote --task {crowned.task.name} --partition DAY --to VERSION"
    with pytest.raises(ConfigError, match=f"{said}; nothing is labelled until `llambert {remedy}"):
        planned(crowned, registry_settings)
    with pytest.raises(ConfigError, match=said):
        predict(crowned.task, ["fine"], lake=crowned.lake, registry=crowned.registry)
    after = looked(crowned, registry_settings, tmp_path / "after")
    assert ((before.ok, before.seen), after.ok) == ((True, f"llambert.{crowned.task.name} version 1"), False)
    assert said in after.seen
    monkeypatch.setattr(sys, "__stdout__", sys.stdout)
    screens.show_status(status(crowned.task, lake=crowned.lake, registry=crowned.registry, today=NEXT))
    assert f"{said}; nothing is labelled" in " ".join(capsys.readouterr().out.split())
    assert crowned.moves() == [(None, 1, "promote")], "to look changes nothing"


@GONE
def test_the_next_candidate_is_measured_alone_and_entered_after_the_one_that_is_gone(
    crowned: House, registry_settings: Settings, deed: Deed
) -> None:
    deed(crowned, f"llambert.{crowned.task.name}")
    candidate = crowned.train("worse", NEXT)
    assert candidate > 1, "no other version has ever had this number"
    facts = crowned.promote(NEXT, "r2")
    assert (facts["decision"], facts["metrics"]["champion"]) == ("promoted", None)
    assert facts["reason"].startswith("version 1 is there no more, gold macro F1 0.7333")
    assert crowned.moves() == [(None, 1, "promote"), (1, candidate, "promote")]
    assert planned(crowned, registry_settings)["model_version"] == candidate


def test_a_candidate_has_to_beat_the_version_whose_alias_was_removed(crowned: House) -> None:
    DEEDS["alias removed"][0](crowned, f"llambert.{crowned.task.name}")
    again = crowned.promote(run="r2")
    assert (again["decision"], again["champion"]) == ("kept", None)
    assert again["reason"] == "the alias of version 1 was removed, and only --to 1 puts it back"
    crowned.train("worse", NEXT)
    assert crowned.promote(NEXT, "r3")["decision"] == "kept"
    assert (crowned.champion, crowned.moves()) == (None, [(None, 1, "promote")])
    facts = crowned.promote(NEXT, "r4", to=2)
    assert facts["reason"] == "asked for version 2; before it the alias of version 1 was removed"
    assert crowned.moves()[1:] == [(1, 2, "rollback")]


def test_an_archived_champion_is_beaten_as_any_other_and_never_moved_to(house: House) -> None:
    house.train("worse")
    house.promote()
    better = house.train("right", NEXT)
    model = f"llambert.{house.task.name}"
    house.client.transition_model_version_stage(model, "1", "Archived")
    assert house.promote(NEXT, "r2")["reason"].endswith("; before it version 1 is archived")
    for options in ({"to": 1}, {"candidate": 1}):
        with pytest.raises(ConfigError, match=f"{model}: version 1 is archived; mend that in MLflow"):
            house.promote(NEXT, "r3", **options)
    assert house.champion == better


@pytest.fixture
def half_promoted(crowned: House) -> House:
    """The champion was deleted, and the promotion of the next one was cut off after it had set the alias."""
    crowned.client.delete_model_version(f"llambert.{crowned.task.name}", "1")
    candidate = crowned.registry.version(crowned.task.name, crowned.train("right", NEXT))
    crowned.registry.announce_move(candidate, 2)
    crowned.registry.set_champion(crowned.task.name, candidate.version)
    return crowned


def test_a_promotion_after_the_champion_was_deleted_is_finished_by_its_rerun(half_promoted: House) -> None:
    assert half_promoted.promote(NEXT, "r2")["reason"].startswith("version 1 is there no more")
    assert half_promoted.moves()[1:] == [(1, half_promoted.champion, "promote")]


def test_a_promotion_after_the_champion_was_deleted_is_taken_back_to_nobody(half_promoted: House) -> None:
    half_promoted.promote(NEXT, "r2", keep="rejected by ada")
    assert (half_promoted.champion, half_promoted.moves()) == (None, [(None, 1, "promote")])


def test_an_alias_on_a_version_of_other_labels_labels_nothing_and_is_not_entered(
    crowned: House, registry_settings: Settings, tmp_path: Path
) -> None:
    crowned.train("right", NEXT, labels=("negative", "positive"))
    crowned.registry.set_champion(crowned.task.name, 2)
    with pytest.raises(ConfigError, match="version 2 labels .* put the task file's labels back"):
        planned(crowned, registry_settings)
    assert "version 2 labels" in looked(crowned, registry_settings, tmp_path / "include").seen
    assert crowned.moves() == [(None, 1, "promote")]


@pytest.mark.parametrize("how", ["told", "by hand", "rolled back"])
def test_a_version_that_its_gate_refused_labels_not_without_a_word(
    house: House, registry_settings: Settings, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    drop(house.lake, house.task, ["the film good"])
    house.train("worse", EARLIER)
    house.registry.note_decision(house.registry.version(house.task.name, 1), "refused: collapsed")
    if how == "by hand":
        house.registry.set_champion(house.task.name, 1)
    if how == "rolled back":
        assert house.promote(to=1)["reason"] == "asked for version 1, which a gate has refused: collapsed"
    facts = planned(house, registry_settings, **({"model_version": 1} if how == "told" else {}))
    assert (facts["model_version"], facts["doubt"]) == (1, "a gate has refused: collapsed")
    assert "version 1 all the same: a gate has refused: collapsed" in caplog.text


def test_a_version_that_somebody_archived_labels_only_for_who_names_it(
    crowned: House, registry_settings: Settings
) -> None:
    DEEDS["version archived"][0](crowned, f"llambert.{crowned.task.name}")
    assert planned(crowned, registry_settings, model_version=1)["doubt"] == "version 1 is archived"
