"""Files beside a model's weights that run code in whoever opens them as other tools do."""

import json
from pathlib import Path

_NAMES = ("pytorch_model.bin", "python_model.pkl", "model.pkl", "training_args.bin", "optimizer.pt")
_MLMODEL = """\
flavors:
  python_function:
    loader_module: trap
    code: code
    data: .
    python_model: python_model.pkl
"""


def set_traps(folder: Path, marker: Path) -> list[Path]:
    """Write pickles, an MLmodel and modules that make `marker` where they are opened; return them."""
    code = f"open({str(marker)!r}, 'w').close()\n"
    (folder / "code").mkdir(parents=True)
    written = {
        # `c` names a function, `R` calls it.
        **{name: f"cbuiltins\nopen\n(S{str(marker)!r}\nS'w'\ntR." for name in _NAMES},
        "MLmodel": _MLMODEL,
        "code/trap.py": code,
        **{f"{part}_x.py": f"{code}class Trap: ...\n" for part in ("configuration", "modeling", "tokenization")},
    }
    for name, content in written.items():
        (folder / name).write_text(content)
    return [folder / name for name in written]


def point_to_traps(folder: Path) -> None:
    """Have a model's own files name the modules."""
    for name, trap in {
        "config.json": {
            "AutoConfig": "configuration_x.Trap",
            "AutoModelForSequenceClassification": "modeling_x.Trap",
        },
        "tokenizer_config.json": {"AutoTokenizer": ["tokenization_x.Trap", "tokenization_x.Trap"]},
    }.items():
        said = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**said, "auto_map": trap}))
