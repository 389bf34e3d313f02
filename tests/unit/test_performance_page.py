"""The page about costs says what was measured."""

from benchmarks.costs import PAGE, page, targets


def test_the_tables_are_those_of_the_evidence() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write them again: .venv/bin/python -m benchmarks.costs"


def test_every_target_says_whether_it_is_met() -> None:
    assert {target.row()[-1] for target in targets()} <= {"met", "missed"}
    assert PAGE.with_suffix(".png").is_file()
