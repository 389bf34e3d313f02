"""Where an LLM's layers lie: all on one device, or spread by accelerate over GPUs, memory and disk."""

from collections import Counter
from collections.abc import Mapping
from typing import Literal

import torch
from transformers import PreTrainedModel

from llambert_etl.errors import ConfigError


def spread(memory: Mapping[int | Literal["cpu"], int]) -> dict[str, object]:
    """Return what makes transformers fill these devices, at most so many bytes of each, or else all GPUs and memory.

    What has no room there stays in the model's safetensors files. Raise ConfigError for a GPU that is not there.
    """
    gpus = torch.cuda.device_count()
    for device in memory:
        if isinstance(device, int) and device >= gpus:
            raise ConfigError(f"LLAMBERT_LLM_MEMORY: no GPU {device}, this machine has {gpus}; leave it out")
    return {"device_map": "auto", "max_memory": dict(memory) or None}


def described(model: PreTrainedModel) -> str:
    """Say which device holds how many parts of the model."""
    places = getattr(model, "hf_device_map", None)
    if places is None:
        return str(model.device)
    counts = Counter(map(str, places.values()))
    return ", ".join(f"{count} of {len(places)} parts on {place}" for place, count in counts.items())


def input_device(model: PreTrainedModel) -> torch.device:
    """Return where a pass begins. The model's own `device` would be `meta` where its first weights are not loaded."""
    hook = getattr(model, "_hf_hook", None)
    return model.device if hook is None else torch.device(hook.execution_device)


def changes_in_use(model: PreTrainedModel) -> bool:
    """Whether a pass writes to the model: spread layers come and go, quantized ones are arranged at their first use."""
    return hasattr(model, "_hf_hook") or getattr(model, "is_quantized", False)
