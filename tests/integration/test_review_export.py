"""What people are asked to look at: why each document was chosen, and the files that they get."""

import contextlib
import csv
import io
import itertools
import os
import xml.etree.ElementTree as ET
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from llambert_etl.corpus.sampling import sample
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.lake import Lake
from llambert_etl.reviews.files import new_folder
from llambert_etl.reviews.reviewed import Stratum
from tests.given.labelling import DAY, NEXT, drop
from tests.given.reviews import Panel
from tests.given.tasks import make_task

TEXTS = [f"text {number}" for number in range(30)]
HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1", "'plain", "=cmd|' /C calc'!A0", 'a "quoted", one\n=2']


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    """Thirty labelled documents: gold contradicts 4 of its 10, the LLM 6 of the 12 that it was asked about."""
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    panel = Panel(lake, tmp_path)
    panel.documents(dict.fromkeys(TEXTS, "positive"))
    panel.gold({text: "negative" if number < 4 else "positive" for number, text in enumerate(TEXTS[:10])})
    panel.annotated({text: "negative" if number < 6 else "positive" for number, text in enumerate(TEXTS[8:20])})
    return panel


def chosen(panel: Panel, name: str = "review") -> dict[str, str]:
    rows = panel.sheet(name)
    assert len({row["text_hash"] for row in rows}) == len(rows)
    return panel.strata(name)


def write(folder: Path, content: str) -> None:
    with new_folder(folder, {"review.csv": content}) as finish:
        finish("{}")


def of(found: dict[str, str], stratum: str) -> set[str]:
    return {text for text, why in found.items() if why == stratum}


def test_each_document_is_there_once_with_the_reason_why(panel: Panel) -> None:
    manifest = panel.export(size=5)
    found = chosen(panel)
    random, errors, doubts = (of(found, stratum) for stratum in Stratum)
    assert len(random) == 5
    assert errors == set(TEXTS[:4]) - random
    # Where there is gold, it is the judge: texts 8 and 9 are right by it.
    assert doubts == set(TEXTS[10:14]) - random
    assert manifest.rows == {"read": len(found), "random": 5, "errors": len(errors), "disagreements": len(doubts)}


def test_the_random_share_is_drawn_from_everything_before_the_others(panel: Panel) -> None:
    panel.export(size=30)
    assert chosen(panel) == dict.fromkeys(TEXTS, "random")


def test_the_random_share_is_not_what_the_llm_was_asked_about(panel: Panel) -> None:
    annotated = set(sample(panel.lake, panel.task.name, DAY, 10, panel.task.annotator.seed)["text"])
    panel.export(size=10, seed=panel.task.annotator.seed, strata=[Stratum.RANDOM])
    assert set(chosen(panel)) != annotated


def test_the_same_tables_and_seed_give_the_same_files_and_another_seed_others(panel: Panel) -> None:
    panel.export("one", size=3)
    panel.export("two", size=3, run="r2")
    panel.export("three", size=3, seed=43)
    one, two, three = (
        {path.name: path.read_bytes() for path in (panel.root / name).iterdir() if path.name != "manifest.json"}
        for name in ("one", "two", "three")
    )
    assert one == two
    assert one["review.csv"] != three["review.csv"]


def test_a_blind_review_tells_nobody_s_label(panel: Panel) -> None:
    panel.export()
    for name in ("review.csv", "label_studio.json"):
        content = (panel.root / "review" / name).read_text(encoding="utf-8")
        assert "positive" not in content
        assert "negative" not in content
    assert all("predictions" not in task for task in panel.tasks())


def test_a_suggestion_is_the_encoder_s_label_and_names_its_version(panel: Panel) -> None:
    panel.export(suggest=True)
    assert {row["prediction"] for row in panel.sheet()} == {"positive"}
    (prediction,) = panel.tasks()[0]["predictions"]
    assert prediction["model_version"] == "llambert.reviews version 3"
    assert prediction["result"][0]["value"] == {"choices": ["positive"]}


def test_the_interface_of_label_studio_has_every_label_and_a_way_to_say_none(panel: Panel) -> None:
    panel.task = make_task(labels={"positive": 'It is "good" & <fine>.', "negative": "It is not."})
    panel.export()
    view = ET.parse(panel.root / "review" / "label_studio.xml").getroot()  # noqa: S314 - our own file
    choices = {choice.get("value"): choice.get("hint") for choice in view.iter("Choice")}
    assert list(choices) == ["positive", "negative", "mixed/unclear"]
    assert choices["positive"] == 'It is "good" & <fine>.'


def test_no_cell_is_a_formula_and_every_text_comes_back_in_label_studio(panel: Panel) -> None:
    panel.documents(dict.fromkeys(HOSTILE, "positive"), NEXT)
    panel.export(day=NEXT)
    content = (panel.root / "review" / "review.csv").read_bytes().decode("utf-8-sig")
    cells = [cell for row in csv.reader(io.StringIO(content, newline="")) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
    assert {task["data"]["text"] for task in panel.tasks()} >= set(HOSTILE)


def test_only_the_text_that_was_labelled_is_asked_about(panel: Panel) -> None:
    drop(panel.lake, panel.task, ["another text"], NEXT)
    panel.append("documents", [{"id": f"{DAY}-0", "status": "accepted", "text": "new", "text_hash": "0" * 64}], NEXT)
    panel.export(day=NEXT)
    assert set(chosen(panel)) == set(TEXTS[1:])


def test_errors_that_people_have_looked_at_are_not_asked_again_until_the_random_share_draws_them(panel: Panel) -> None:
    panel.export("first", strata=[Stratum.ERRORS])
    assert chosen(panel, "first") == dict.fromkeys(TEXTS[:4], "errors")
    rows = panel.answers({TEXTS[0]: "negative", TEXTS[1]: "mixed"}, "ada", "first")
    panel.imports(panel.write(rows))
    panel.export("second", day=NEXT, strata=[Stratum.ERRORS])
    assert chosen(panel, "second") == dict.fromkeys(TEXTS[2:4], "errors")
    panel.export("all", day=NEXT, strata=[Stratum.RANDOM])
    assert set(chosen(panel, "all")) == set(TEXTS)


@pytest.mark.parametrize("stratum", list(Stratum))
def test_nothing_to_look_at_is_a_refusal(tmp_path: Path, stratum: Stratum) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    panel = Panel(lake, tmp_path)
    drop(lake, panel.task, ["not labelled yet"])
    before = panel.versions()
    with pytest.raises(DataError, match=f"nothing to look at in .*{stratum}.*; label documents first"):
        panel.export(strata=[stratum])
    assert panel.versions() == before
    assert not (tmp_path / "review").exists()


def test_what_is_asked_is_noted_with_what_each_one_said(panel: Panel) -> None:
    panel.export(annotators=2)
    row = {each["id"]: each for each in panel.asked().to_dicts()}[f"{DAY}-9"]
    said: dict[str, Any] = {"label": "positive", "annotation": "negative", "gold": "positive", "annotators": 2}
    assert {name: row[name] for name in said} == said
    assert (row["model_version"], row["stratum"], row["answer"]) == (3, "random", None)


def test_a_repeated_export_changes_nothing_and_one_over_answers_is_refused(panel: Panel) -> None:
    panel.export()
    before = panel.versions()
    panel.export(run="r2")
    assert panel.versions() == before
    answered = panel.root / "review" / "review.csv"
    answered.write_text("my answers", encoding="utf-8")
    with pytest.raises(ConfigError, match="holds other files, perhaps answers; give a new folder"):
        panel.export()
    assert answered.read_text(encoding="utf-8") == "my answers"


@pytest.mark.parametrize("folder", ["file", "file/review", "/proc/nope", "full"])
def test_an_export_that_cannot_write_its_files_has_asked_nothing(panel: Panel, folder: str) -> None:
    (panel.root / "file").touch()
    write(panel.root / "full", "answers")
    before = panel.versions()
    with pytest.raises(ConfigError, match="cannot be written|holds other files"):
        panel.export(folder)
    assert panel.versions() == before


def test_an_export_that_was_cut_off_between_its_note_and_its_files_is_finished_by_the_next(
    panel: Panel, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = os.replace

    def cut_off(source: Path, target: Path) -> None:
        if any(Path(source).iterdir()):
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", cut_off)
    with pytest.raises(KeyboardInterrupt):
        panel.export(size=5)
    asked = panel.asked()
    assert list((panel.root / "review").iterdir()) == []
    monkeypatch.undo()
    panel.export(size=5)
    assert {row["id"] for row in panel.sheet()} == set(asked["id"])
    assert panel.asked().equals(asked)


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize(
    ("theirs", "outcome"),
    [("a", contextlib.nullcontext()), ("b", pytest.raises(ConfigError, match="holds other files"))],
)
def test_of_two_exports_into_one_folder_at_once_the_second_finds_its_files_there_or_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str, outcome: AbstractContextManager[Any], nth: int
) -> None:
    folder, move, moves = tmp_path / "review", os.replace, itertools.count(1)

    def after_the_other(source: Path, target: Path) -> None:
        if next(moves) == nth:
            monkeypatch.setattr(os, "replace", move)
            write(folder, theirs)
        move(source, target)

    monkeypatch.setattr(os, "replace", after_the_other)
    with outcome:
        write(folder, "a")
    assert (folder / "review.csv").read_text(encoding="utf-8") == theirs
    assert list(tmp_path.iterdir()) == [folder]


def test_files_are_there_whole_or_not_at_all(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        new_folder(tmp_path / "review", {"a.csv": "a", "no/such/folder.csv": "b"}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
