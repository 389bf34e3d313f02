"""Training in several processes: one version, the metrics of one process, and nothing left when it fails."""

import json
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from llambert_etl.cli.outcome import conclude
from llambert_etl.config import Recipe
from llambert_etl.encoder.training import LabelledTexts, fine_tune
from llambert_etl.errors import DataError
from llambert_etl.settings import Settings
from tests.given.school import School
from tests.given.tasks import REVISION, make_task
from tests.models.encoders import LABELS, pretrained
from tests.processes.forks import Fork

DEADLINE = 60.0
RECIPE = Recipe(model="tests/tiny-bert", revision=REVISION, epochs=20, max_length=32)
ROWS = LabelledTexts(tuple(f"the film {word}" for word in ("good", "bad") * 40), (0, 1) * 40)
SECRET = "hunter2"


def losses(log: pytest.LogCaptureFixture) -> list[float]:
    found = re.findall(r"loss (\d\.\d+)", log.text)
    log.clear()
    return [float(loss) for loss in found]


def test_two_processes_train_one_version_with_the_metrics_of_one(
    registry_settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Without dropout, which is other units in each process. The labels follow from the texts' last figure.
    mirror = pretrained(tmp_path / "encoder", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    task = make_task(encoder={"epochs": 15, "patience": 15, "learning_rate": 0.01})
    caplog.set_level("INFO", "llambert_etl.encoder")
    found, said = [], []
    for processes in (1, 2):
        settings = {"train_processes": processes, "model_paths": {task.encoder.model: mirror}}
        school = School(registry_settings.model_copy(update=settings), task)
        found.append(school.train("combined")["metrics"])
        said.append(losses(caplog))
        assert len(school.registry.versions(school.task.name)) == 1
    alone, together = found
    assert len(said[0]) == len(said[1]) > 10
    assert said[1][:4] == pytest.approx(said[0][:4], abs=0.002)  # the same rows in the same steps
    assert alone["stage_1.accuracy"] == 1.0
    assert together == pytest.approx(alone, abs=0.05)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_loss_that_is_no_number_is_a_fault_of_the_data_from_any_process(tmp_path: Path, processes: int) -> None:
    mirror = pretrained(tmp_path / "bert")
    weights = load_file(mirror / "model.safetensors")
    poisoned = {name: torch.full_like(tensor, torch.nan) for name, tensor in weights.items()}
    save_file(poisoned, mirror / "model.safetensors", {"format": "pt"})
    settings = Settings(lake=str(tmp_path), model_paths={RECIPE.model: mirror}, train_processes=processes)
    with pytest.raises(DataError, match=r"loss is nan at step .*; lower encoder\.learning_rate"):
        fine_tune(RECIPE, LABELS, [ROWS], ROWS, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def training(root: str) -> int:
    """Train for ever in two processes, as a command would. Runs in a fork."""
    endless = RECIPE.model_copy(update={"epochs": 1_000_000, "patience": 1_000_000})
    settings = Settings(lake=root, model_paths={RECIPE.model: Path(root) / "bert"}, train_processes=2)
    return conclude(lambda: fine_tune(endless, LABELS, [ROWS], ROWS, settings, Path(root) / "out"))


def workers(parent: int) -> list[psutil.Process]:
    """Wait until both processes are there, and not only forked."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        children = psutil.Process(parent).children(recursive=True)
        found = [child for child in children if "llambert_etl.encoder.worker" in child.cmdline()]
        if len(found) == 2:
            return found
    raise AssertionError("the processes did not start in time")


@pytest.mark.parametrize(
    ("whom", "how", "code", "said"),
    [
        ("the one that started them", signal.SIGTERM, 75, "asked to stop before the end"),
        ("the one that started them", signal.SIGKILL, -signal.SIGKILL, ""),
        ("one of them", signal.SIGKILL, 75, "process 2 of 2 was ended by SIGKILL"),
    ],
    ids=["asked to stop", "killed", "one of them killed"],
)
def test_processes_end_together_and_are_told_no_secret(
    tmp_path: Path, whom: str, how: signal.Signals, code: int, said: str
) -> None:
    pretrained(tmp_path / "bert")
    secrets = {"LLAMBERT_S3_SECRET_ACCESS_KEY": SECRET, "MLFLOW_TRACKING_PASSWORD": SECRET, "HF_TOKEN": SECRET}
    with Fork(training, str(tmp_path), log=tmp_path / "log", environment=secrets) as fork:
        started = workers(fork.pid)
        told = json.dumps([[child.environ(), child.cmdline()] for child in started])
        if whom == "one of them":
            next(child for child in started if child.cmdline()[-2] == "1").send_signal(how)
        else:
            fork.send(how)
        assert fork.wait() == code, fork.log.read_text()
        gone, alive = psutil.wait_procs(started, DEADLINE)
    assert not alive
    assert SECRET not in told
    assert said in fork.last_words
    assert not (tmp_path / "out").exists()
