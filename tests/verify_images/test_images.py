"""What is in the images and what is not, and that they do their work without a root that they may write to."""

import json

import pytest

from tests.verify_images.conftest import Image

DAY = "2026-11-10"
BUILD_TOOLS = ("gcc", "cc", "make", "git", "ld")
OF_THE_LAPTOP = ("laptop", "tests", "benchmarks", "pytest", "weed")


def test_an_image_says_what_it_is_of_what_and_made_from_which_commit(image: Image) -> None:
    labels = image.inspected()["Config"]["Labels"]
    said = {name.removeprefix("org.opencontainers.image."): value for name, value in labels.items()}
    assert said["title"].startswith("llambert-")
    assert said["version"] == "0.1.0"
    assert len(said["revision"]) == 40
    assert said["base.name"]
    assert said["licenses"] == "Apache-2.0"


def test_an_image_has_a_user_of_its_own_that_may_not_write_its_root(image: Image) -> None:
    assert image.inspected()["Config"]["User"] in {"10001:10001", "10002:10002"}
    assert image.said("id", "-u", entrypoint=False) in {"10001", "10002"}
    tried = image.run("touch", "/opt/venv/bin/mine", entrypoint=False)
    assert "Read-only file system" in tried.stderr


def test_an_image_has_no_build_tools_and_nothing_of_the_laptop(image: Image) -> None:
    look = f"for name in {' '.join((*BUILD_TOOLS, *OF_THE_LAPTOP))}; do command -v $name; done; ls /opt/llambert"
    found = image.said("sh", "-c", look, entrypoint=False).split()
    assert set(found) <= {"include", "dags", "plugins"}
    absent = "import importlib.util as i; print([n for n in ('pip', 'laptop', 'tests', 'hadolint') if i.find_spec(n)])"
    assert image.said("python", "-c", absent, entrypoint=False) == "[]"


def test_modules_are_compiled_for_this_very_code(image: Image) -> None:
    """Else each container would compile them anew, for it may not keep what it compiles."""
    told = image.run("python", "-v", "-c", "import llambert_etl.settings, polars", entrypoint=False).stderr
    assert "/opt/venv/lib/python3.11/site-packages/llambert_etl/settings.py" in told
    assert "bytecode is stale" not in told
    assert "wrote '" not in told


def test_the_worker_names_its_version_and_accepts_its_tasks(worker: Image) -> None:
    assert worker.said("--version") == "0.1.0"
    assert worker.run("tasks", "validate").returncode == 0


def test_the_worker_has_torch_and_no_airflow(worker: Image) -> None:
    absent = worker.run("python", "-c", "import torch; import airflow", entrypoint=False)
    assert "No module named 'airflow'" in absent.stderr


def test_the_worker_ingests_a_file_and_holds_its_gate(worker: Image) -> None:
    lines = [
        "cd /tmp && mkdir -p i/tasks",
        "export LLAMBERT_LAKE=/tmp/lake LLAMBERT_SOURCES='[\"/tmp/landing/\"]' LLAMBERT_INCLUDE=/tmp/i",
        "llambert tasks new films --label good='It is good.' --label bad='It is bad.' >&2",
        "(echo id,text; for n in $(seq 30); do echo $n,film $n is warm; done) > a.csv",
        "llambert init >&2",
        f"llambert run ingest a.csv --task films --partition {DAY}",
    ]
    said = worker.said("sh", "-ec", "\n".join(lines), entrypoint=False)
    _, ingested, checked = map(json.loads, said.splitlines())
    assert (ingested["step"], ingested["rows"]["accepted"]) == ("ingest", 30)
    assert checked["step"] == "check"


@pytest.mark.parametrize("name", ["airflow", "airflow_worker"])
def test_airflow_starts_below_an_init_that_takes_up_what_was_left_behind(
    name: str, request: pytest.FixtureRequest
) -> None:
    image: Image = request.getfixturevalue(name)
    assert image.said("airflow", "version").splitlines()[-1].startswith("3.3.")
    assert image.said("cat", "/proc/1/cmdline").split("\0")[0] == "dumb-init"


def test_airflow_parses_every_dag_of_the_image_and_has_no_torch(airflow: Image) -> None:
    settings = {"LLAMBERT_LAKE": "s3://warehouse/lake", "LLAMBERT_KUBERNETES__IMAGE": "localhost/llambert-worker:x"}
    options = [f"--env={name}={value}" for name, value in settings.items()]
    parse = (
        "from airflow.dag_processing.dagbag import DagBag; import importlib.util as i\n"
        "bag = DagBag('/opt/llambert/dags')\n"
        "print(bag.import_errors, len(bag.dags), i.find_spec('torch'))"
    )
    said = airflow.said("python", "-c", parse, options=options)
    assert said.splitlines()[-1] == "{} 16 None"


def test_where_tasks_run_the_light_steps_run_too(airflow_worker: Image) -> None:
    assert airflow_worker.said("llambert", "--version") == "0.1.0"
    assert airflow_worker.said("python", "-c", "import torch, mlflow, airflow") == ""
