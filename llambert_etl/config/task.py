"""LabellingTask: one YAML file that says what to label, how, and when that is good enough."""

import hashlib
import json
from collections.abc import Collection, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from llambert_etl.config.annotator import AnyLlm
from llambert_etl.config.exports import Exports
from llambert_etl.config.fields import (
    MOST,
    Channel,
    Floors,
    IncludePath,
    LabelName,
    ModelId,
    Part,
    Revision,
    Seed,
    Share,
    Strategy,
    TaskName,
    Template,
)
from llambert_etl.config.sources import AnySource
from llambert_etl.errors import ConfigError


class Example(Part):
    """A shot: a document and its label, as the prompt shows them."""

    text: str = Field(min_length=1, description="of the document")
    label: LabelName = Field(description="one of the task's labels")


class Prompt(Part):
    """What the LLM is asked."""

    template: Template
    examples: list[Example] = Field(default_factory=list, description="the shots, in order")


class Recipe(Part):
    """The small model and its recipe.

    `llm` learns from the LLM labels of the sample, `llm+extra` from those of the extra documents too, `combined` from
    the same and then from gold (paper, section 3).
    """

    model: ModelId = Field(description="its id on the hub, organisation/name")
    revision: Revision
    strategy: Strategy = Field(default="llm", description="what it learns from")
    epochs: int | None = Field(
        default=None,
        gt=0,
        le=MOST,
        description="epochs of each stage; left out, 3, and in the first stage as many as make 150 steps",
    )
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="left out, the one that suits an encoder of this width and the number of rows",
    )
    batch_size: int = Field(default=16, gt=0, le=MOST, description="rows in each step, whatever the number of devices")
    max_length: int = Field(default=512, gt=0, le=8192, description="tokens; a longer text is cut at its end")
    dev_share: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        default=0.1, description="share of each label's rows that is not learnt from, to score and calibrate with"
    )
    patience: int | None = Field(
        default=None,
        gt=0,
        le=MOST,
        description="epochs with a worse dev F1 before a stage stops and keeps its best; left out, it keeps its last",
    )
    class_weights: bool = Field(default=False, description="rare labels count more")
    soft_labels: bool = Field(
        default=False, description="learn from the annotator's probabilities where it gives them, not from its label"
    )
    frozen: bool = Field(
        default=False, description="train only what follows the last layer; set a learning_rate of about 1e-3 with it"
    )
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="above 0, long texts train slowly on a CPU")
    average_stages: bool = Field(
        default=True,
        description="a stage after the first runs all epochs and ends with the mean of its first and last weights",
    )
    seed: Seed = Field(default=42, description="of the dev split, the new head and the order of batches")

    def identity(self) -> dict[str, object]:
        """Return what tells one training on the same rows from another."""
        fields = self.model_dump(mode="json")
        # Class weights were clipped away once: what was trained so is not what they give now.
        return fields | {"class_weights": "unclipped"} if self.class_weights else fields


# A label need not have more than this part of what is to be expected of it: days differ, and so do samples.
_PART = 0.5
_LEAST_SHARE = 0.05


class Gates(Part):
    """What must hold between two steps. F1 is on the test split of gold."""

    max_rejected: Share = Field(default=0.5, description="share of a day's rows that may be refused")
    max_refused_files: int = Field(
        default=0, ge=0, le=MOST, description="files of a day that may be refused, whole or from where they break"
    )
    max_unparsed: Share = Field(default=0.10, description="share of the sample that may be unparsed or failed")
    min_label_share: Floors | None = Field(
        default=None,
        description="share that each label must have, among annotations, a candidate's labels of gold, and a day's "
        "labels: one number for all, or label -> share; where left out 0.05, or where that is less half of what "
        "gold has of a label, and without gold half of an even share",
    )
    max_drift: float = Field(
        default=0.10, ge=0.0, description="KL divergence, in nats, of a day's label shares from earlier ones"
    )
    min_gold_f1: Share = Field(default=0.90, description="macro F1 that a candidate must reach")
    min_label_f1: Floors | None = Field(
        default=None,
        exclude_if=lambda value: value is None,  # what a file leaves out must not change its hash
        description="F1 that a candidate must reach for each label: one number for all, or label -> F1; left out, none",
    )
    min_gain: float = Field(default=0.0, ge=0.0, le=1.0, description="macro F1 above the champion's; equal keeps it")

    def check_labels(self, labels: Collection[str]) -> None:
        """Raise ValueError where a floor is of no label of the task, or where no rows could reach all of them."""
        for name in ("min_label_share", "min_label_f1"):
            floors = getattr(self, name)
            if isinstance(floors, dict) and (unknown := sorted(set(floors) - set(labels))):
                raise ValueError(f"gates.{name}: {unknown} are none of the labels {list(labels)}")
        floors = self.min_label_share
        if sum(_of_label(floors, label, 0.0) for label in labels) > 1:
            each = "" if isinstance(floors, dict) else f" for each of {len(labels)} labels"
            raise ValueError(f"gates.min_label_share: {floors}{each} exceeds 1")


def _of_label(floors: Floors | None, label: str, default: float) -> float:
    if isinstance(floors, dict):
        return floors.get(label, default)
    return default if floors is None else floors


class Retrain(Part):
    """When a new candidate is trained, and whether somebody must approve of it."""

    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = Field(
        default="sunday",
        description="the ingest of this day of the week starts one, if there are new documents; each later one does "
        "until a retrain has come to a decision",
    )
    or_new_documents: int = Field(
        default=50_000, gt=0, le=MOST, description="so many since the last one start one on any day"
    )
    approval: bool = Field(default=False, description="a promotion waits for somebody's approval in Airflow")


class LabellingTask(Part):
    """One labelling question, as a user writes it."""

    name: TaskName = Field(description="that of the file, without .yaml")
    description: str = Field(min_length=1, description="the question, in a sentence")
    owner: str = Field(min_length=1, max_length=100, description="who answers for it; Airflow shows it")
    source: AnySource = Field(description="files, or a table")
    labels: dict[LabelName, str] = Field(description="label -> what it means, in the order of the model's outputs")
    prompt: Prompt = Field(description="what the LLM is asked")
    annotator: AnyLlm = Field(description="the LLM")
    encoder: Recipe = Field(description="the small model, and how it learns")
    gold: IncludePath | None = Field(
        default=None, description="a file below include/ that every retrain imports: .parquet, .csv or .jsonl"
    )
    alerts: Channel | None = Field(default=None, description="a channel of `LLAMBERT_ALERTS`; none where left out")
    gates: Gates = Field(default_factory=Gates, description="what must hold between two steps")
    retrain: Retrain = Field(default_factory=Retrain, description="when training is due")
    export: Exports = Field(
        default_factory=list, description="where labels go after each publish: parquet, a warehouse's table, or none"
    )

    @model_validator(mode="after")
    def _labels_agree(self) -> Self:
        if len(self.labels) < 2:
            raise ValueError("labels: a task needs at least two labels")
        # Replies are read without case, and without punctuation around them.
        if len({label.casefold().rstrip(" ._-") for label in self.labels}) < len(self.labels):
            raise ValueError(
                "labels: two labels differ only in case or in punctuation at the end, and a reply could not tell them "
                "apart"
            )
        for index, example in enumerate(self.prompt.examples):
            if example.label not in self.labels:
                raise ValueError(
                    f"prompt.examples.{index}.label: {example.label!r} is not one of the labels {list(self.labels)}"
                )
        self.gates.check_labels(self.labels)
        return self

    @model_validator(mode="after")
    def _extra_is_there(self) -> Self:
        if self.encoder.strategy == "llm+extra" and self.annotator.extra == 0:
            raise ValueError("encoder.strategy: 'llm+extra' needs annotator.extra, which is 0")
        return self

    def sample_size(self, strategy: Strategy | None = None, asked: int | None = None) -> int:
        """Return how many documents the LLM annotates for a strategy, the task's own where none is given.

        `asked` stands for `sample` and `extra` together, so that nobody pays for more than was asked for.
        """
        chosen = strategy or self.encoder.strategy
        if chosen == "llm+extra" and self.annotator.extra == 0:
            raise ConfigError(f"{self.name}: strategy 'llm+extra' needs annotator.extra in the task file, which is 0")
        extra = self.annotator.extra if chosen in ("llm+extra", "combined") else 0
        return asked or self.annotator.sample + extra

    def share_floors(self, gold: Mapping[str, float]) -> dict[str, float]:
        """Return the share that each label must have; `gold` has each one's share of gold, or nothing."""
        even = 1 / len(self.labels)
        return {
            label: _of_label(self.gates.min_label_share, label, min(_LEAST_SHARE, _PART * gold.get(label, even)))
            for label in self.labels
        }

    def f1_floors(self) -> dict[str, float]:
        """Return the F1 on gold that a candidate must reach for each label."""
        return {label: _of_label(self.gates.min_label_f1, label, 0.0) for label in self.labels}

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(self.labels)

    @property
    def config_hash(self) -> str:
        """Identify this configuration: sha256 of its canonical JSON, 16 hex digits."""
        return fingerprint(self.model_dump(mode="json"))


def fingerprint(value: object) -> str:
    """Return 16 hex digits of the sha256 of a JSON value, independent of key order except within `labels`."""
    text = json.dumps(_ordered(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _ordered(value: object) -> object:
    # The order of labels is the order of the model's outputs, so it is part of what is hashed.
    if isinstance(value, Mapping):
        return {
            k: list(v.items()) if k == "labels" and isinstance(v, Mapping) else _ordered(v) for k, v in value.items()
        }
    return value
