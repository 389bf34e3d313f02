"""Whole Dag runs, with a fake `llambert` that answers as told."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import BaseOperator

from llambert_etl.orchestration import commands
from tests.dags.conftest import write_task

DAY, LATE = "2026-11-10", "2026-11-07"
RunDag = Callable[..., Any]
DUE = {"training-due": {"facts": {"due": True}}}


def test_each_ingested_day_is_checked_and_announced_and_training_that_is_not_due_is_not(
    cli: Any, run_dag: RunDag
) -> None:
    cli.reply(ingest={"facts": {"late_partitions": [LATE]}}, **{"training-due": {"facts": {"due": False}}})
    run = run_dag("ingest", DAY)
    assert run.states == {
        "ingest": "success",
        "days": "success",
        "check_documents": "success",
        "training_due": "skipped",
    }
    assert run.announced == {("films__documents", DAY), ("films__documents", LATE)}
    assert cli.steps == ["ingest", "check documents", "check documents", "training-due"]
    assert {call[call.index("--partition") + 1] for call in cli.calls[1:3]} == {DAY, LATE}


def test_late_documents_that_are_refused_are_not_announced_but_those_of_the_night_are(
    cli: Any, run_dag: RunDag
) -> None:
    cli.reply(
        ingest={"facts": {"late_partitions": [LATE]}},
        check_documents={"exit": 65, "only": LATE, "reason": "gate: 80 % of the rows were rejected"},
    )
    run = run_dag("ingest", DAY)
    assert (run.state, run.announced) == ("failed", {("films__documents", DAY)})


def test_training_that_is_due_is_announced_for_the_day(cli: Any, run_dag: RunDag) -> None:
    cli.reply(**{"training-due": {"facts": {"due": True}}})
    run = run_dag("ingest", DAY, run_conf={"force_retrain": True})
    assert ("films__training_due", DAY) in run.announced
    assert cli.calls[-1][-1] == "--force"


def test_a_retrain_that_another_has_made_needless_ends_before_the_llm_is_asked(cli: Any, run_dag: RunDag) -> None:
    cli.reply(**{"training-due": {"facts": {"due": False, "reason": "already trained"}}})
    run = run_dag("retrain", DAY)
    assert set(run.states.values()) == {"skipped"}
    assert cli.steps == ["training-due"]


@pytest.mark.parametrize(
    ("kind", "forced", "passed"),
    [("manual", [], True), ("asset_triggered", [False, True], True), ("asset_triggered", [False], False)],
)
def test_a_retrain_asks_for_reasons_unless_somebody_wanted_it(kind: str, forced: list[bool], passed: bool) -> None:
    events = {"training_due": [SimpleNamespace(extra={"forced": each}) for each in forced]}
    context = {"dag_run": SimpleNamespace(run_type=kind), "triggering_asset_events": events}
    rendered = BaseOperator(task_id="any").render_template(commands.FORCED, context)
    assert rendered == ("--force" if passed else "")


@pytest.mark.parametrize(("kind", "looks"), [("scheduled", True), ("backfill", False), ("manual", False)])
def test_only_a_night_looks_for_days_that_were_missed(kind: str, looks: bool) -> None:
    context = {"dag_run": SimpleNamespace(run_type=kind)}
    rendered = BaseOperator(task_id="any").render_template(commands.MISSED, context)
    assert rendered == ("--missed" if looks else "")


def test_refused_documents_stop_the_run_and_announce_nothing(cli: Any, run_dag: RunDag) -> None:
    cli.reply(check_documents={"exit": 65, "reason": "gate: 80 % of the rows were rejected"})
    run = run_dag("ingest", DAY)
    assert run.states["check_documents"] == "failed"
    assert run.states["training_due"] == "upstream_failed"
    assert run.announced == set()
    assert cli.steps == ["ingest", "check documents"]


def test_a_run_without_a_partition_key_fails_before_any_step_starts(cli: Any, run_dag: RunDag) -> None:
    for kind, first in (("ingest", "ingest"), ("retrain", "still_due"), ("label", "plan")):
        assert run_dag(kind, None).states[first] == "failed"
    assert cli.calls == []


def test_promotion_brings_back_every_live_partition(cli: Any, run_dag: RunDag) -> None:
    cli.reply(**DUE, promote={"facts": {"decision": "promoted", "bring_back": ["2026-11-08", "2026-11-09", DAY]}})
    run = run_dag("retrain", DAY, run_conf={"sample": 50, "strategy": "combined", "labels": "soft"})
    assert run.state == "success"
    assert run.announced == {("films__champion", day) for day in ("2026-11-08", "2026-11-09", DAY)}
    by_step = dict(zip(cli.steps, cli.calls, strict=True))
    assert "--sample=50" in by_step["annotate"]
    assert all("--strategy=combined" in by_step[step] for step in ("annotate", "check annotations", "train"))
    assert [step for step, call in by_step.items() if "--soft-labels" in call] == ["train"]


@pytest.mark.parametrize(("chosen", "asked"), [("gold", False), ("llm", True), (None, True)])
def test_training_on_gold_alone_pays_for_no_llm(cli: Any, run_dag: RunDag, chosen: str | None, asked: bool) -> None:
    cli.reply(**DUE, promote={"facts": {"decision": "kept"}})
    run = run_dag("retrain", DAY, run_conf={"strategy": chosen})
    assert [step in cli.steps for step in ("annotate", "check annotations", "train", "promote")] == [
        asked,
        asked,
        True,
        True,
    ]
    assert (run.state, run.states["annotate"]) == ("success", "success" if asked else "skipped")


def test_annotations_that_fail_their_gate_are_not_trained_on(cli: Any, run_dag: RunDag) -> None:
    cli.reply(**DUE, check_annotations={"exit": 65, "reason": "gate: one label only"})
    run = run_dag("retrain", DAY)
    assert (run.states["check_annotations"], run.states["train"]) == ("failed", "upstream_failed")
    assert "train" not in cli.steps


def test_a_champion_that_stays_brings_back_nothing(cli: Any, run_dag: RunDag) -> None:
    cli.reply(**DUE, promote={"facts": {"decision": "kept", "reason": "the candidate is no better"}})
    run = run_dag("retrain", DAY)
    assert (run.state, run.states["announce_champion"], run.announced) == ("success", "skipped", set())


def test_each_shard_of_the_plan_is_labelled_before_the_labels_are_published(cli: Any, run_dag: RunDag) -> None:
    cli.reply(plan={"facts": {"shards": 3, "fresh": False, "skip": None}})
    run = run_dag("label", DAY)
    assert run.state == "success"
    assert cli.steps == ["plan", "label", "label", "label", "check labels", "publish"]
    # Mapped shards run side by side: which of them is first is nobody's promise.
    assert sorted(call[-2:] for call in cli.calls[1:4]) == [["--shard", "0"], ["--shard", "1"], ["--shard", "2"]]
    assert len({call[call.index("--run") + 1] for call in cli.calls}) == 1
    assert run.announced == {("films__labels", DAY)}


def test_a_move_by_hand_that_a_label_run_found_brings_the_other_days_back(cli: Any, run_dag: RunDag) -> None:
    cli.reply(plan={"facts": {"shards": 1, "bring_back": [LATE]}})
    assert run_dag("label", DAY).announced == {("films__champion", LATE), ("films__labels", DAY)}


def test_a_relabel_announces_the_days_that_its_step_has_found(cli: Any, run_dag: RunDag) -> None:
    cli.reply(relabel={"facts": {"bring_back": [LATE, DAY]}})
    form = {"first": "2026-11-01", "last": DAY}
    run = run_dag("relabel", None, run_conf=form)
    assert run.announced == {("films__champion", LATE), ("films__champion", DAY)}
    (call,) = cli.calls
    assert (call[call.index("--partition") + 1], call[-2:]) == ("2026-11-01", ["--upto", DAY])


def test_a_relabel_without_any_day_announces_nothing(cli: Any, run_dag: RunDag) -> None:
    cli.reply(relabel={"facts": {"bring_back": []}})
    run = run_dag("relabel", None, run_conf={"first": LATE, "last": LATE})
    assert (run.states, run.announced) == ({"relabel": "skipped"}, set())


def test_label_run_before_any_champion_is_skipped_and_announces_nothing(cli: Any, run_dag: RunDag) -> None:
    cli.reply(plan={"facts": {"shards": 0, "fresh": False, "skip": "there is no champion yet"}})
    run = run_dag("label", DAY)
    assert run.states == {
        "plan": "success",
        "shards": "skipped",
        "label_shard": "skipped",
        "check_labels": "skipped",
        "publish": "skipped",
    }
    assert (run.state, run.announced, cli.steps) == ("success", set(), ["plan"])


def test_labels_that_are_up_to_date_are_not_made_again(cli: Any, run_dag: RunDag) -> None:
    cli.reply(plan={"facts": {"shards": 1, "fresh": True, "skip": None}})
    run_dag("label", DAY)
    assert cli.steps == ["plan"]


def test_a_label_run_that_a_newer_one_has_overtaken_announces_nothing(cli: Any, run_dag: RunDag) -> None:
    cli.reply(plan={"facts": {"shards": 1}}, publish={"facts": {"skip": "run 'r2' has published newer labels"}})
    run = run_dag("label", DAY)
    assert (run.state, run.states["publish"], run.announced) == ("success", "skipped", set())


def test_labels_are_exported_once_they_are_published(cli: Any, run_dag: RunDag, include: Path) -> None:
    write_task(include, "films", "export: parquet")
    cli.reply(plan={"facts": {"shards": 1, "fresh": False, "skip": None}})
    assert run_dag("label", DAY).state == "success"
    assert cli.steps == ["plan", "label", "check labels", "publish", "export"]


def test_a_published_day_whose_export_failed_is_exported_when_its_run_is_cleared(
    cli: Any, run_dag: RunDag, include: Path
) -> None:
    write_task(include, "films", "export: {connection: warehouse, table: film_labels}")
    cli.reply(plan={"facts": {"shards": 1, "fresh": True, "skip": None}})
    run = run_dag("label", DAY)
    assert (run.state, run.states["publish"], cli.steps) == ("success", "skipped", ["plan", "export"])


def test_labels_that_fail_their_gate_are_not_exported(cli: Any, run_dag: RunDag, include: Path) -> None:
    write_task(include, "films", "export: parquet")
    cli.reply(
        plan={"facts": {"shards": 1, "fresh": False, "skip": None}}, check_labels={"exit": 65, "reason": "gate: drift"}
    )
    assert run_dag("label", DAY).states["export"] == "upstream_failed"
    assert "export" not in cli.steps


def test_pinned_version_reaches_the_plan(cli: Any, run_dag: RunDag) -> None:
    cli.reply(plan={"facts": {"shards": 1, "fresh": True}})
    run_dag("label", DAY, run_conf={"model_version": 7})
    assert cli.calls[0][-1] == "--model-version=7"


def test_links_of_a_step_lead_to_mlflow_its_data_docs_and_its_partition(cli: Any, run_dag: RunDag) -> None:
    cli.reply(plan={"facts": {"shards": 1, "fresh": True, "model_version": 4}})
    run = run_dag("label", DAY)
    assert run.xcom("plan", "_link_MlflowLink") == "http://127.0.0.1:5000/#/models/llambert.films/versions/4"
    assert run.xcom("plan", "_link_DataDocsLink").startswith(f"/llambert/reports/films/{DAY}/labels-")
    assert run.xcom("plan", "_link_PartitionLink") == f"/llambert/partitions/films/{DAY}"


def test_maintain_runs_without_a_partition(cli: Any, run_dag: RunDag) -> None:
    assert run_dag("maintain", None).state == "success"
    assert cli.calls == [["maintain", "--retention-days=7"]]


def test_a_study_is_asked_for_by_a_form_and_needs_no_partition_key(cli: Any, run_dag: RunDag) -> None:
    form = {"kind": "size", "as_of": DAY, "seeds": "4,5"}
    assert run_dag("study", None, run_conf=form).state == "success"
    (call,) = cli.calls
    assert call[:2] == ["study", "size"]
    assert call[call.index("--partition") + 1] == DAY
    assert call[-1] == "--seeds=4,5"
