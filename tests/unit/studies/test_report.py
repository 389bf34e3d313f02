"""The table of a study."""

from llambert_etl.studies.report import table
from llambert_etl.studies.summary import Details, Line


def line(shots: float, details: Details) -> Line:
    return Line("clear", shots, 1, 0.9, 0.8, 0.95, 0.9, details)


def test_what_is_known_of_some_points_only_is_a_column_all_the_same() -> None:
    asked_before: Details = {"unparsed, %": 0.0}
    asked_now: Details = {"unparsed, %": 0.5, "USD for 1,000": 1.25}
    for lines in ([line(0, asked_before), line(2, asked_now)], [line(2, asked_now), line(0, asked_before)]):
        head, _, *rows = table("prompts", lines).splitlines()
        assert head.endswith("| seeds | unparsed, % | USD for 1,000 |")
        assert sorted(row.rpartition("| 1 |")[2] for row in rows) == [" 0 | not known |", " 0.5 | 1.25 |"]
