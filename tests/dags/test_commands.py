"""The exact argv of every step, in every Dag."""

from pathlib import Path

import pytest

from llambert_etl.errors import ConfigError
from llambert_etl.orchestration import commands
from tests.dags.conftest import write_task
from tests.dags.deployed import build, films

WHO_AND_WHEN = "--task films --expect HASH --partition {{ partition_key }} --run {{ run_id }}"

GOLDEN = {
    ("ingest", "ingest"): f"ingest {WHO_AND_WHEN} {commands.MISSED}",
    ("ingest", "training_due"): f"training-due {WHO_AND_WHEN} {{{{ '--force' if params.force_retrain else '' }}}}",
    ("retrain", "still_due"): f"training-due {WHO_AND_WHEN} {commands.FORCED}",
    ("retrain", "gold_import"): f"gold import INCLUDE/gold/films.parquet {WHO_AND_WHEN}",
    ("retrain", "annotate"): f"annotate {WHO_AND_WHEN} "
    "{{ '--strategy=' ~ params.strategy if params.strategy is not none else '' }} "
    "{{ '--sample=' ~ params.sample if params.sample is not none else '' }}",
    ("retrain", "check_annotations"): f"check annotations {WHO_AND_WHEN} "
    "{{ '--strategy=' ~ params.strategy if params.strategy is not none else '' }} "
    "{{ '--sample=' ~ params.sample if params.sample is not none else '' }}",
    ("retrain", "train"): f"train {WHO_AND_WHEN} "
    "{{ '--strategy=' ~ params.strategy if params.strategy is not none else '' }} "
    "{{ '--sample=' ~ params.sample if params.sample is not none else '' }} "
    "{{ '--' ~ params.labels ~ '-labels' if params.labels is not none else '' }}",
    ("retrain", "promote"): f"promote {WHO_AND_WHEN}",
    ("label", "plan"): f"plan {WHO_AND_WHEN} "
    "{{ '--model-version=' ~ params.model_version if params.model_version is not none else '' }}",
    ("label", "check_labels"): f"check labels {WHO_AND_WHEN}",
    ("label", "publish"): f"publish {WHO_AND_WHEN}",
    ("study", "study"): f"study {{{{ params.kind }}}} {WHO_AND_WHEN.replace('partition_key', 'params.as_of')} "
    "{{ '--seeds=' ~ params.seeds if params.seeds is not none else '' }}",
    ("relabel", "relabel"): "relabel --task films --expect HASH --partition {{ params.first }} --run {{ run_id }} "
    "--upto {{ params.last }}",
    ("maintain", "maintain"): "maintain "
    "{{ '--retention-days=' ~ params.retention_days if params.retention_days is not none else '' }}",
}


def test_each_step_runs_exactly_this_command(include: Path) -> None:
    found = {
        (kind, step.task_id): " ".join(getattr(part, "value", part) for part in step.arguments)
        .replace(str(include), "INCLUDE")
        .replace(films().config_hash, "HASH")
        for kind in ("ingest", "retrain", "label", "study", "relabel", "maintain")
        for step in build(kind).tasks
        if not step.is_mapped and hasattr(step, "arguments")
    }
    assert found == GOLDEN


def test_each_shard_and_each_ingested_day_has_its_own_command() -> None:
    task = films()
    known = f"--task films --expect {task.config_hash}"
    assert commands.label_shards(task, "2026-11-10", "run-1", 2) == [
        f"label {known} --partition 2026-11-10 --run run-1 --shard 0".split(),
        f"label {known} --partition 2026-11-10 --run run-1 --shard 1".split(),
    ]
    assert commands.document_checks(task, ["2026-11-10", "2026-11-07"], "run-1") == [
        f"check documents {known} --partition 2026-11-10 --run run-1".split(),
        f"check documents {known} --partition 2026-11-07 --run run-1".split(),
    ]


def test_what_a_task_file_names_is_not_rendered_and_so_reads_no_connection(include: Path) -> None:
    write_task(include, "films", 'gold: "gold/{{ run_id }}.parquet"')
    step = build("retrain").get_task("gold_import")
    step.render_template_fields({"run_id": "run-1", "partition_key": "2026-11-10"})
    assert step.arguments[2] == str(include / "gold/{{ run_id }}.parquet")
    assert step.arguments[-1] == "run-1"


def test_an_option_that_the_form_left_empty_is_not_passed() -> None:
    assert commands.rendered(["train", "--partition", "2026-11-10", ""]) == ["train", "--partition", "2026-11-10"]


@pytest.mark.parametrize("key", ["None", "", "today", "2026-02-30", "2026-11-10T00:00:00"])
def test_a_partition_that_is_no_day_is_refused_before_anything_starts(key: str) -> None:
    with pytest.raises(ConfigError, match="partition"):
        commands.rendered(["ingest", "--task", "films", "--partition", key, "--run", "r"])
