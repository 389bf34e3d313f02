"""CSV as people and programs write it: each line is a record or is refused, and a stray quote costs no other."""

import contextlib
import csv
import gzip
import io
import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llambert_etl.sources import csv_rows, streams
from llambert_etl.sources.columns import Columns
from llambert_etl.sources.readers import read_rows
from llambert_etl.sources.records import Limits, Reason, Record, Refusal
from tests.given.rows import SOURCE, ids, one_by_one, read

MARK = b"\xef\xbb\xbf"
ODD_LINES = (
    b"1,fine",
    b'2,"two\nlines"',
    b'3,"quote ""x"""',
    b'4,"open',
    b'5,stray " quote',
    b'6,"closed" early',
    b'closes"',
    b"7,more,fields",
    b'8,"three\nlines\nand",more',
    b"one",
    b"",
    b" \t",
    b"\r",
    b"9,of windows\r",
    b"a\rb,c",
    b"10,caf\xe9",
    b'11,"two\ncaf\xe9"',
    b"12,a\0b",
    "13,良い映画".encode(),
    b"id,text",
    MARK + b"id,text",
    b"14,text",
    b"15," + b"long" * 20,
    b'16,"' + b"l\n" * 40 + b'"',
)


@pytest.mark.parametrize("again", [b"id,text\n", MARK + b"id,text\r\n", MARK + b'"id","text"\n'])
def test_the_header_of_a_csv_file_that_was_joined_to_another_is_no_document(again: bytes) -> None:
    assert read("a.csv", b"id,text\n1,fine\n" + again + b"2,id\n") == [
        Record("line 2", "1", "fine"),
        Refusal("line 3", Reason.LINE_NOT_CSV),
        Record("line 4", "2", "id"),
    ]


def test_a_quoted_csv_field_keeps_newlines_commas_and_quotes() -> None:
    rows = read("a.csv", b'id,text\n1,"two\nlines, one ""quote"""\n2,next\n')
    assert [(row.place, row.text) for row in rows if isinstance(row, Record)] == [
        ("line 2", 'two\nlines, one "quote"'),
        ("line 4", "next"),
    ]


@pytest.mark.parametrize(
    ("middle", "accepted", "refused"),
    [
        (b'9,it is 5" long\n8,fine\n7,another 3" one\n', ["9", "8", "7"], []),
        (b'9,"6 inch\n', [], ["line 3"]),
        (b'9,"6 inch" catheter\n', [], ["line 3"]),
        (b'9,"6 inch\n8,it is 5" long\n', ["8"], ["line 3"]),
        (b'9,"it is 5" long\n8,fine\n7,"another 3" one\n', ["8"], ["line 3", "line 5"]),
        (b'9,"6 inch\n8,"two\nlines"\n', ["8"], ["line 3"]),
        (b'9,"two\nlines",more,still\n', [], ["line 3", "line 4"]),
        (b'9,"one\ntwo, three\nfour",more\n', [], ["line 3", "line 4", "line 5"]),
        (b'9,"caf\xe9\n8,fine\n', ["8"], ["byte 21"]),
        (b'9,"6 inch\n8,caf\xe9\n', [], ["line 3", "byte 30"]),
        (b'9,"two\ncaf\xe9"\n', [], ["byte 25"]),
    ],
)
def test_a_stray_quote_costs_no_line_but_its_own(middle: bytes, accepted: list[str], refused: list[str]) -> None:
    rows = read("a.csv", b"id,text\n1,fine\n" + middle + b"2,fine\n3,fine\n")
    assert ids(rows) == ["1", *accepted, "2", "3"]
    assert [row.place for row in rows if isinstance(row, Refusal)] == refused


def test_a_stray_quote_before_the_break_of_a_compressed_file_costs_no_line_but_its_own() -> None:
    content = gzip.compress(b'id,text\n1,"6 inch\n2,fine\n') + gzip.compress(b"3,lost\n")[:-1]
    assert read("a.csv.gz", content)[:2] == [Refusal("line 2", Reason.LINE_NOT_CSV), Record("line 3", "2", "fine")]
    assert read("a.csv.gz", content)[-1].reason == Reason.FILE_TRUNCATED  # type: ignore[union-attr]


@pytest.mark.parametrize("count", range(1, 5))
def test_every_line_of_a_csv_file_is_read_or_refused(count: int) -> None:
    forms = ("1,a", '2,"b"', '3,"c', 'd"', 'e","', '"f""', "", "g,h,i", '"",""')
    for lines in itertools.product(forms, repeat=count):
        content = "".join(f"{line}\n" for line in lines)
        rows = read("a.csv", b"id,text\n" + content.encode())
        expected: list[list[str]] | None = None
        with contextlib.suppress(csv.Error):
            expected = [fields for fields in csv.reader(io.StringIO(content, newline=""), strict=True) if fields]
        if expected is not None and {len(fields) for fields in expected} <= {2}:
            assert [[row.id, row.text] for row in rows if isinstance(row, Record)] == expected
        seen = [
            int(row.place[5:]) + line
            for row in rows
            for line in range(1 + (f"{row.id}{row.text}".count("\n") if isinstance(row, Record) else 0))
        ]
        assert len(seen) == len(set(seen))
        assert {number for number, line in enumerate(lines, 2) if line} <= set(seen) <= set(range(2, count + 2))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("line", [b'a","\n', b'1,"x\n', b'"\n'])
def test_a_csv_file_of_stray_quotes_is_read_in_linear_time(line: bytes) -> None:
    assert len(read("a.csv", b"id,text\n" + line * 150_001)) == 150_001


def test_a_csv_field_may_exceed_the_limit_of_the_csv_module() -> None:
    assert len(str(read("a.csv", b"id,text\n1," + b"x" * 200_000 + b"\n")[0].text)) == 200_000  # type: ignore[union-attr]


def test_a_csv_record_that_is_too_long_is_refused_and_the_next_one_read() -> None:
    rows = read("a.csv", b'id,text\n1,"' + (b"x" * 1023 + b"\n") * (18 << 10) + b'"\n2,fine\n')
    assert rows[0] == Refusal("line 2", Reason.LINE_TOO_LONG)
    assert ids(rows)[-1:] == ["2"]


@settings(max_examples=400, derandomize=True, deadline=None)
@given(
    st.lists(st.one_of(st.just(ODD_LINES[0]), st.sampled_from(ODD_LINES)), max_size=12),
    st.integers(1, 60),
    st.integers(1, 3),
    st.sampled_from([10, 70, 200, 1_000]),
    st.integers(3, 100),
    st.booleans(),
)
@example([b"1,fine"] * 40 + [b'16,"' + b"l\n" * 40 + b'"'] + [b"1,fine"] * 3, 60, 1, 1_000, 10_000, True)
def test_what_is_read_together_has_the_verdict_of_each_record_alone(
    lines: list[bytes], few: int, together: int, limit: int, blocks: int, ends: bool
) -> None:
    content = b"id,text\n" + b"\n".join(lines) + b"\n" * ends
    wanted = {"_FEW_BYTES": 1 << 30, "_MAX_RECORD_LINES": 30}
    mixed = {**wanted, "_FEW_BYTES": few, "_FEW_RECORDS": together, "_MOST_BYTES": 4 * few}
    assert parsed(content, limit, blocks, mixed) == parsed(content, limit, blocks, wanted)


def parsed(content: bytes, limit: int, block: int, constants: dict[str, int]) -> list[Record | Refusal]:
    """Read what comes in blocks of some lines."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in constants.items():
            patch.setattr(csv_rows, name, value)
        pieces = (content[at : at + block] for at in range(0, len(content), block))
        patch.setattr(streams, "_TOGETHER", block)
        return one_by_one(csv_rows.read_csv(streams.whole_lines(pieces, limit), "a.csv", SOURCE, limit))


def test_the_break_of_a_file_is_told_by_the_line_that_could_not_be_read() -> None:
    whole = gzip.compress(b"id,text\n" + b"1,fine\n" * 100_000)
    rows = read("a.csv.gz", whole + gzip.compress(b"2,lost\n")[:-1])
    assert rows[-1] == Refusal("line 100003", Reason.FILE_TRUNCATED)


@pytest.mark.parametrize("bad", [b"", b'1,"stray\n', b"1,caf\xe9\n", b"1,more,fields\n"])
def test_all_but_some_kilobytes_at_the_start_and_at_a_bad_line_are_read_together(bad: bytes) -> None:
    half = b"".join(b'%d,"a ""film"" of\n two lines"\n' % number for number in range(20_000))
    content = b"id,text\n" + half + bad + half
    found = list(read_rows(io.BytesIO(content), "a.csv", len(content), SOURCE, Limits()))  # type: ignore[arg-type]
    alone = [row for row in found if not isinstance(row, Columns)]
    assert sum(len(columns.places) for columns in found if isinstance(columns, Columns)) + len(alone) == 40_000 + bool(
        bad
    )
    assert [row.reason for row in alone if isinstance(row, Refusal)] != [] or not bad
    assert len(alone) < 2 * 1_024 + 3 * 8_192 // 30
