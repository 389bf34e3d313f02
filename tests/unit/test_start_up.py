"""What a command imports before its work begins: libraries of seconds wait until something of theirs is asked for."""

import json
import pkgutil
import subprocess
import sys

import llambert_etl.steps

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
