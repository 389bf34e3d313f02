"""What people's answers become: gold where they agree, and nothing at all where a file is wrong."""

import datetime
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import polars as pl
import pytest

from llambert_etl.corpus.documents import hash_text
from llambert_etl.corpus.gold import gold_as_of, split_of
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.reviews.reviewed import Stratum
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.gold import import_gold
from tests.given.labelling import DAY, NEXT
from tests.given.reviews import LATER, Panel, Rows

TEXTS = [f"text {number}" for number in range(20)]
ERRORS, DOUBTS = [Stratum.ERRORS], [Stratum.DISAGREEMENTS]


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    """Twenty documents labelled positive; gold says negative of the first four, the LLM of the last six."""
    lake = Lake(str(tmp_path / "lake"))
    lake.create_tables()
    panel = Panel(lake, tmp_path)
    panel.documents(dict.fromkeys(TEXTS, "positive"))
    panel.gold(dict.fromkeys(TEXTS[:2], "negative"))
    panel.gold(dict.fromkeys(TEXTS[2:4], "negative"), "train")
    panel.annotated(dict.fromkeys(TEXTS[14:], "negative"))
    return panel


def test_an_answered_error_corrects_or_confirms_gold_on_its_side_and_from_its_day_on(panel: Panel) -> None:
    before = gold_as_of(panel.task, panel.lake, DAY)
    panel.export(strata=ERRORS)
    manifest = panel.answer({TEXTS[0]: "positive", TEXTS[1]: "negative", TEXTS[2]: "positive"})
    assert panel.golden() == {
        TEXTS[0]: ("positive", "test", "ada"),
        TEXTS[1]: ("negative", "test", "ada"),
        TEXTS[2]: ("positive", "train", "ada"),
        TEXTS[3]: ("negative", "train", None),
    }
    assert manifest.facts["gold"] == {"corrected test": 1, "confirmed test": 1, "corrected train": 1}
    assert manifest.rows == {"read": 4, "new": 3, "repeated": 0, "unanswered": 1, "skipped": 0}
    assert gold_as_of(panel.task, panel.lake, DAY).equals(before)
    assert gold_as_of(panel.task, panel.lake, NEXT).height == before.height
    moment = panel.lake.scan("gold", panel.task.name, NEXT).collect()["labelled_at"][0]
    assert moment == datetime.datetime(2026, 11, 11, 8, 30, tzinfo=datetime.UTC)


def test_a_disagreement_becomes_gold_to_learn_from_and_never_to_test_on(panel: Panel) -> None:
    panel.export(strata=DOUBTS)
    panel.answer(dict.fromkeys(TEXTS[14:], "negative"))
    assert {row[1] for row in panel.golden(NEXT).values()} == {"train"}
    assert len(panel.golden(NEXT)) == 6


def test_a_document_of_the_random_share_falls_on_the_side_of_its_id(panel: Panel) -> None:
    panel.export(strata=[Stratum.RANDOM])
    panel.answer(dict.fromkeys(TEXTS, "positive"))
    sides = {text: side for text, (_, side, _) in panel.golden(NEXT).items()}
    assert [sides[text] for text in TEXTS[:4]] == ["test", "test", "train", "train"]
    assert [sides[f"text {number}"] for number in range(4, 20)] == [
        split_of(f"{DAY}-{number}") for number in range(4, 20)
    ]


def test_a_mixed_answer_is_counted_and_makes_no_gold(panel: Panel) -> None:
    panel.export(strata=ERRORS)
    manifest = panel.answer({TEXTS[0]: "Mixed", TEXTS[1]: "mixed/unclear", TEXTS[2]: " POSITIVE "})
    assert panel.golden(NEXT) == {TEXTS[2]: ("positive", "train", "ada")}
    assert manifest.facts["outcomes"] == {"accepted": 1, "mixed/unclear": 2, "undecided": 0, "waiting": 1}
    assert manifest.facts["sides"] == {"encoder": 1, "mixed/unclear": 2}


def test_gold_waits_for_every_answer_and_is_what_more_than_half_of_them_say(panel: Panel) -> None:
    panel.export(strata=ERRORS, annotators=3)
    panel.answer({TEXTS[0]: "positive", TEXTS[1]: "positive", TEXTS[2]: "positive"}, "ada")
    assert panel.answer({TEXTS[0]: "positive", TEXTS[1]: "negative"}, "bob").facts["outcomes"]["waiting"] == 4
    assert panel.golden(NEXT) == {}
    manifest = panel.answer({TEXTS[0]: "negative", TEXTS[1]: "mixed"}, "cleo")
    assert panel.golden(NEXT) == {TEXTS[0]: ("positive", "test", "ada, bob")}
    assert manifest.facts["outcomes"] == {"accepted": 1, "mixed/unclear": 0, "undecided": 1, "waiting": 2}
    pairs = {tuple(pair["between"]): pair["n"] for pair in manifest.facts["agreement"]["people"]["kappa"]}
    assert pairs == {("ada", "bob"): 2, ("ada", "cleo"): 2, ("bob", "cleo"): 2}


def test_a_document_of_two_exports_of_a_day_counts_in_both(panel: Panel) -> None:
    panel.export("errors", strata=ERRORS)
    panel.export(size=20, strata=[Stratum.RANDOM])
    facts = panel.answer(dict.fromkeys(TEXTS, "positive")).facts
    assert facts["asked"] == {"random": 20, "errors": 4, "disagreements": 0}
    assert facts["sides"] == {"encoder": 4}
    assert facts["accuracy"]["encoder"]["n"] == 20


def test_the_same_files_again_change_nothing(panel: Panel) -> None:
    panel.export(strata=ERRORS)
    first = panel.answer({TEXTS[0]: "positive", TEXTS[1]: "mixed"})
    before = panel.versions()
    again = panel.imports(panel.root / "answers.csv")
    later = panel.imports(panel.root / "answers.csv", day=LATER)
    assert panel.versions() == before
    assert again.rows == later.rows == {"read": 4, "new": 0, "repeated": 2, "unanswered": 2, "skipped": 0}
    assert again.facts == first.facts


def test_a_changed_mind_is_a_later_day_s_and_both_days_keep_theirs(panel: Panel) -> None:
    panel.export(strata=ERRORS)
    panel.answer({TEXTS[0]: "positive"})
    with pytest.raises(DataError, match=r"'ada' answered '.*' with 'positive' on this day before.*under a later day"):
        panel.answer({TEXTS[0]: "negative"})
    panel.answer({TEXTS[0]: "negative"}, day=LATER)
    labels = [
        dict(gold_as_of(panel.task, panel.lake, day).select("text", "label").iter_rows()) for day in (NEXT, LATER)
    ]
    assert [each[TEXTS[0]] for each in labels] == ["positive", "negative"]


def test_what_is_gold_stays_gold_until_people_agree_on_something_else(panel: Panel) -> None:
    panel.export(strata=ERRORS)
    panel.answer({TEXTS[0]: "positive"}, "ada")
    panel.answer({TEXTS[0]: "negative"}, "bob", LATER)
    assert panel.golden()[TEXTS[0]] == ("positive", "test", "ada")


def test_spreadsheets_may_write_semicolons(panel: Panel) -> None:
    panel.export(strata=ERRORS)
    panel.imports(panel.write(panel.answers({TEXTS[0]: "positive"}, "ada"), delimiter=";"))
    assert panel.golden()[TEXTS[0]][0] == "positive"


def test_harmless_cells_come_back_as_they_were(panel: Panel) -> None:
    names = ["=1", "+1", "'=1", "'x", "\t1", "-1"]
    rows = [
        {"id": name, "status": "accepted", "text": f"of {name}", "text_hash": hash_text(f"of {name}")} for name in names
    ]
    panel.append("documents", rows, NEXT)
    panel.append(
        "labels", [{"id": row["id"], "text_hash": row["text_hash"], "label": "positive"} for row in rows], NEXT
    )
    panel.export(day=NEXT, strata=[Stratum.RANDOM])
    panel.answer({f"of {name}": "negative" for name in names}, day=LATER)
    assert panel.lake.scan("gold", panel.task.name, LATER).collect()["id"].sort().to_list() == sorted(names)


# Wrong files


def changed(row: int, **values: str) -> Callable[[Rows], Rows]:
    return lambda rows: [{**each, **values} if number == row else each for number, each in enumerate(rows, 1)]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (changed(2, label="great"), r"row 2: label 'great' is not one of \['mixed/unclear', 'negative', 'positive'\]"),
        (changed(2, annotator=" "), "row 2: annotator ' ': must name who answered"),
        (changed(2, annotator=""), "row 2: annotator '': must name who answered"),
        (changed(2, annotator="LLM"), "row 2: annotator 'LLM' is a name that a report uses"),
        (changed(2, labelled_at="11/11/2026 9:30"), "row 2: labelled_at '11/11/2026 9:30': must be a moment"),
        (changed(2, labelled_at="20261111"), "row 2: labelled_at '20261111': must be a moment"),
        (changed(2, labelled_at="0001-01-01T00:00:00+14:00"), "row 2: labelled_at .*must be a moment"),
        (changed(2, labelled_at="2026-11-11T09:30:00"), "row 2: labelled_at .*must be a moment with its zone"),
        (changed(2, id="nobody"), "row 2: no document 'nobody' as of 2026-11-11; give the id as exported"),
        (changed(2, id=""), "row 2: id '': must be the document's id"),
        (changed(2, id=f"{DAY}-9"), f"row 2: document '{DAY}-9' was never exported"),
        (changed(2, text_hash="0" * 64), "row 2: the text of .* is not the one that was exported; remove the row"),
        (lambda rows: [*rows, rows[0]], "row 5: 'ada' has answered .* in 'answers.csv' row 1 too; keep one"),
        (lambda rows: [{"key": row["id"], "label": row["label"]} for row in rows], r"columns \['id', 'annotator'\]"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_written(panel: Panel, damage: Callable[[Rows], Rows], said: str) -> None:
    panel.export(strata=ERRORS)
    rows, before = panel.answers(dict.fromkeys(TEXTS, "positive"), "ada"), panel.versions()
    with pytest.raises(DataError, match=said) as caught:
        panel.imports(panel.write(damage(rows)))
    assert "answers.csv" in str(caught.value)
    assert "text 1" not in str(caught.value)
    assert panel.versions() == before


def test_all_faults_are_told_together_up_to_a_limit(panel: Panel) -> None:
    panel.export(strata=[Stratum.RANDOM])
    rows = [{**row, "label": "great"} for row in panel.answers(dict.fromkeys(TEXTS, "positive"), "ada")]
    twice = [panel.write(rows, "one.csv"), panel.write(rows[:5], "two.csv")]
    with pytest.raises(DataError, match=r"'one.csv' row 1: .*'one.csv' row 20: .*; and 5 more"):
        panel.imports(*twice)


def test_a_text_that_has_changed_since_is_refused(panel: Panel) -> None:
    panel.export(strata=ERRORS)
    revised = {"id": f"{DAY}-0", "status": "accepted", "text": "new", "text_hash": "0" * 64}
    panel.append("documents", [revised], NEXT)
    with pytest.raises(DataError, match=rf"the text of '{DAY}-0' is not the one that was exported"):
        panel.answer({TEXTS[0]: "positive"})
    with pytest.raises(DataError, match="the text of"):
        panel.imports(panel.write([{"id": f"{DAY}-0", "label": "positive", "annotator": "ada"}], "bare.csv"))


def test_answers_from_before_their_export_are_refused(panel: Panel) -> None:
    panel.documents(dict.fromkeys(["another text"], "positive"), NEXT)
    panel.export(day=NEXT, strata=[Stratum.RANDOM])
    with pytest.raises(DataError, match=rf"document '{DAY}-5' was never exported as of {DAY}"):
        panel.answer({TEXTS[5]: "positive"}, day=DAY)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"PK", "expected the exported .csv"),
        ("a.csv", b"\xff\xfei\x00d\x00", "is not UTF-8: save it again"),
        ("a.csv", b'id,label,annotator\nx,positive,"ada', "line 2 cannot be read: unexpected end"),
        (
            "a.csv",
            b"id,text,label,annotator,text_hash\nx,good,,positive,ada,0\n",
            "row 1: more cells than columns; put",
        ),
        ("a.csv", b"", r"columns \['id', 'label', 'annotator'\] are missing"),
        ("a.csv", b"id,label,annotator,label\nx,positive,ada,\n", r"columns \['label'\] stand there twice"),
        ("a.json", b'[{"data": ', "is not readable JSON"),
        ("a.json", b"[" * 100_000, "is not readable JSON"),
        ("a.json", b'{"data": {}}', "expected a list of tasks"),
        ("a.json", b'[{"id": 1, "text": "flat"}]', "row 1: data is not that of a task"),
        ("a.json", b'[["list"]]', "row 1: it is not that of a task"),
    ],
)
def test_a_file_of_the_wrong_kind_is_one_line(panel: Panel, name: str, content: bytes, said: str) -> None:
    (panel.root / name).write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        panel.imports(panel.root / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_a_matter_of_configuration(panel: Panel) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.csv.*cannot be read"):
        panel.imports(panel.root / "nowhere.csv")


def imports_gold(panel: Panel, day: Partition, texts: Sequence[str], first: str = "positive") -> Manifest:
    """Import a file of gold about ten texts, of which the first has the given label."""
    labels = [first, *("negative", "positive") * 4, "negative"]
    rows = [{"id": f"g {text}", "text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    file = panel.root / "gold.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    settings = Settings(lake=panel.lake.uri, sources=[])
    return import_gold(Run(panel.task, day, "r1"), file, lake=panel.lake, settings=settings)


def test_a_day_s_gold_has_one_source(panel: Panel) -> None:
    others = [f"gold {number}" for number in range(10)]
    panel.export(strata=ERRORS)
    imports_gold(panel, NEXT, others)
    with pytest.raises(ConfigError, match="this day's gold comes from `gold import`; give a later day"):
        panel.answer({TEXTS[0]: "positive"})
    panel.answer({TEXTS[0]: "positive"}, day=LATER)
    with pytest.raises(ConfigError, match="this day's gold comes from `review import`"):
        imports_gold(panel, LATER, others, first="negative")
    assert panel.lake.scan("gold", panel.task.name, LATER).filter(pl.col("label") == "positive").collect().height == 1


@pytest.mark.parametrize("day", [NEXT, LATER])
def test_what_people_corrected_stands_when_the_same_file_is_imported_again(panel: Panel, day: Partition) -> None:
    imports_gold(panel, DAY, TEXTS[4:14], first="negative")
    panel.export(strata=ERRORS)
    panel.answer({TEXTS[4]: "positive"}, day=NEXT)
    assert imports_gold(panel, day, TEXTS[4:14], first="negative").facts["replayed"] is True
    assert dict(gold_as_of(panel.task, panel.lake, day).select("text", "label").iter_rows())[TEXTS[4]] == "positive"
