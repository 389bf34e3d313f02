"""What processes that train together are told and what they answer: files of one folder, none of them a pickle."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from llambert_etl.config import Recipe
from llambert_etl.encoder.card import Padding
from llambert_etl.encoder.checkpoints import Checkpoints
from llambert_etl.encoder.labelled import Stage, read_stage
from llambert_etl.errors import ConfigError, DataError, LlambertError, TransientError


@dataclass(frozen=True)
class Job:
    folder: Path

    def write(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        stages: Sequence[Stage],
        recipe: Recipe,
        padding: Padding,
        checkpoints: Checkpoints,
    ) -> None:
        """Give every process the same start: the new head is random, and a hub may be asked by one alone."""
        model.save_pretrained(self.folder / "start")
        tokenizer.save_pretrained(self.folder / "start")
        for number, stage in enumerate(stages):
            stage.write(self.folder / f"rows-{number}")
        kept = {"folder": str(checkpoints.folder), "seconds": checkpoints.seconds}
        told = {"recipe": recipe.model_dump(mode="json"), "padding": padding, "checkpoints": kept}
        (self.folder / "told.json").write_text(json.dumps(told), encoding="utf-8")

    def start(self) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        safe = {"local_files_only": True, "trust_remote_code": False}
        model = AutoModelForSequenceClassification.from_pretrained(self.folder / "start", use_safetensors=True, **safe)
        return model, AutoTokenizer.from_pretrained(self.folder / "start", split_special_tokens=True, **safe)

    def stages(self) -> list[Stage]:
        return [read_stage(self.folder / f"rows-{number}") for number in range(len(list(self.folder.glob("rows-*"))))]

    def told(self, rank: int) -> tuple[Recipe, Padding, Checkpoints]:
        """Return what a process trains by; all go on from the same checkpoints, and the first one writes them."""
        told: dict[str, Any] = json.loads((self.folder / "told.json").read_text(encoding="utf-8"))
        kept = Checkpoints(Path(told["checkpoints"]["folder"]), told["checkpoints"]["seconds"], writes=rank == 0)
        return Recipe.model_validate(told["recipe"]), told["padding"], kept

    def fail(self, rank: int, error: LlambertError) -> None:
        words = {"exit_code": error.exit_code, "message": str(error)}
        (self.folder / f"failure-{rank}.json").write_text(json.dumps(words), encoding="utf-8")

    def failure(self) -> LlambertError | None:
        """Return the error that a process raised; they raise the same, having seen the same."""
        kinds = {kind.exit_code: kind for kind in (TransientError, DataError, ConfigError)}
        for path in self.folder.glob("failure-*.json"):
            words = json.loads(path.read_text(encoding="utf-8"))
            return kinds[words["exit_code"]](words["message"])
        return None
