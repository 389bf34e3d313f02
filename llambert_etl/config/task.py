"""LabellingTask: one YAML file that says what to label, how, and when that is good enough."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from llambert_etl.config.annotator import Annotator
from llambert_etl.config.connections import FILES, TABLE, Exports, TableSource, holds_secret
from llambert_etl.config.fields import (
    Channel,
    IncludePath,
    LabelName,
    ModelId,
    Part,
    Revision,
    Share,
    Strategy,
    TaskName,
    Template,
)
from llambert_etl.errors import ConfigError


class Source(Part):
    """Where documents come from. `{partition}` in `uri` becomes the day."""

    uri: str
    id: str
    text: str
    max_chars: int = Field(default=100_000, gt=0, description="a longer text is rejected as `too_long`")

    @model_validator(mode="after")
    def _one_day_at_a_time(self) -> Self:
        if holds_secret(self.uri):
            raise ValueError(
                "uri must not be a database's, nor hold a password: set it as LLAMBERT_CONNECTIONS__<name> and write "
                "source: {connection: <name>, table: ..., day: ..., id: ..., text: ...}"
            )
        if "{partition}" not in self.uri:
            raise ValueError("uri must contain {partition}, so that a day can be ingested again by itself")
        return self


def _kind_of_source(value: object) -> str:
    table = isinstance(value, TableSource) or (isinstance(value, Mapping) and "connection" in value)
    return TABLE if table else FILES


AnySource = Annotated[
    Annotated[Source, Tag(FILES)] | Annotated[TableSource, Tag(TABLE)], Discriminator(_kind_of_source)
]


class Example(Part):
    text: str = Field(min_length=1)
    label: LabelName


class Prompt(Part):
    """`template` is a file of include/prompts; `examples` are the shots."""

    template: Template
    examples: list[Example] = Field(default_factory=list)


class Encoder(Part):
    """The small model and its recipe.

    `llm` learns from the LLM labels of the sample, `llm+extra` from those of the extra documents too, `combined` from
    the same and then from gold (paper, section 3).
    """

    model: ModelId
    revision: Revision
    strategy: Strategy = "llm"
    epochs: int = Field(default=3, gt=0)
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="left out, the one that suits an encoder of this width and the number of rows",
    )
    batch_size: int = Field(default=16, gt=0)
    max_length: int = Field(default=512, gt=0, le=8192)
    dev_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    patience: int = Field(default=2, gt=0, description="epochs without a better dev F1 before training stops")
    class_weights: bool = False
    soft_labels: bool = Field(
        default=False, description="learn from the annotator's probabilities where it gives them, not from its label"
    )
    frozen: bool = Field(default=False, description="train the head alone; set a learning_rate of about 1e-3 with it")
    attention_dropout: float = Field(default=0.0, ge=0, lt=1, description="above 0, long texts train slowly on a CPU")
    average_stages: bool = Field(
        default=True, description="a stage after the first ends with the mean of its weights before and after"
    )
    seed: int = 42


class Gates(Part):
    """What must hold between two steps. F1 is macro, on the test split of gold."""

    max_rejected: Share = 0.5
    max_unparsed: Share = 0.10
    min_label_share: Share = 0.05
    max_drift: float = Field(default=0.10, ge=0.0, description="KL divergence of label shares, in nats")
    min_gold_f1: Share = 0.90
    min_gain: float = Field(default=0.0, ge=0.0, le=1.0, description="macro F1 above the champion's; equal keeps it")


class Retrain(Part):
    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = "sunday"
    or_new_documents: int = Field(default=50_000, gt=0)
    approval: bool = False


class LabellingTask(Part):
    """One labelling question, as a user writes it."""

    name: TaskName
    description: str = Field(min_length=1)
    owner: str = Field(min_length=1)
    source: AnySource
    labels: dict[LabelName, str] = Field(description="label -> what it means, in the order of the model's outputs")
    prompt: Prompt
    annotator: Annotator
    encoder: Encoder
    gold: IncludePath | None = None
    alerts: Channel | None = None
    gates: Gates = Field(default_factory=Gates)
    retrain: Retrain = Field(default_factory=Retrain)
    export: Exports = Field(
        default_factory=list, description="where labels go after each publish: parquet, a warehouse's table, or none"
    )

    @model_validator(mode="after")
    def _labels_agree(self) -> Self:
        if len(self.labels) < 2:
            raise ValueError("labels: a task needs at least two labels")
        if len({label.casefold() for label in self.labels}) < len(self.labels):
            raise ValueError("labels: two labels differ only in case, and a reply could not tell them apart")
        for index, example in enumerate(self.prompt.examples):
            if example.label not in self.labels:
                raise ValueError(
                    f"prompt.examples.{index}.label: {example.label!r} is not one of the labels {list(self.labels)}"
                )
        if self.gates.min_label_share * len(self.labels) > 1:
            raise ValueError(
                f"gates.min_label_share: {self.gates.min_label_share} for each of {len(self.labels)} labels exceeds 1"
            )
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
