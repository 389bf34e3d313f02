"""What holds for every Dag, whatever the task files say."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.dags.conftest import ROOT, write_task

HEAVY = {"torch", "transformers", "mlflow", "great_expectations", "deltalake", "polars", "pyarrow", "boto3"}

DagBag = Any


@pytest.fixture
def bag(include: Path, monkeypatch: pytest.MonkeyPatch) -> DagBag:
    """The Dags as Airflow parses them, with every way to the network closed."""
    from airflow.dag_processing.dagbag import DagBag

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("a Dag file opened a connection while it was parsed")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return DagBag(str(ROOT / "dags"))


def test_every_dag_imports(bag: DagBag) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {
        *(f"films__{kind}" for kind in ("ingest", "retrain", "label", "relabel", "study")),
        "maintain",
    }


def test_every_dag_has_tags_and_documentation_and_does_not_catch_up(bag: DagBag) -> None:
    for dag in bag.dags.values():
        assert "llambert" in dag.tags
        assert dag.doc_md
        assert dag.catchup is False


def test_every_dag_has_a_form_whose_fields_say_what_they_are_for(bag: DagBag) -> None:
    required = {("films__relabel", "first"), ("films__relabel", "last"), ("films__study", "as_of")}
    for dag in bag.dags.values():
        assert dag.params
        for name in dag.params:
            field = dag.params.get_param(name)
            assert field.description.endswith(".")
            assert field.schema["title"]
            assert field.schema["type"]
            if (dag.dag_id, name) not in required:
                field.resolve()


@pytest.mark.parametrize(
    ("dag", "form"),
    [
        ("films__ingest", {"force_retrain": "perhaps"}),
        ("films__retrain", {"sample": 0}),
        ("films__retrain", {"strategy": "guess"}),
        ("films__retrain", {"labels": "firm"}),
        ("films__label", {"model_version": "newest"}),
        ("films__relabel", {"first": "2026-11-31", "last": "2026-12-01"}),
        ("films__study", {"kind": "colours", "as_of": "2026-11-10"}),
        ("films__study", {"as_of": "today"}),
        ("films__study", {"as_of": "2026-11-10", "seeds": "a"}),
        ("maintain", {"retention_days": 0}),
    ],
)
def test_a_form_refuses_what_its_field_does_not_allow(bag: DagBag, dag: str, form: dict[str, object]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    params = bag.dags[dag].params
    with pytest.raises(ParamValidationError):  # noqa: PT012 - the first wrong value raises
        params.update(form)
        params.validate()


def test_every_task_has_an_owner_retries_a_timeout_and_reads_exit_codes(bag: DagBag) -> None:
    from llambert_etl.orchestration.retry import ExitCodePolicy

    for dag in bag.dags.values():
        for task in dag.tasks:
            assert task.owner == ("llambert" if dag.dag_id == "maintain" else "nlp-platform")
            assert task.retries == 2
            assert task.execution_timeout
            # A mapped task keeps its defaults aside until it is expanded.
            policy = task.partial_kwargs["retry_policy"] if task.is_mapped else task.retry_policy
            assert isinstance(policy, ExitCodePolicy)


def test_models_wait_for_a_device_and_promotions_for_each_other(bag: DagBag) -> None:
    pools = {(dag.dag_id, task.task_id): task.pool for dag in bag.dags.values() for task in dag.tasks}
    assert {place: pool for place, pool in pools.items() if pool != "default_pool"} == {
        ("films__retrain", "annotate"): "gpu",
        ("films__retrain", "train"): "gpu",
        ("films__label", "label_shard"): "gpu",
        ("films__study", "study"): "gpu",
        ("films__retrain", "promote"): "registry",
    }
    assert bag.dags["films__retrain"].max_active_runs == 1


def test_every_dag_survives_airflows_serialisation(bag: DagBag) -> None:
    from airflow.serialization.serialized_objects import DagSerialization

    for dag in bag.dags.values():
        restored = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        assert set(restored.task_dict) == set(dag.task_dict)


def test_approval_stands_between_training_and_promotion_where_the_task_asks_for_it(include: Path) -> None:
    from tests.dags.deployed import build

    write_task(include, "films", "retrain: {approval: true}")
    dag = build("retrain")
    assert dag.get_task("approve").upstream_task_ids == {"compare"}
    assert dag.get_task("approve").downstream_task_ids == {"promote"}
    assert dag.get_task("compare").upstream_task_ids == {"train"}
    assert "gold_import" not in dag.task_ids


def test_broken_task_file_is_one_import_error_and_hides_no_other_task(include: Path) -> None:
    from airflow.dag_processing.dagbag import DagBag

    (include / "tasks" / "reviews.yaml").write_text("name: reviews\nlabels: {only: one}\ncolour: red\n")
    bag = DagBag(str(ROOT / "dags"))
    assert {"films__ingest", "films__retrain", "films__label", "films__study", "maintain"} <= set(bag.dags)
    (place, message), *others = bag.import_errors.items()
    assert not others
    assert place.endswith("broken_tasks.py")
    assert "reviews.yaml" in message
    assert "colour" in message


def test_dag_files_import_nothing_heavy(include: Path) -> None:
    parse = "import runpy, sys; before = set(sys.modules); [runpy.run_path(path) for path in sys.argv[1:]]"
    report = "print(*(set(sys.modules) - before))"
    files = [str(path) for path in sorted((ROOT / "dags").glob("*.py"))]
    # Airflow's own imports come first, so that only what our files add is seen.
    code = f"import airflow.dag_processing.dagbag, airflow.sdk; {parse}; {report}"
    done = subprocess.run(
        [sys.executable, "-c", code, *files], env=os.environ, capture_output=True, text=True, timeout=120, check=True
    )
    assert HEAVY.isdisjoint(done.stdout.splitlines()[-1].split())
