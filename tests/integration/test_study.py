"""study: what is trained, measured, kept and told, on a tiny encoder and a real tracking server."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from mlflow import MlflowClient

from llambert_etl.config import StudyKind
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.study import study
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.subject import Progress, Subject
from tests.given.school import DAY, School
from tests.given.tasks import make_task, three_label_task
from tests.unit.quality import frames


def run_study(school: School, kind: StudyKind, out: Path, progress: Progress | None = None, **plan: Any) -> Manifest:
    subject = Subject(
        run=Run(school.task, DAY, "night"),
        plan=StudyPlan.model_validate(plan),
        prompt_hash="p",
        lake=school.lake,
        settings=school.settings,
    )
    return study(kind, subject, registry=school.registry, out=out, progress=progress or (lambda done, total: None))


def told(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "study.json").read_text()))


@pytest.fixture
def school(usable: Settings) -> School:
    return School(usable, make_task(annotator={"sample": 30, "extra": 10}))


def test_strategies_stand_side_by_side_each_with_its_own_rows(school: School, tmp_path: Path) -> None:
    done = run_study(school, "strategies", tmp_path, seeds=[1, 2])
    assert {line["series"]: line["details"]["rows"] for line in told(tmp_path)["lines"]} == {
        "gold": "12",
        "llm": "30",
        "llm+extra": "40",
        "combined": "40 then 12",
    }
    assert done.rows == {"read": 8, "measured": 8, "measured_before": 0}
    assert {line["seeds"] for line in told(tmp_path)["lines"]} == {2}
    assert set(done.facts["findings"]) == {"llm - gold", "llm+extra - gold", "combined - gold"}  # type: ignore[arg-type]


def test_the_first_stage_of_combined_is_what_its_llm_labels_alone_give(school: School, tmp_path: Path) -> None:
    combined = run_study(school, "strategies", tmp_path, seeds=[1], strategies={"compare": ["combined"]})
    after = run_study(school, "strategies", tmp_path, seeds=[1], strategies={"compare": ["llm+extra"]})
    assert (combined.rows["measured"], after.rows["measured"]) == (1, 0)
    # Trained by itself, in a lake that knows nothing of the other, it comes to the same.
    alone = School(school.settings, school.task)
    alone.task = school.task.model_copy(update={"name": alone.task.name})
    fresh = run_study(alone, "strategies", tmp_path / "alone", seeds=[1], strategies={"compare": ["llm+extra"]})
    assert fresh.rows["measured"] == 1
    assert fresh.facts["accuracy"] == after.facts["accuracy"]


def test_a_study_that_is_run_again_trains_nothing_and_logs_the_same_run(school: School, tmp_path: Path) -> None:
    first = run_study(school, "size", tmp_path, seeds=[1], size={"strategies": ["gold"], "rows": [8, 12]})
    again = run_study(school, "size", tmp_path, seeds=[1], size={"strategies": ["gold"], "rows": [8, 12]})
    assert (first.rows["measured"], again.rows["measured"], again.rows["measured_before"]) == (2, 0, 2)
    assert again.facts["mlflow_run"] == first.facts["mlflow_run"]
    assert again.facts["accuracy"] == first.facts["accuracy"]


def test_a_study_that_is_kept_in_another_folder_is_the_same_study(school: School, tmp_path: Path) -> None:
    plan: dict[str, Any] = {"seeds": [1], "strategies": {"compare": ["gold"]}}
    here, there = (run_study(school, "strategies", tmp_path / name, **plan) for name in ("here", "there"))
    assert there.facts["mlflow_run"] == here.facts["mlflow_run"]
    assert (here.facts["folder"], there.facts["folder"]) == (str(tmp_path / "here"), str(tmp_path / "there"))
    assert told(tmp_path / "here") == told(tmp_path / "there")


def test_a_study_that_was_cut_off_goes_on_with_the_point_it_was_at(school: School, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    plan: dict[str, Any] = {"seeds": [1], "size": {"strategies": ["gold"], "rows": [8, 10, 12]}}
    with pytest.raises(KeyboardInterrupt):
        run_study(school, "size", tmp_path, stop, **plan)
    assert not (tmp_path / "study.json").exists()
    again = run_study(school, "size", tmp_path, **plan)
    assert again.rows == {"read": 3, "measured": 2, "measured_before": 1}


def test_wrong_labels_are_learnt_by_a_body_that_learns_and_by_one_that_is_frozen(
    usable: Settings, tmp_path: Path
) -> None:
    school = School(usable, three_label_task())
    varied = {"shares": [0.0, 0.5], "bodies": ["trained", "frozen"]}
    done = run_study(school, "mislabelling", tmp_path, seeds=[1], mislabelling=varied)
    lines = told(tmp_path)["lines"]
    assert [(line["series"], line["x"]) for line in lines] == [
        ("uniform errors, body trained", 0.0),
        ("uniform errors, body frozen", 0.0),
        ("uniform errors, body trained", 0.5),
        ("uniform errors, body frozen", 0.5),
    ]
    assert "wrong on 0.0% of gold" in str(done.facts["findings"])


def test_the_table_and_the_plot_are_in_mlflow_and_in_the_folder(school: School, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run_study(school, "strategies", out, seeds=[1], strategies={"compare": ["gold"]})
    assert {path.name for path in out.iterdir()} == {"study.json", "table.md", "plot.png"}
    assert "| gold | " in (out / "table.md").read_text()
    client = MlflowClient(school.settings.mlflow_uri)
    run = str(done.facts["mlflow_run"]).rpartition("/")[2]
    assert {entry.path for entry in client.list_artifacts(run)} == {"study.json", "table.md", "plot.png"}
    assert client.get_run(run).data.metrics["accuracy.gold"] == told(out)["lines"][0]["accuracy"]


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(school: School, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("notes")
    with pytest.raises(ConfigError, match="taken' cannot be written: .* give another by --out"):
        run_study(school, "strategies", tmp_path / "taken", lambda done, total: pytest.fail("something was trained"))


def test_a_task_without_gold_cannot_be_studied(usable: Settings, tmp_path: Path) -> None:
    school = School(usable, make_task())
    school.task = school.task.model_copy(update={"name": "nobody_judged"})
    with pytest.raises(ConfigError, match="no gold test rows"):
        run_study(school, "strategies", tmp_path)


def test_a_strategy_without_rows_of_every_label_is_refused_before_anything_is_trained(
    usable: Settings, tmp_path: Path
) -> None:
    school = School(usable.model_copy(update={"model_paths": {}}), make_task())
    with pytest.raises(DataError, match=r"gold at 2 .*two rows or more of every label"):
        run_study(school, "size", tmp_path, size={"strategies": ["gold"], "rows": [2, 12]})


def test_soft_targets_are_refused_where_the_llm_gave_no_probabilities(school: School, tmp_path: Path) -> None:
    school.task = school.task.model_copy(update={"name": f"{school.task.name}_generated"})
    said = [{**row, "probabilities": None} for row in frames.annotations(school.task, 60)]
    for table, rows in (("annotations", said), ("documents", frames.documents(school.task, 60))):
        frames.put(school.lake, table, rows, school.task)  # type: ignore[arg-type]
    frames.put(school.lake, "gold", frames.gold(school.task, range(12), "test"), school.task)
    with pytest.raises(DataError, match="gave none with its 48 labels; ask it with `method: score`"):
        run_study(school, "strategies", tmp_path, strategies={"compare": ["llm"], "targets": ["hard", "soft"]})


def test_no_text_that_gold_tests_on_is_learnt_from(school: School) -> None:
    from llambert_etl.studies.data import read_pools

    copies = [{**row, "id": f"copy of {row['id']}"} for row in frames.gold(school.task, range(24, 36), "test")]
    frames.put(school.lake, "gold", copies, school.task)
    pools = read_pools(school.task, DAY, school.lake, "p")
    tested = pools.test["text_hash"].to_list()
    assert pools.test.height == 24
    assert pools.llm.height == 36
    assert pools.gold.filter(pl.col("text_hash").is_in(tested)).is_empty()


def test_a_study_names_the_tables_as_they_were_when_it_began(school: School, tmp_path: Path) -> None:
    before = {table: school.lake.version(table) for table in ("documents", "annotations", "gold")}  # type: ignore[arg-type]

    def judged_meanwhile(done: int, total: int) -> None:
        frames.put(school.lake, "gold", frames.gold(school.task, range(24, 30), "test"), school.task)

    plan: dict[str, Any] = {"seeds": [1], "strategies": {"compare": ["gold"]}}
    done = run_study(school, "strategies", tmp_path, judged_meanwhile, **plan)
    assert school.lake.version("gold") == before["gold"] + 1
    assert done.versions_read == before
    assert [line["tested"] for line in told(tmp_path)["outcomes"]] == [12]
