"""LabellingTask: one YAML file that says what to label, how, and when that is good enough."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from llambert_etl.config.connections import FILES, TABLE, Exports, TableSource, holds_secret
from llambert_etl.errors import ConfigError

TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]
_HUB_MODEL = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"
_COMMIT = r"^[0-9a-f]{40}$"
# A server names its models as it likes: `gpt-4-0613`, `llama3:70b`, a hub id.
_SERVED_MODEL = r"^[A-Za-z0-9][\w.:/-]{0,199}$"
_SERVED_REVISION = r"^[\w.:-]{1,100}$"

ModelId = Annotated[str, Field(pattern=_HUB_MODEL)]
Revision = Annotated[str, Field(pattern=_COMMIT, description="a commit, never a branch: a branch moves")]
Channel = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="of LLAMBERT_ALERTS")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Strategy = Literal["gold", "llm", "llm+extra", "combined"]
StudyKind = Literal["strategies", "size", "mislabelling", "prompts", "annotators"]


def _inside_include(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value:
        raise ValueError("must be a path inside the include folder, without '..'")
    return value


IncludePath = Annotated[str, AfterValidator(_inside_include)]


def _above_zero(value: float) -> float:
    if value <= 0:
        raise ValueError("must be above 0; to spend without a cap, leave it out; to ask nobody, do not annotate")
    return value


def _matching(value: str, pattern: str) -> str:
    if not re.fullmatch(pattern, value):
        raise ValueError(f"String should match pattern '{pattern}'")
    return value


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Part):
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


class Example(_Part):
    text: str = Field(min_length=1)
    label: LabelName


class Prompt(_Part):
    """`template` is a file of include/prompts; `examples` are the shots."""

    template: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.j2$")]
    examples: list[Example] = Field(default_factory=list)


class Recorded(_Part):
    """Replies that `model` gave before: a Parquet, CSV or JSON lines file with the text that each was given about."""

    file: IncludePath
    text: str = "text"
    reply: str = "reply"


class Budget(_Part):
    """What one run may spend on its annotator, all its tries together; the first of the two that is used up ends it."""

    usd: Annotated[float, AfterValidator(_above_zero)] | None = Field(default=None, allow_inf_nan=False)
    tokens: Annotated[int, AfterValidator(_above_zero)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_something(cls, value: object) -> object:
        if not isinstance(value, Mapping) or all(value.get(name) is None for name in ("usd", "tokens")):
            raise ValueError(
                "name what it is of, such as {usd: 20}, {tokens: 1000000} or both; without one, leave it out"
            )
        return value


class Annotator(_Part):
    """The LLM. `score` reads P(label) in one forward pass; `generate` lets it write and parses, as the paper did.

    `parse` accepts a reply that is a label and nothing else (`exact`), or one that names a single label (`mention`).
    `quantization` packs the weights into 8 or 4 bits, which changes answers. With `recorded` nobody is asked. With
    `server` one of the deployment's servers is asked: `model` is its own name for the model, and `revision`, by default
    the server's name, sets apart answers that must not be mixed.
    """

    server: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$")] | None = None
    model: str
    revision: str = Field(default="", validate_default=True)
    sample: int = Field(gt=0, description="documents to annotate, as of a partition")
    extra: int = Field(default=0, ge=0, description="more of them, for the strategies `llm+extra` and `combined`")
    method: Literal["score", "generate"] = "score"
    max_new_tokens: int = Field(default=10, gt=0, le=256)
    parse: Literal["mention", "exact"] = "mention"
    quantization: Literal["int8", "nf4"] | None = None
    recorded: Recorded | None = None
    batch: bool = Field(default=False, description="ask by the server's batch files: cheaper, within a day")
    budget: Budget | None = None
    seed: int = 42

    @field_validator("model")
    @classmethod
    def _known_where_it_is_asked(cls, value: str, info: ValidationInfo) -> str:
        return _matching(value, _SERVED_MODEL if info.data.get("server") else _HUB_MODEL)

    @field_validator("revision")
    @classmethod
    def _fixed(cls, value: str, info: ValidationInfo) -> str:
        server = info.data.get("server")
        return _matching(value or server, _SERVED_REVISION) if server else _matching(value, _COMMIT)

    @model_validator(mode="after")
    def _replies_are_parsed(self) -> Self:
        for name, set_ in (("recorded", self.recorded), ("server", self.server)):
            if set_ is not None and self.method == "score":
                raise ValueError(f"{name}: replies are parsed, so set method: generate")
        if self.recorded is not None and self.server is not None:
            raise ValueError("recorded and server: replies come from one of the two; remove the other")
        if self.batch and self.server is None:
            raise ValueError("batch: only a server takes batch files; set server, or remove batch")
        return self

    @property
    def loads_model(self) -> bool:
        return self.server is None and self.recorded is None


class Encoder(_Part):
    """The small model and its recipe.

    `llm` learns from the LLM labels of the sample, `llm+extra` from those of the extra documents too, `combined` from
    the same and then from gold (paper, section 3).
    """

    model: ModelId
    revision: Revision
    strategy: Strategy = "llm"
    epochs: int = Field(default=3, gt=0)
    learning_rate: float | None = Field(
        default=None, gt=0, lt=1, description="left out, the one that suits an encoder of this width"
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


class Gates(_Part):
    """What must hold between two steps. F1 is macro, on the test split of gold."""

    max_rejected: Share = 0.5
    max_unparsed: Share = 0.10
    min_label_share: Share = 0.05
    max_drift: float = Field(default=0.10, ge=0.0, description="KL divergence of label shares, in nats")
    min_gold_f1: Share = 0.90
    min_gain: float = Field(default=0.0, ge=0.0, le=1.0, description="macro F1 above the champion's; equal keeps it")


class Retrain(_Part):
    weekday: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"] = "sunday"
    or_new_documents: int = Field(default=50_000, gt=0)
    approval: bool = False


class LabellingTask(_Part):
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
