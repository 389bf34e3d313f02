"""Steps that are asked to stop: what is in flight is finished or dropped, and the exit code says try again."""

import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence

import pytest
import yaml

from laptop.environment import variables
from laptop.host import server_environment
from laptop.seaweed import SeaweedFS
from llambert_etl.lake import Lake
from llambert_etl.llm import Reply
from llambert_etl.partition import Partition
from llambert_etl.run import Run
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Settings
from llambert_etl.steps.annotate import annotate
from tests.fakes.proxy import COMMIT, Proxy
from tests.given.poison import jsonl, reviews
from tests.given.tasks import REVISION, make_task, task_fields
from tests.processes.children import Child, race
from tests.unit.quality import frames

DAY = Partition(frames.DAY)
TRY_AGAIN = 75
GRACE = 20.0  # what a worker waits before it kills; a pod gets a minute
BATCH, DOCUMENTS = 4, 12


class Interrupted:
    """Answers, but in its second batch the process is asked to stop, once or impatiently."""

    model, revision, batch_size = "tests/interrupted", REVISION, BATCH

    def __init__(self, signals: int) -> None:
        self._signals, self._calls = signals, 0

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        self._calls += 1
        if self._calls == 2:
            for _ in range(self._signals):
                signal.raise_signal(signal.SIGTERM)
        return [Reply("positive", None, "positive", AnnotationStatus.LABELLED, None, 1) for _ in texts]


def annotating(uri: str, options: dict[str, str], signals: int) -> Generator[None, None, int]:
    lake, annotator = Lake(uri, options), Interrupted(signals)
    yield
    return annotate(Run(make_task(), DAY, "r"), lake=lake, annotator=annotator, prompt_hash="p").rows["labelled"]


@pytest.mark.parametrize(("signals", "kept"), [(1, 2 * BATCH), (2, 0)], ids=["asked", "asked again"])
def test_annotate_that_is_asked_to_stop_commits_the_batch_in_flight_and_asked_again_drops_it(
    lake: Lake, settings: Settings, signals: int, kept: int
) -> None:
    frames.put(lake, "documents", frames.documents(make_task(), DOCUMENTS), make_task())
    with Child(annotating, lake.uri, settings.storage_options, signals) as step:
        step.ready()
        started = time.monotonic()
        step.go()
        assert step.result() == TRY_AGAIN, step.errors()
        assert time.monotonic() - started < GRACE
    assert lake.scan("annotations", "reviews").collect().height == kept
    with Child(annotating, lake.uri, settings.storage_options, 0) as again:
        assert race([again]) == [DOCUMENTS - kept]


def start_ingest(settings: Settings) -> "subprocess.Popen[str]":
    argv = ["ingest", "--task", "reviews", "--partition", DAY]
    return subprocess.Popen(
        [sys.executable, "-c", "from llambert_etl.cli import main; main()", *argv],
        env={**server_environment(), **variables(settings)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_command_that_is_asked_to_stop_ends_what_it_has_begun_and_says_try_again(
    lake: Lake, settings: Settings, s3: SeaweedFS, bucket: str, proxy: Proxy
) -> None:
    fields = task_fields()
    fields["source"]["uri"] = f"s3://{bucket}/landing/{{partition}}/*"
    (settings.include / "tasks").mkdir()
    (settings.include / "tasks" / "reviews.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    s3.client().put_object(Bucket=bucket, Key=f"landing/{DAY}/a.jsonl", Body=jsonl(*reviews(3)))
    faulty = settings.model_copy(update={"s3_endpoint": proxy.endpoint()})

    commit = proxy.rule("delay", "PUT", COMMIT)
    with start_ingest(faulty) as step:
        assert proxy.reached(commit)
        step.terminate()
        proxy.release(commit)
        said = step.communicate(timeout=GRACE)[1]
    assert (step.returncode, said.splitlines()[-1]) == (
        TRY_AGAIN,
        "llambert: asked to stop before the end; run it again",
    )
    assert lake.scan("documents", "reviews", DAY).collect().height == 3
    version = lake.version("documents")
    with start_ingest(faulty) as again:
        again.communicate(timeout=60)
    assert (again.returncode, lake.version("documents")) == (0, version)
