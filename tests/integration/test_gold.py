"""Gold is checked row by row, and a wrong file changes nothing."""

import csv
import datetime
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from llambert_etl.cli import run
from llambert_etl.corpus.documents import hash_text
from llambert_etl.corpus.forgotten import Forgotten
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.steps.ingest import ingest
from tests.given.gold import DAY, Desk, Rows, gold
from tests.given.poison import jsonl, parquet, reviews
from tests.given.tasks import make_task, task_fields, three_label_task

NEXT, LATER = Partition("2026-11-11"), Partition("2026-11-12")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("name", ["gold.jsonl", "gold.csv", "gold.parquet"])
def test_every_format_gives_the_same_gold(desk: Desk, name: str) -> None:
    manifest = desk.imports(desk.write([{**row, "split": "test"} for row in gold()], name))
    assert manifest.rows == {"read": 20, "train": 0, "test": 20}
    assert manifest.facts["labels"] == {"positive": 10, "negative": 10}
    first = desk.held().to_dicts()[0]
    assert (first["id"], first["label"], first["annotator"]) == ("r0", "positive", "ada")
    assert first["text_hash"] == hash_text("review number 0")


def test_a_file_may_have_a_name_that_is_no_unicode(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "llambert_etl.steps.gold")
    manifest = desk.imports(desk.write(gold(), "g\udcff.jsonl"))
    assert "g\\udcff.jsonl" in caplog.text
    assert manifest.facts["file"] == "g\\udcff.jsonl"
    assert json.loads(manifest.model_dump_json())["rows"]["read"] == 20


def test_the_rarest_label_is_told_for_each_split_and_a_floor_that_gold_does_not_reach(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {**row, "label": ("positive", "negative")[number >= 8], "split": ("train", "test")[number % 2]}
        for number, row in enumerate(gold(400))
    ]
    caplog.set_level("INFO", "llambert_etl.corpus.rare")
    desk.imports(desk.write(rows), task=make_task(gates={"min_label_share": 0.05}))
    assert "test rows: the rarest label, 'positive', has 4 of 200 rows; its F1 is known no better" in caplog.text
    assert "train rows: the rarest label, 'positive', has 4 of 200 rows; encoder.class_weights: true" in caplog.text
    assert "0.0200 of the rows are 'positive' and gates.min_label_share asks for 0.05" in caplog.text
    caplog.clear()
    desk.imports(desk.write(rows), NEXT, task=make_task(gates={"min_label_share": None}))
    assert "gates.min_label_share" not in caplog.text


def test_a_row_stays_on_its_side_of_the_split_whatever_else_the_file_holds(desk: Desk) -> None:
    desk.imports(desk.write(gold(400)))
    sides = dict(desk.held().select("id", "split").iter_rows())
    assert 0.4 < sum(side == "test" for side in sides.values()) / 400 < 0.6
    desk.imports(desk.write(gold(30), "less.jsonl"), NEXT)
    assert all(sides[key] == side for key, side in desk.held(NEXT).select("id", "split").iter_rows())


def test_a_moment_keeps_its_instant(desk: Desk) -> None:
    desk.imports(desk.write([{**row, "labelled_at": "2026-11-10T10:00:00+01:00"} for row in gold()]))
    assert desk.held()["labelled_at"][0] == datetime.datetime(2026, 11, 10, 9, tzinfo=datetime.UTC)


def test_the_same_file_again_changes_nothing(desk: Desk) -> None:
    file = desk.write(gold())
    first, version = desk.imports(file), desk.lake.version("gold")
    again = desk.imports(file, run="r2")
    assert (again.rows, again.facts["replayed"]) == (first.rows, True)
    assert desk.lake.version("gold") == version
    assert desk.held()["run"].unique().to_list() == ["r1"]


def test_the_same_file_on_a_later_day_changes_nothing_until_another_was_imported_between(desk: Desk) -> None:
    file = desk.write(gold())
    desk.imports(file)
    again = desk.imports(file, NEXT, run="r2")
    assert (again.partition, again.facts["replayed"], desk.held(NEXT).height) == (DAY, True, 0)
    desk.imports(desk.write(gold(30), "other.jsonl"), NEXT)
    assert desk.imports(file, LATER).facts["replayed"] is False
    assert desk.held(LATER).height == 20


def test_a_corrected_file_replaces_its_own_day_only(desk: Desk) -> None:
    desk.imports(desk.write(gold()))
    desk.imports(desk.write(gold(30), "next.jsonl"), NEXT)
    corrected = [{**gold()[0], "label": "negative"}, *gold()[1:]]
    desk.imports(desk.write(corrected), run="r2")
    assert desk.held(DAY)["label"][0] == "negative"
    assert desk.held(NEXT)["label"][0] == "positive"


def test_a_missing_text_is_that_of_the_document_as_of_the_day(desk: Desk) -> None:
    landing = desk.folder / "landing" / DAY
    landing.mkdir(parents=True)
    (landing / "a.jsonl").write_bytes(jsonl(*reviews(20)))
    task = make_task(source={"uri": f"{desk.folder}/landing/{{partition}}/*"})
    ingest(Run(task, DAY, "r1"), lake=desk.lake, settings=desk.settings)
    bare = [{"id": row["id"], "label": row["label"]} for row in gold()]
    manifest = desk.imports(desk.write(bare), task=task)
    assert manifest.versions_read == {"documents": desk.lake.version("documents")}
    assert desk.held()["text"].to_list() == pl.DataFrame(reviews(20)).sort("id")["text"].to_list()


def test_a_text_of_no_document_names_row_and_id(desk: Desk) -> None:
    with pytest.raises(DataError, match=r"row 1: no text, and no document 'r0' as of 2026-11-10; add a text column"):
        desk.imports(desk.write([{"id": row["id"], "label": row["label"]} for row in gold()]))


def changed(row: int, **values: object) -> Callable[[Rows], Rows]:
    return lambda rows: [{**each, **values} if number == row else each for number, each in enumerate(rows, 1)]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (changed(3, label="Positive"), r"row 3: label 'Positive' is not one of \['positive', 'negative'\]"),
        (changed(3, label=1), "row 3: label 1 is not one of"),
        (changed(3, label=["positive"]), r"row 3: label \['positive'\] is not one of"),
        (changed(3, label=None), "row 3: label None is not one of"),
        (changed(3, id=None), "row 3: id_not_text"),
        (changed(3, id="r0"), r"id 'r0' stands in rows \[1, 3\]"),
        (changed(3, text=" \t"), "row 3: text_blank"),
        (changed(3, text=7), "row 3: text_not_text"),
        (changed(3, text=0), "row 3: text_not_text"),
        (changed(3, text=[]), "row 3: text_not_text"),
        (changed(3, split=0), "row 3: split 0 is not one of"),
        (changed(3, annotator=False), "row 3: annotator must be a string"),
        (changed(3, split="dev"), "row 3: split 'dev' is not one of"),
        (changed(3, labelled_at="yesterday"), "row 3: labelled_at 'yesterday' is no moment"),
        (changed(3, labelled_at="0001-01-01T00:00:00+14:00"), "row 3: labelled_at .* is no moment"),
        (changed(3, labelled_at="2026-11-10T09:00:00"), "row 3: labelled_at .* has no time zone"),
        (changed(3, annotator=7), "row 3: annotator must be a string of whole characters, found 7"),
        (changed(3, annotator="\ud83d"), r"row 3: annotator must be a string of whole characters, found '\\ud83d'"),
        (lambda rows: [{**rows[0], "label": "Positive"}], "row 1: label 'Positive' is not one of .*; mend it or"),
        (
            lambda rows: [{**row, "id": None, "label": "spam"} for row in rows],
            r"row 1: label 'spam' is not one of \[.*\] \(nor are those of 19 more rows\)",
        ),
        (lambda rows: rows[:1], "1 rows, at least 10 are needed"),
        (lambda rows: rows[:9], "9 rows, at least 10 are needed"),
        (lambda rows: [], "0 rows, at least 10 are needed"),
        (lambda rows: [{**row, "label": "positive"} for row in rows], r"no row has the label \['negative'\]"),
        (lambda rows: [{"key": row["id"], "label": row["label"]} for row in rows], "column 'id' is missing"),
        (lambda rows: [{"id": row["id"], "verdict": row["label"]} for row in rows], "column 'label' is missing"),
        (lambda rows: [*rows, ["r99", "positive"]], "row 21: expected an object"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_written(desk: Desk, damage: Callable[[Rows], Rows], said: str) -> None:
    before = desk.lake.version("gold")
    with pytest.raises(DataError, match=said) as caught:
        desk.imports(desk.write(damage(gold())))
    assert "gold.jsonl" in str(caught.value)
    assert desk.lake.version("gold") == before


@pytest.mark.parametrize("key", [None, "\ud83d", 7.0, ["r1"]])
def test_a_value_that_is_no_id_is_none_that_was_forgotten(desk: Desk, key: object) -> None:
    Forgotten(desk.lake, "reviews").add(["None", "7.0", "['r1']"])
    with pytest.raises(DataError, match="row 3: id_not_"):
        desk.imports(desk.write(changed(3, id=key)(gold())))


@pytest.mark.parametrize("command", [["gold", "import", ""], ["run", "retrain", "--gold", ""]])
def test_a_name_that_is_empty_is_that_of_no_file(
    desk: Desk, command: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is what a variable leaves that nobody has set."""
    for name, value in {"LAKE": desk.lake.uri, "INCLUDE": str(desk.folder)}.items():
        monkeypatch.setenv(f"LLAMBERT_{name}", value)
    (desk.folder / "tasks").mkdir()
    (desk.folder / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(task_fields()))
    assert run([*command, "--task", "reviews", "--partition", DAY]) == 78
    assert "gold '' cannot be read" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("gold.parquet", b"PAR1 not really"),
        ("gold.jsonl", b"{" * 10),
        ("gold.jsonl", b'{"a": ' + b"[" * 100_000),
        ("gold.jsonl", b"\xff\xfe"),
        ("gold.csv", b'id,label\n1,"open'),
        ("gold.xlsx", b"PK"),
    ],
)
def test_a_file_of_the_wrong_kind_is_one_line(desk: Desk, name: str, content: bytes) -> None:
    (desk.folder / name).write_bytes(content)
    with pytest.raises(DataError, match=name) as caught:
        desk.imports(desk.folder / name)
    assert "\n" not in str(caught.value)


def table(**columns: object) -> bytes:
    ids = [str(number) for number in range(20)]
    return parquet(id=ids, text=ids, label=["positive", "negative"] * 10, **columns)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gold.csv", b"id,label,text\n1,positive,a\n2,negative,b,c\n", "row 2: 4 fields, expected 3"),
        ("gold.jsonl", b'{"id": "1", "text": "a", "label": "positive", "label": "negative"}', "has a field twice"),
        ("gold.csv", b"id,label,text\n1,positive,a\n2,negative\n", "row 2: 2 fields, expected 3"),
        ("gold.jsonl", b'{}\n\n{"id": 1"}\n', "row 2 cannot be read: Expecting ... delimiter; mend the row"),
        ("gold.jsonl", b'[\n{"id": "1"}\n]', "row 1 cannot be read: Expecting value; mend the row"),
        ("gold.jsonl", b"{}\n" + b"[" * 100_000, "row 2 cannot be read"),
        ("gold.jsonl", "{}\n{é}".encode("latin-1"), "is not UTF-8 at byte 4; save it in UTF-8"),
        ("gold.csv", "id,label\né".encode("latin-1"), "is not UTF-8 at byte 9; save it in UTF-8"),
        ("gold.csv", b'id,label\n1,"a" b\n', "line 2 cannot be read: ',' expected after '\"'; mend the line"),
        ("gold.csv", b"id,text\n1,a,positive\n", "row 1: 3 fields, expected 2"),
        ("gold.csv", b"id,label,text,label\n1,positive,a,negative\n", r"columns \['label'\] stand there twice"),
        ("gold.csv", b"id,label,text\n" + b"1,positive,%b\n" % (b"x" * 140_000) * 10, "row 1: text_too_long"),
        (
            "gold.parquet",
            table(labelled_at=pa.array([4_614_000_000_000_000] * 20, pa.timestamp("ms", "UTC"))),
            "column 'labelled_at' cannot be read: date value out of range",
        ),
        (
            "gold.parquet",
            table(labelled_at=pa.array([0] * 20, pa.timestamp("us", "Mars/Olympus"))),
            "column 'labelled_at' cannot be read: 'Mars/Olympus'",
        ),
    ],
)
def test_a_table_that_python_would_cut_or_cannot_hold_is_refused(
    desk: Desk, name: str, content: bytes, said: str
) -> None:
    (desk.folder / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        desk.imports(desk.folder / name)


def test_a_csv_text_may_be_as_long_as_a_document(desk: Desk) -> None:
    csv.field_size_limit(131_072)  # as it is in a new process
    rows = [{**row, "text": f"{row['text']} {'x' * 150_000}"} for row in gold()]
    desk.imports(desk.write(rows, "gold.csv"), task=make_task(source={"max_chars": 200_000}))
    assert desk.held()["text"].str.len_chars().min() > 150_000
    with pytest.raises(DataError, match="row 1: text_too_long"):
        desk.imports(desk.write(rows, "gold.csv"))


def test_a_class_of_three_that_is_never_seen_is_named(desk: Desk) -> None:
    rows = [{**row, "label": ("sports", "business")[number % 2]} for number, row in enumerate(gold())]
    with pytest.raises(DataError, match=r"no row has the label \['science'\]"):
        desk.imports(desk.write(rows), task=three_label_task())


def test_a_file_that_is_not_there_is_a_matter_of_configuration(desk: Desk) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.jsonl.*cannot be read"):
        desk.imports(desk.folder / "nowhere.jsonl")
    with pytest.raises(ConfigError, match="LLAMBERT_SOURCES"):
        desk.imports("s3://elsewhere/gold.jsonl")


def test_a_parquet_file_that_was_changed_is_refused_by_its_checksums(desk: Desk) -> None:
    columns = {name: [row[name] for row in gold()] for name in ("id", "text", "label")}
    pq.write_table(
        pa.table(columns),
        desk.folder / "gold.parquet",
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    content = (desk.folder / "gold.parquet").read_bytes()
    desk.imports(desk.folder / "gold.parquet")
    (desk.folder / "gold.parquet").write_bytes(content.replace(b"review number 3", b"review number 4"))
    with pytest.raises(DataError, match=r"gold.parquet' is not a readable \.parquet file"):
        desk.imports(desk.folder / "gold.parquet")


@pytest.mark.parametrize("key", [lambda number: Decimal(10**30 + number), lambda number: UUID(int=number)])
def test_ids_of_parquet_are_those_of_the_documents(desk: Desk, key: Callable[[int], Any]) -> None:
    keys = [key(number) for number in range(20)]
    kind = pa.uuid() if isinstance(keys[0], UUID) else pa.decimal128(38, 0)
    ids = pa.array([each.bytes if isinstance(each, UUID) else each for each in keys], kind)
    texts, labels = ([row[name] for row in gold()] for name in ("text", "label"))
    (desk.folder / "gold.parquet").write_bytes(parquet(id=ids, text=texts, label=labels))
    desk.imports(desk.folder / "gold.parquet")
    assert desk.held()["id"].to_list() == [str(each) for each in keys]


def test_integer_ids_are_those_of_the_documents(desk: Desk) -> None:
    desk.imports(desk.write([{**row, "id": number} for number, row in enumerate(gold())]))
    assert json.dumps(desk.held()["id"].to_list()[:2]) == '["0", "1"]'
