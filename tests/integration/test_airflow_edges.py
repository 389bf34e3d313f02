"""Where people meet the loop on a real Airflow: alerts, forms, REST examples, a range, an approval."""

import json
from urllib.parse import quote

import pytest

from laptop.process import processes_under
from llambert_etl.errors import ConfigError
from llambert_etl.schemas import TableName
from tests.airflow.loop import (
    FIRST,
    FOURTH,
    HISTORY,
    SAMPLE,
    SECOND,
    TASK,
    THIRD,
    Loop,
    Moment,
    same,
)
from tests.fakes.webhook import PATH, Webhook

pytestmark = pytest.mark.timeout(600)


def test_a_failed_gate_is_told_to_the_tasks_channel_whose_address_no_log_shows(
    loop: Loop, channel: Webhook, refused: Moment
) -> None:
    run = refused.named["label"]
    (text,) = [text for text in channel.texts if run.run_id in text]
    assert text.startswith(f"{TASK}__label {FIRST}: step check_labels was refused: ")
    assert "expected &gt;= 0.05" in text
    assert f"{loop.stack.airflow.url}/dags/{TASK}__label/runs/" in text
    assert f"/llambert/reports/{TASK}/{FIRST}/labels-" in text
    assert PATH not in "".join(loop.log(run, loop.steps(run)["check_labels"]))
    assert any(f"{TASK}__ingest {FOURTH}: step check_documents was refused" in text for text in channel.texts)


def test_a_range_is_labelled_again_day_by_day_and_what_is_the_champions_stays(
    loop: Loop, refused: Moment, mended: Moment
) -> None:
    run = mended.named["relabel"]
    log = loop.log(run, loop.steps(run)["relabel"])
    assert any("no documents, so nothing to label: 2020-01-01, 2020-01-02" in line for line in log)
    for day in (FIRST, SECOND):
        assert len(mended.runs_of("label", day)) == len(refused.runs_of("label", day)) + 1
    assert len(mended.runs_of("label", THIRD)) == len(refused.runs_of("label", THIRD))
    assert same(mended, refused, "labels")


@pytest.mark.parametrize("conf", [{"first": FIRST}, {"first": "yesterday", "last": FIRST}, {"first": 1, "last": 2}])
def test_a_form_with_a_value_that_is_no_day_is_refused(loop: Loop, mended: Moment, conf: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="400"):
        loop.trigger("relabel", None, **conf)


def test_a_move_by_hand_is_entered_and_put_right_by_a_promotion_that_somebody_approved(
    loop: Loop, mended: Moment, approved: Moment
) -> None:
    assert mended.tables["promotions"].height == 1
    by_hand, put_right = approved.tables["promotions"].sort("number").tail(2).iter_rows(named=True)
    assert (by_hand["from_version"], by_hand["to_version"], by_hand["moved_by"]) == (1, 2, "by hand")
    assert (put_right["from_version"], put_right["to_version"], put_right["moved_by"]) == (2, 1, "promote")
    assert json.loads(put_right["evidence"])["approved"] == f"{loop.stack.airflow.username}: fewer false positives"
    for day in HISTORY:
        assert len(approved.runs_of("label", day)) == len(mended.runs_of("label", day)) + 1
    assert same(approved, mended, "labels")


def test_the_question_has_both_versions_numbers_and_the_labels_that_would_change(
    loop: Loop, channel: Webhook, approved: Moment
) -> None:
    run = approved.named["retrain"]
    path = f"dags/{run.dag}/dagRuns/{quote(run.run_id, safe='')}/taskInstances/approve/-1/hitlDetails"
    body = loop.client.request("GET", path)["body"]
    assert f"| version | [1]({loop.stack.mlflow.uri}/#/models/llambert.{TASK}/versions/1) | [2](" in body
    assert "| strategy | llm | gold |" in body
    served = approved.tables["labels"].height
    assert f"**Labels that would change:** about 0 of {served} (0.0%)" in body
    assert any("required_actions" in text for text in channel.texts)


def test_no_secret_and_no_text_is_in_airflow_s_database_its_logs_or_any_server_s_arguments(
    loop: Loop, approved: Moment
) -> None:
    stack = loop.stack
    secrets = [stack.s3.secret_key, stack.s3.reader_secret_key, stack.mlflow.password, PATH]
    kept = {path: path.read_bytes() for path in stack.airflow.folder.rglob("*") if path.is_file()}
    assert any(content.startswith(b"SQLite format 3") for content in kept.values())
    assert any(b"Starting: llambert train" in content for content in kept.values())
    texts = [text for text in approved.accepted()["text"] if len(text) > 40]
    assert [
        path for path, content in kept.items() if any(each.encode() in content for each in [*secrets, *texts])
    ] == []
    commands = [" ".join(process.cmdline()) for process in processes_under(stack.state)]
    assert any("scheduler" in command for command in commands)
    assert not any(secret in command for secret in secrets for command in commands)


def test_every_example_of_the_document_was_run(loop: Loop, approved: Moment) -> None:
    assert loop.examples.ran == set(loop.examples.code)


def test_parameters_of_a_trigger_reach_the_steps(loop: Loop, approved: Moment) -> None:
    run = approved.named["retrain"]
    steps = loop.steps(run)
    for name, options in (("annotate", f"--sample={SAMPLE}"), ("train", f"--strategy=llm --sample={SAMPLE}")):
        assert any(line.endswith(options) for line in loop.log(run, steps[name]) if "Starting: llambert" in line)


def test_a_second_retrain_on_the_same_day_adds_neither_annotation_nor_gold_nor_version(
    loop: Loop, second_night: Moment, approved: Moment
) -> None:
    tables: tuple[TableName, ...] = ("annotations", "gold")
    for table in tables:
        assert same(approved, second_night, table)
        assert approved.versions[table] == second_night.versions[table]
    assert [version.version for version in loop.registry.versions(TASK)] == [2, 1]
