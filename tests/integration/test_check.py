"""The check step on a lake: what passes, what stops, and what the report says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from llambert_etl.config import LabellingTask, fingerprint
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.lake import Lake
from llambert_etl.manifest import Manifest
from llambert_etl.partition import Partition
from llambert_etl.quality import profile_labels
from llambert_etl.run import Run
from llambert_etl.steps.check import check_annotations, check_documents, check_staged
from tests.given.tasks import make_task, three_label_task
from tests.unit.quality import frames

DAY = Partition(frames.DAY)
BEFORE = Partition("2026-11-09")
TASK = make_task(annotator={"sample": 300}, gates={"min_label_share": 0.2, "max_drift": 0.1})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path / "lake"))
    made.create_tables()
    return made


def label_rows(task: LabellingTask, counts: list[int], version: int = 1) -> list[dict[str, Any]]:
    names = [name for name, count in zip(task.label_names, counts, strict=True) for _ in range(count)]
    return [{**frames.label_row(task, i, name), "model_version": version} for i, name in enumerate(names)]


def audit(lake: Lake, task: LabellingTask, counts: list[int], version: int = 1, **options: Any) -> Manifest:
    staged = frames.frame("labels", label_rows(task, counts, version))
    given: dict[str, Any] = {"documents_version": lake.version("documents"), "prompt_hash": "p", **options}
    return check_staged(Run(task, DAY, "night"), lake=lake, staged=staged, **given)


def report_of(lake: Lake, kind: str, run: str) -> str:
    found = lake.read_report(TASK.name, DAY, f"{kind}-{fingerprint(run)}.html")
    assert found is not None
    return found


def test_sound_documents_pass_and_the_manifest_holds_profile_outcomes_and_report(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK, BEFORE)
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    manifest = check_documents(Run(TASK, DAY, "night"), lake=lake)
    assert manifest.rows == {"read": 301, "accepted": 300, "rejected": 1}
    assert manifest.reasons == {"empty": 1}
    assert manifest.facts["profile"]["measures"]["recent_accepted"] == 300  # type: ignore[index, call-overload]
    assert all(entry["passed"] for entry in manifest.facts["expectations"])  # type: ignore[union-attr, index, call-overload]
    assert "PASSED" in report_of(lake, "documents", "night")


def test_a_drop_with_only_bad_rows_is_stopped(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK)[-1:], TASK)
    with pytest.raises(DataError) as stopped:
        check_documents(Run(TASK, DAY, "night"), lake=lake)
    assert "accepted documents: observed 0 (empty 1), expected >= 1" in str(stopped.value)
    assert "rejected share: observed 1.00 (empty 1), expected <= 0.50" in str(stopped.value)


def test_a_day_that_was_never_ingested_is_no_empty_day(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK, BEFORE)
    with pytest.raises(ConfigError, match=f"{DAY}: nothing was ingested for this day; run `llambert ingest` first"):
        check_documents(Run(TASK, DAY, "night"), lake=lake)


def refused_rows(source: str, reason: str, count: int = 1) -> list[dict[str, Any]]:
    row = {**frames.documents(TASK)[-1], "id": None, "source": source, "reason": reason}
    return [{**row, "place": f"row {number}"} for number in range(count)]


def test_a_refused_file_stops_the_day_by_its_name_and_reason_until_the_task_allows_it(lake: Lake) -> None:
    rows = frames.documents(TASK)[:-1]
    rows += refused_rows("s3://landing/day/part-1.parquet", "file_corrupt", 20)
    rows += refused_rows("s3://landing/day/" + "x" * 70 + ".csv", "file_wrong_kind")
    rows += refused_rows("s3://landing/day/_SUCCESS", "marker")
    frames.put(lake, "documents", rows, TASK)
    with pytest.raises(DataError) as stopped:
        check_documents(Run(TASK, DAY, "night"), lake=lake)
    named = f"('part-1.parquet' file_corrupt, 20 rows; '{'x' * 60}' file_wrong_kind)"
    assert f": refused files: observed 2 {named}, expected <= 0 (mend them" in str(stopped.value)
    allowed = make_task(gates={"max_refused_files": 2})
    assert check_documents(Run(allowed, DAY, "night"), lake=lake).rows == {"read": 322, "accepted": 300, "rejected": 22}


def test_of_many_refused_files_a_few_are_named(lake: Lake) -> None:
    rows = [row for number in range(9) for row in refused_rows(f"/landing/{number}.csv", "file_truncated")]
    frames.put(lake, "documents", frames.documents(TASK) + rows, TASK)
    with pytest.raises(DataError, match=r"observed 9 \('0.csv' file_truncated; .*'4.csv' file_truncated \.\.\.\), exp"):
        check_documents(Run(TASK, DAY, "night"), lake=lake)


def test_a_day_on_which_nothing_came_passes_and_says_so(lake: Lake) -> None:
    frames.put(lake, "documents", [], TASK)
    manifest = check_documents(Run(TASK, DAY, "night"), lake=lake)
    assert manifest.rows["read"] == 0
    assert manifest.facts["skipped"] == {"accepted documents": "nothing arrived on this day"}


def test_a_collapsed_annotator_is_stopped_in_one_line_that_names_the_report(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    rows = [
        {**row, "label": "positive", "probabilities": frames.probabilities(TASK, "positive")}
        for row in frames.annotations(TASK)
    ]
    frames.put(lake, "annotations", rows, TASK)
    with pytest.raises(DataError) as stopped:
        check_annotations(Run(TASK, DAY, "night"), lake=lake, prompt_hash="p")
    message = str(stopped.value)
    assert "share of 'negative': observed 0.00 (0 of 300 rows), expected >= 0.20 (gates.min_label_share)" in message
    assert "labels in use: observed 1, expected >= 2" in message
    assert "\n" not in message
    address = message.rsplit("report: ", 1)[1]
    assert Path(address.removeprefix("file://")).read_text().count("FAILED") > 0


def test_the_rarest_label_is_told_with_what_helps_and_passes_where_gold_has_no_more_of_it(
    lake: Lake, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task(annotator={"sample": 300}, gates={"min_label_share": None, "max_drift": 1.0})
    rows = frames.annotations(task)
    for number, row in enumerate(rows):
        name = task.label_names[number >= 6]
        row.update(label=name, probabilities=frames.probabilities(task, name))
    frames.put(lake, "documents", frames.documents(task), task)
    frames.put(lake, "annotations", rows, task)
    caplog.set_level("INFO", "llambert_etl.corpus.rare")
    with pytest.raises(DataError, match=r"6 of 300 rows\), expected >= 0.05 \(gates.min_label_share\)"):
        check_annotations(Run(task, DAY, "night"), lake=lake, prompt_hash="p")
    said = "the rarest label, 'positive', has 6 of 300 rows; a larger annotator.sample has more of it, and gates.min"
    assert said in caplog.text
    # People judged after this day: they found few, and no floor asks for more than half of that.
    gold = [
        {**row, "label": task.label_names[number >= 2]}
        for number, row in enumerate(frames.gold(task, range(100), "test"))
    ]
    frames.put(lake, "gold", gold, task, "2026-11-12")
    assert check_annotations(Run(task, DAY, "night"), lake=lake, prompt_hash="p").rows["labelled"] == 300
    assert audit(lake, task, [6, 294]).rows["read"] == 300
    with pytest.raises(DataError, match="share of 'positive'"):
        audit(lake, task, [2, 298])


def test_a_gate_on_the_annotations_says_for_what_reasons_they_are_unusable(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    unusable = {"status": "unparsed", "label": None, "probabilities": None}
    rows = frames.annotations(TASK)
    rows[:60] = [
        {**row, **unusable, "reason": "empty" if number < 20 else "not_a_label"} for number, row in enumerate(rows[:60])
    ]
    frames.put(lake, "annotations", rows, TASK)
    with pytest.raises(DataError, match=r"unparsed and failed share: observed 0.20 \(not_a_label 40, empty 20\), exp"):
        check_annotations(Run(TASK, DAY, "night"), lake=lake, prompt_hash="p")


def test_a_sample_of_another_size_is_looked_at_whole(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    frames.put(lake, "annotations", frames.annotations(TASK), TASK)
    wide = make_task(annotator={"sample": 100, "extra": 80}, encoder={"strategy": "combined"})
    sizes = [
        check_annotations(Run(task, DAY, "night"), lake=lake, prompt_hash="p", sample_size=size).rows["read"]
        for task, size in ((TASK, 150), (TASK, 200), (wide, None))
    ]
    assert sizes == [150, 200, 180]


def test_only_the_current_sample_and_prompt_are_looked_at_and_an_answer_outdoes_a_failure(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    good = frames.annotations(TASK, 200)
    failures = [{**row, "status": "failed", "label": None, "probabilities": None} for row in good[:100]]
    old_prompt = [{**row, "prompt_hash": "old", "label": "odd"} for row in frames.annotations(TASK, 300)]
    gone = [{**good[0], "text_hash": frames.digest("no longer in the corpus"), "label": "odd"}]
    frames.put(lake, "annotations", failures, TASK)
    frames.put(lake, "annotations", good + old_prompt + gone, TASK)
    manifest = check_annotations(Run(TASK, DAY, "night"), lake=lake, prompt_hash="p")
    assert manifest.rows == {"read": 300, "labelled": 200, "unparsed": 0, "failed": 0, "not_asked": 100}


@pytest.mark.parametrize("task", [TASK, three_label_task()], ids=["two labels", "three labels"])
def test_a_collapsed_encoder_is_stopped(lake: Lake, task: LabellingTask) -> None:
    frames.put(lake, "documents", frames.documents(task), task)
    with pytest.raises(DataError, match="labels in use: observed 1, expected >= 2"):
        audit(lake, task, [300] + [0] * (len(task.labels) - 1))


def test_a_first_label_run_has_no_reference_and_says_so(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    manifest = audit(lake, TASK, [150, 150])
    assert manifest.facts["skipped"] == {"drift": "nothing to compare with yet"}
    assert manifest.rows == {"read": 300, "labelled": 300}


def test_drift_from_the_same_model_on_other_days_is_stopped(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    frames.put(lake, "labels", label_rows(TASK, [150, 150]), TASK, BEFORE)
    with pytest.raises(DataError, match="drift of label shares .* observed 0.1499, expected <= 0.10"):
        audit(lake, TASK, [230, 70])
    assert "model version 1 on other partitions" in report_of(lake, "labels", "night")


def test_a_new_champion_is_compared_with_what_the_partition_serves_now(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    frames.put(lake, "labels", label_rows(TASK, [220, 80]), TASK)
    manifest = audit(lake, TASK, [230, 70], version=2)
    reference = manifest.facts["profile"]["reference"]  # type: ignore[index, call-overload]
    assert reference == {"source": f"labels now served for {DAY}", "counts": {"positive": 220, "negative": 80}}


def test_a_first_label_run_is_compared_with_what_the_encoder_learnt(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    frames.put(lake, "annotations", frames.annotations(TASK), TASK)
    with pytest.raises(DataError, match="drift of label shares"):
        audit(lake, TASK, [240, 60])


def test_documents_that_came_after_the_plan_are_not_missed(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    planned = lake.version("documents")
    frames.put(lake, "documents", frames.documents(TASK, 310), TASK)
    assert audit(lake, TASK, [150, 150], documents_version=planned).rows["read"] == 300
    with pytest.raises(DataError, match="accepted documents without a label: observed 10"):
        audit(lake, TASK, [150, 150])


def test_the_report_opens_offline_and_holds_no_text(lake: Lake) -> None:
    canary = "<script>alert('canary')</script> a private sentence"
    rows = frames.documents(TASK)
    rows[0].update(text=canary, text_hash="<b>not a hash</b>", id="<i>id</i>")
    rows[1].update(text=canary, text_hash=None, id="<i>other</i>")
    frames.put(lake, "documents", rows, TASK)
    with pytest.raises(DataError) as stopped:
        check_documents(Run(TASK, DAY, "<u>night</u>"), lake=lake)
    page = report_of(lake, "documents", "<u>night</u>")
    assert "Content-Security-Policy" in page
    for unwanted in (
        "<script",
        "http:",
        "https:",
        "//",
        "href=",
        "src=",
        "url(",
        "private sentence",
        "<i>",
        "<u>",
        "<b>",
    ):
        assert unwanted not in page.replace("<i class=", ""), unwanted
    assert "private sentence" not in str(stopped.value)


def test_checking_again_gives_the_same_account(lake: Lake) -> None:
    frames.put(lake, "documents", frames.documents(TASK), TASK)
    first, again = (check_documents(Run(TASK, DAY, "night"), lake=lake) for _ in range(2))
    assert first.model_dump(exclude={"seconds"}) == again.model_dump(exclude={"seconds"})


def test_great_expectations_is_not_imported_before_a_check() -> None:
    code = "import sys, llambert_etl.steps.check; sys.exit('great_expectations' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_profiles_do_not_depend_on_the_order_of_rows() -> None:
    rows = frames.frame("labels", frames.labels(TASK))
    shuffled = rows.collect().sample(fraction=1.0, shuffle=True, seed=3).lazy()
    one, other = (profile_labels(frame, rows, TASK.label_names) for frame in (rows, shuffled))
    assert one.measures == other.measures
    assert isinstance(one.rows, pl.DataFrame)
    assert one.rows.sort("id").equals(other.rows.sort("id"))
