"""The table and the plot of a study."""

import re
from pathlib import Path

import pytest

from llambert_etl.config import StudyKind
from llambert_etl.studies.report import plot, table
from llambert_etl.studies.summary import Details, Line


def line(shots: float, details: Details) -> Line:
    return Line("clear", shots, 1, 0.9, 0.8, 0.95, 0.9, 1_000, details)


def test_what_is_known_of_some_points_only_is_a_column_all_the_same() -> None:
    asked_before: Details = {"unparsed, %": 0.0}
    asked_now: Details = {"unparsed, %": 0.5, "tokens each": 12_345.6}
    for lines in ([line(0, asked_before), line(2, asked_now)], [line(2, asked_now), line(0, asked_before)]):
        head, _, *rows = table("prompts", lines).splitlines()
        assert head.endswith("| seeds | gold rows | unparsed, % | tokens each |")
        assert sorted(row.rpartition("| 1 |")[2] for row in rows) == [
            " 1,000 | 0 | not known |",
            " 1,000 | 0.5 | 12,346 |",
        ]


@pytest.mark.parametrize(
    ("kind", "places", "shown"),
    [
        ("size", (100, 200, 400, 800, 1_500), ["100", "200", "400", "800", "1,500"]),
        ("size", (100, 12_800, 12_900), ["100", "12,900"]),
        ("prompts", (0, 1, 2), ["0", "1", "2"]),
    ],
)
def test_an_axis_shows_whole_numbers_with_room_between_them(
    tmp_path: Path, kind: StudyKind, places: tuple[int, ...], shown: list[str]
) -> None:
    drawn = plot("title", kind, [line(place, {}) for place in places], tmp_path / "plot.svg").read_text()
    # Letters are drawn as curves; what they say stands beside them.
    assert sorted(re.findall(r'id="xtick_\d+".*?<!-- (.*?) -->', drawn, re.DOTALL)) == sorted(shown)
