"""Lays an encoder out as an MLflow model, so that `mlflow.pyfunc.load_model` serves it."""

import importlib
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Final

from llambert_etl.registry.versions import encoder_files

ARTIFACT: Final = "model"
PLACE: Final = "model"  # where below it the encoder's own files lie
_TOKENIZER = ("tokenizer", "special_tokens", "vocab", "merges", "word_", "spiece", "spm", "sentencepiece")
_REQUIRED = ("mlflow", "torch", "transformers")


def package(folder: Path, target: Path) -> None:
    """Write the MLflow model `target`: the encoder's files as they are, and what MLflow's loader asks for.

    `mlflow.transformers.save_model` would do it for a loaded pipeline only, re-writing the files whose hashes we keep;
    its way for a folder fails with transformers 5, where a pipeline's `impl` is a name and no longer a class.
    """
    import mlflow.models

    if not hasattr(mlflow.models, "ModelSignature"):  # imported without pandas, as most steps do
        importlib.reload(mlflow.models)
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    files = encoder_files(folder)
    for place, chosen in (
        (PLACE, files),
        ("components/tokenizer", [path for path in files if path.name.startswith(_TOKENIZER)]),
    ):
        (target / place).mkdir(parents=True)
        for path in chosen:
            shutil.copyfile(path, target / place / path.name)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    card = json.loads((folder / "llambert.json").read_text(encoding="utf-8"))
    columns = [ColSpec("string", "label"), ColSpec("double", "score")]
    model = Model(signature=ModelSignature(inputs=Schema([ColSpec("string")]), outputs=Schema([*columns])))
    model.add_flavor(
        "transformers",
        transformers_version=version("transformers"),
        task="text-classification",
        instance_type="TextClassificationPipeline",
        pipeline_model_type=config["architectures"][0],
        source_model_name=config["architectures"][0],
        model_binary=PLACE,
        components=["tokenizer"],
        tokenizer_type="AutoTokenizer",
    )
    pyfunc.add_to_model(
        model,
        loader_module="mlflow.transformers",
        python_env="python_env.yaml",
        # Without these a document longer than the encoder reads would fail instead of being cut.
        model_config={
            "truncation": True,
            "max_length": card["max_length"],
            **({"padding": "max_length"} if card.get("padding") == "full" else {}),
        },
    )
    model.save(str(target / "MLmodel"))
    pins = "".join(f"{name}=={version(name).partition('+')[0]}\n" for name in _REQUIRED)
    (target / "requirements.txt").write_text(pins, encoding="utf-8")
    (target / "python_env.yaml").write_text("python: '3.11'\ndependencies:\n- -r requirements.txt\n", encoding="utf-8")
