"""What a command imports before its work begins: libraries of seconds wait until something of theirs is asked for."""

import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import llambert_etl.steps
from laptop.stack import REPOSITORY

HEAVY = {
    "adbc_driver_postgresql.dbapi",
    "boto3",
    "great_expectations",
    "huggingface_hub",
    "matplotlib",
    "mlflow",
    "pandas",
    "scipy",
    "sklearn",
    "torch",
    "transformers",
}
# The steps that always need some of them, whatever they are given.
NEED = {"maintain": {"huggingface_hub"}, "study": {"scipy"}}

_LOOK = """
import importlib, json, sys
import llambert_etl.cli.app, llambert_etl.cli.screens
heavy, found = set(json.loads(sys.argv[1])), {}
for name in sys.argv[2:]:
    before = heavy & set(sys.modules)
    importlib.import_module(f"llambert_etl.steps.{name}")
    found[name] = sorted((heavy & set(sys.modules)) - before)
print(json.dumps(found))
"""


def test_no_step_imports_a_library_of_seconds_before_it_works() -> None:
    steps = sorted((module.name for module in pkgutil.iter_modules(llambert_etl.steps.__path__)), key=NEED.__contains__)
    assert len(steps) > 20
    said = subprocess.run(
        [sys.executable, "-c", _LOOK, json.dumps(sorted(HEAVY)), *steps], check=True, capture_output=True, text=True
    )
    found = json.loads(said.stdout)
    assert {name: set(libraries) for name, libraries in found.items() if libraries} == NEED


_GATE = """
from llambert_etl.quality import build_suite, profile_documents, validate
from tests.given.tasks import make_task
from tests.unit.quality import frames
task = make_task()
profile = profile_documents(frames.frame("documents", frames.documents(task)), [])
assert not validate("documents", profile, build_suite(task, profile)[0]).failures
print(json.dumps(sorted({"altair", "boto3", "great_expectations", "scipy.stats", "sqlalchemy"} & set(sys.modules))))
import scipy.stats, sqlalchemy
scipy.stats.entropy([1.0]), sqlalchemy.select
"""
_QUESTION = """
from llambert_etl.registry import Registry
from llambert_etl.settings import Settings
Registry.from_settings(Settings(lake="/nowhere", mlflow_uri="http://127.0.0.1:9"))
print(json.dumps(sorted({"fastapi", "mlflow", "mlflow.genai", "pandas"} & set(sys.modules))))
"""
_PACKAGE = """
from pathlib import Path
from llambert_etl.registry.packaging import package
folder = Path(sys.argv[1])
package(folder / "encoder", folder / str(number))
import yaml
print(json.dumps(yaml.safe_load((folder / str(number) / "MLmodel").read_text())["signature"]))
"""
_END = """
import atexit, gc
from llambert_etl import cli
made = []
cli.run = lambda _: made.extend([] for _ in range(10_000)) or 0
atexit.register(lambda: print(json.dumps(len(gc.get_objects()) < 10_000)))
cli.main([])
"""
_BEGINNING = """
import gc
from llambert_etl.cli import run
run(["--version"])
print(json.dumps([gc.isenabled(), len(gc.get_objects()) < gc.get_freeze_count()]))
"""


def _said(code: str, *arguments: str) -> object:
    argv = [sys.executable, "-c", f"import json, sys\n{code}", *arguments]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    return json.loads(done.stdout.splitlines()[-1])


def test_a_gate_imports_no_library_for_data_that_it_is_never_shown_and_leaves_it_to_others() -> None:
    assert _said(_GATE) == ["great_expectations"]


def test_a_question_to_the_registry_imports_neither_a_server_nor_frames() -> None:
    assert _said(_QUESTION) == ["mlflow"]


def test_a_model_is_packaged_alike_whatever_was_asked_before(tmp_path: Path) -> None:
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    for name, content in {
        "config.json": '{"architectures": ["RobertaForSequenceClassification"]}',
        "llambert.json": '{"max_length": 8}',
        "model.safetensors": "",
        "tokenizer.json": "{}",
        "tokenizer_config.json": "{}",
    }.items():
        (encoder / name).write_text(content, encoding="utf-8")
    alone = _said(f"number = 1\n{_PACKAGE}", str(tmp_path))
    assert alone
    assert _said(f"number = 2\n{_QUESTION}{_PACKAGE}", str(tmp_path)) == alone


def test_a_command_leaves_what_it_has_loaded_to_the_end_of_its_process() -> None:
    assert _said(_END) is True


def test_a_command_looks_for_no_garbage_in_what_it_has_imported() -> None:
    assert _said(_BEGINNING) == [True, True]
