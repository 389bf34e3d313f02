"""docker/kubernetes/s3: what each step's identity may do suffices for the step, on a real S3 that holds it to that."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from laptop.credentials import Credentials
from laptop.ports import free_ports
from laptop.seaweed import PORTS
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.lake import Lake
from llambert_etl.partition import Partition
from llambert_etl.registry import Registry
from llambert_etl.run import Run
from llambert_etl.settings import Settings
from llambert_etl.steps.check import check_labels
from llambert_etl.steps.plan import plan
from llambert_etl.steps.promote import promote
from llambert_etl.steps.publish import publish
from llambert_etl.steps.study import study
from llambert_etl.steps.train import train
from llambert_etl.studies.plan import StudyPlan
from llambert_etl.studies.subject import Subject
from tests.given.annotating import NEXT, RuleAnnotator, even, ingest, run_annotate
from tests.given.labelling import DAY, Parity, Shelf, drop, labels, run_shards
from tests.given.tasks import make_task
from tests.models.encoders import pretrained
from tests.processes.policed import PolicedS3
from tests.unit.quality import frames

LAKE = "s3://warehouse/lake"
REFUSED = "the store refuses these credentials"


@pytest.fixture(scope="module")
def policed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PolicedS3]:
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    server = PolicedS3(tmp_path_factory.mktemp("policed"), ports, Credentials(), ("warehouse", "landing"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def given(policed: PolicedS3, tmp_path: Path) -> Callable[[str], Settings]:
    """Settings with the keys of a policy's identity, or of one that may do everything."""

    def given(name: str) -> Settings:
        key, secret = policed.keys.get(name, (policed.access_key, policed.secret_key))
        return Settings(
            lake=LAKE,
            state=tmp_path / "state",
            s3_endpoint=policed.endpoint,
            s3_access_key_id=SecretStr(key),
            s3_secret_access_key=SecretStr(secret),
            shard_rows=4,
            shard_overhead_seconds=0,
            max_shards=3,
        )

    return given


@pytest.fixture
def lake(given: Callable[[str], Settings]) -> Lake:
    """The lake, for Airflow's own tasks."""
    lake = Lake.from_settings(given("worker"))
    lake.create_tables()
    return lake


def test_shards_are_labelled_by_who_may_read_documents_and_stage_labels(
    lake: Lake, given: Callable[[str], Settings]
) -> None:
    task = make_task(name="labelled")
    drop(lake, task, [f"text {number}" for number in range(10)])
    plan(Run(task, DAY, "r1"), lake=lake, registry=Shelf(task, 1), settings=given("worker"))  # type: ignore[arg-type]
    limited = Lake.from_settings(given("label"))
    run_shards(limited, task, given("label"), DAY, "r1", Parity(2))
    check_labels(Run(task, DAY, "r1"), lake=lake, prompt_hash="p")
    with pytest.raises(ConfigError, match=REFUSED):
        publish(Run(task, DAY, "r1"), lake=limited)
    assert labels(lake, task) == {}
    publish(Run(task, DAY, "r1"), lake=lake)
    assert len(labels(lake, task)) == 10


def test_answers_are_kept_by_who_may_write_annotations_alone(lake: Lake, given: Callable[[str], Settings]) -> None:
    ingest(lake, make_task(), DAY, range(10))
    limited = Lake.from_settings(given("annotate"))
    assert run_annotate(limited, RuleAnnotator(even)).rows["labelled"] == 10
    assert run_annotate(limited, RuleAnnotator(even), run="r2").rows["reused"] == 10
    with pytest.raises(ConfigError, match=REFUSED):
        ingest(limited, make_task(), NEXT, range(10))


@pytest.fixture
def learning(lake: Lake, given: Callable[[str], Settings], tmp_path: Path) -> Callable[[str], Settings]:
    """What a training needs, and settings of who trains, in either sense."""
    task = make_task(name="trained")
    frames.put(lake, "documents", frames.documents(task, 60), task)
    frames.put(lake, "annotations", frames.annotations(task, 60), task)
    for split, numbers in (("train", range(12)), ("test", range(12, 24))):
        frames.put(lake, "gold", frames.gold(task, numbers, split), task)
    here = {
        "mlflow_uri": f"sqlite:///{tmp_path}/mlflow.db",
        "model_paths": {"tests/tiny-bert": pretrained(tmp_path / "encoder")},
        "checkpoint_seconds": 0.0,
    }
    return lambda name: given(name).model_copy(update=here)


def test_an_encoder_is_trained_by_who_may_write_checkpoints_alone_and_compared_and_studied_by_who_may_not(
    learning: Callable[[str], Settings], tmp_path: Path
) -> None:
    task, settings = make_task(name="trained"), learning("train")
    run, registry = Run(task, Partition(frames.DAY), "night"), Registry.from_settings(settings)
    limited = Lake.from_settings(settings)
    done = train(run, lake=limited, registry=registry, settings=settings, prompt_hash="p", strategy="combined")
    assert done.facts["model_version"] == 1
    limited.write_note("_manifests/a-pod.json", done.model_dump_json())
    with pytest.raises(ConfigError, match=REFUSED):
        ingest(limited, task, NEXT, range(10))

    settings = learning("study")
    limited = Lake.from_settings(settings)
    plan = StudyPlan.model_validate({"seeds": [1], "size": {"strategies": ["gold"], "rows": [8]}})
    subject = Subject(run=run, plan=plan, prompt_hash="p", lake=limited, settings=settings)
    assert study("size", subject, registry=registry, out=tmp_path / "out").rows["measured"] == 1
    assert study("size", subject, registry=registry, out=tmp_path / "out").rows["measured_before"] == 1
    with pytest.raises(DataError, match="the champion stays"):  # measured, and not good enough
        promote(run, lake=limited, registry=registry, dry_run=True)
    with pytest.raises(ConfigError, match=REFUSED):
        ingest(limited, task, NEXT, range(10))


@pytest.mark.parametrize("name", ["annotate", "label", "study", "train"])
def test_whoever_runs_a_step_may_see_that_every_table_is_there(
    lake: Lake, given: Callable[[str], Settings], name: str
) -> None:
    """Each command makes the tables that are not there, so each looks."""
    Lake.from_settings(given(name)).create_tables()


def test_who_looks_at_airflows_pages_reads_reports_and_labels_and_no_texts(
    lake: Lake, policed: PolicedS3, given: Callable[[str], Settings]
) -> None:
    task = make_task(name="shown")
    drop(lake, task, ["text 1", "text 2"])
    reader = Lake.from_settings(given("reader"))
    lake.write_report(task.name, DAY, "labels", "<html>")
    assert reader.read_report(task.name, DAY, "labels") == "<html>"
    assert reader.scan("labels", task.name, DAY).collect().height == 0
    with pytest.raises(ConfigError, match=REFUSED):
        reader.scan("documents", task.name, DAY).collect()
