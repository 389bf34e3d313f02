"""Opens an LLM's weights: a folder of safetensors, or a GGUF file."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GgufConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from llambert_etl.compute.device import best_precision
from llambert_etl.config import Llm
from llambert_etl.errors import ConfigError, TransientError
from llambert_etl.hub.mirrors import find_model
from llambert_etl.llm.placement import described, spread
from llambert_etl.settings import Settings
from llambert_etl.store.copies import settle
from llambert_etl.store.space import room_in

logger = logging.getLogger(__name__)


class LanguageModel(NamedTuple):
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def open_model(annotator: Llm, settings: Settings) -> LanguageModel:
    """Load the model in evaluation mode, in the best precision of the device. No code beside the weights ever runs.

    Its layers fill all GPUs, then memory; those that have no room there are read from disk at each pass. Raise
    TransientError where a device fails, or has less room than it seemed to have.
    """
    path = find_model(annotator.model, annotator.revision, settings)
    precision = best_precision()
    logger.info("opening %s in %s", annotator.model, precision)
    options = spread(settings.llm_memory) | _packed(annotator.quantization, path, precision)
    try:
        model, tokenizer = _load(path, precision, **options)
    except torch.OutOfMemoryError as error:
        raise TransientError(
            f"annotator.model {annotator.model!r}: out of memory as it was opened: another process may hold the "
            "device; else let the weights take less of it by LLAMBERT_LLM_MEMORY or annotator.quantization"
        ) from error
    except torch.AcceleratorError as error:
        raise TransientError(
            f"annotator.model {annotator.model!r}: a GPU failed as it was opened ({error!s:.200}); try again, or on "
            "another machine"
        ) from error
    except Exception as error:  # of a file that is odd, the libraries raise whatever they stumble over
        whole = annotator.quantization is not None or path.is_file()
        fit = "; quantized weights and GGUF files must fit the GPUs or, without one, memory" if whole else ""
        raise ConfigError(f"annotator.model {annotator.model!r}: {_does_not_open(path, error)}{fit}") from error
    model.eval()  # type: ignore[no-untyped-call]
    logger.info("opened %s: %s", annotator.model, described(model))
    return LanguageModel(model, tokenizer)


def unpack(file: Path, folder: Path) -> None:
    """Write a GGUF file's weights and tokenizer to a new folder, in fp32, as safetensors: whole, or not at all.

    transformers parses a GGUF file in pure Python, three times: half a minute at every opening, against one second.
    """
    if folder.exists():
        raise ConfigError(f"{folder}: is there already; remove it, or name another folder")
    try:
        model, tokenizer = _load(file, torch.float32)
    except Exception as error:  # of an odd GGUF file too
        raise ConfigError(_does_not_open(file, error)) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with room_in(folder.parent), tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        whole = Path(scratch) / folder.name
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        # safetensors lets the owner alone read what it writes; a worker's image has another user.
        for path in whole.glob("*.safetensors"):
            shutil.copymode(whole / "config.json", path)
        settle(whole, folder)


def _packed(quantization: str | None, path: Path, precision: torch.dtype) -> dict[str, object]:
    if quantization is None:
        return {}
    if path.is_file():
        raise ConfigError(f"annotator.quantization: {path} is a GGUF file, which has its own; leave it out")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every product that it casts its operands
    packed = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_8bit=quantization == "int8",
        load_in_4bit=quantization == "nf4",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=precision,
    )
    return {"quantization_config": packed}


def _load(path: Path, precision: torch.dtype, **options: object) -> LanguageModel:
    folder, gguf = (path.parent, {"gguf_file": path.name}) if path.is_file() else (path, {})
    # Packed GGUF weights save memory, but their operands are cast at every product: unpacked, a pass is much faster.
    unpacked = {"quantization_config": GgufConfig(dequantize=True)} if gguf else {}
    safe = {"trust_remote_code": False, "local_files_only": True, **gguf}
    tokenizer = AutoTokenizer.from_pretrained(folder, **safe)
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_tokens)):
        # Where its file is not there, transformers 5 opens many a tokenizer without a word in it, and says nothing.
        raise ValueError("its tokenizer has no vocabulary")
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, dtype=precision, output_loading_info=True, **safe, **unpacked, **options
    )
    model, found = loaded
    if missing := sorted(found["missing_keys"]):  # they would be random numbers
        raise ValueError(f"{len(missing)} weights are not in it, {missing[0]} among them")
    return LanguageModel(model, tokenizer)


def _does_not_open(path: Path, error: Exception) -> str:
    return (
        f"{path} does not open ({' '.join(str(error).split()):.300}); it must be a complete folder with config.json, "
        "tokenizer and safetensors weights, or a GGUF file, of an architecture that transformers knows without code "
        "from the folder"
    )
