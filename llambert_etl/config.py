"""LabellingTask: one YAML file that says what to label, how, and when that is good enough."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from llambert_etl.errors import ConfigError

MAX_TASK_FILE_BYTES = 1_000_000

TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]
ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$", description="a commit, never a branch: a branch moves")]
Channel = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$", description="of LLAMBERT_ALERTS, which knows its webhook")
]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


def _inside_include(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value:
        raise ValueError("must be a path inside the include folder, without '..'")
    return value


IncludePath = Annotated[str, AfterValidator(_inside_include)]


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
        if "{partition}" not in self.uri:
            raise ValueError("uri must contain {partition}, so that a day can be ingested again by itself")
        return self


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


class Annotator(_Part):
    """The LLM. `score` reads P(label) in one forward pass; `generate` lets it write and parses, as the paper did.

    `parse` accepts a reply that is a label and nothing else (`exact`), or one that names a single label (`mention`).
    With `recorded` nobody is asked.
    """

    model: ModelId
    revision: Revision
    sample: int = Field(gt=0, description="documents to annotate, as of a partition")
    method: Literal["score", "generate"] = "score"
    max_new_tokens: int = Field(default=10, gt=0, le=256)
    parse: Literal["mention", "exact"] = "mention"
    recorded: Recorded | None = None
    seed: int = 42

    @model_validator(mode="after")
    def _recorded_replies_are_parsed(self) -> Self:
        if self.recorded is not None and self.method == "score":
            raise ValueError("recorded: replies are parsed, so set method: generate")
        return self


class Encoder(_Part):
    """The small model and its recipe. `combined` trains on LLM labels, then goes on with gold (paper, section 3)."""

    model: ModelId
    revision: Revision
    strategy: Literal["gold", "llm", "combined"] = "llm"
    epochs: int = Field(default=3, gt=0)
    learning_rate: float = Field(default=2e-5, gt=0, lt=1)
    batch_size: int = Field(default=16, gt=0)
    max_length: int = Field(default=512, gt=0, le=8192)
    dev_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    patience: int = Field(default=2, gt=0, description="epochs without a better dev F1 before training stops")
    class_weights: bool = False
    soft_labels: bool = Field(
        default=False, description="learn from the annotator's probabilities where it gives them, not from its label"
    )
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
    source: Source
    labels: dict[LabelName, str] = Field(description="label -> what it means, in the order of the model's outputs")
    prompt: Prompt
    annotator: Annotator
    encoder: Encoder
    gold: IncludePath | None = None
    alerts: Channel | None = None
    gates: Gates = Field(default_factory=Gates)
    retrain: Retrain = Field(default_factory=Retrain)

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


class TaskFiles(NamedTuple):
    """Every task that loads, and one message for each file that does not."""

    tasks: dict[str, LabellingTask]
    problems: dict[Path, str]


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML's own rule says that keys are unique; PyYAML lets the last one win without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} appears twice", key_node.start_mark)
            seen.add(key if isinstance(key, str) else repr(key))
        return super().construct_mapping(node, deep)


def load_task(path: Path) -> LabellingTask:
    """Read one task file. Raise ConfigError naming the file, the field, the value and the rule."""
    try:
        if path.stat().st_size > MAX_TASK_FILE_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_TASK_FILE_BYTES} bytes; a task file is a page, not a data set")
        raw = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping that starts with `name:`, found {type(raw).__name__}")
    try:
        task = LabellingTask.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error)}") from error
    if task.name != path.stem:
        raise ConfigError(f"{path}: name: {task.name!r} must equal the file's name {path.stem!r}; rename one of them")
    return task


def _explain(error: ValidationError) -> str:
    lines = []
    for fault in error.errors(include_url=False):
        where = ".".join(str(part) for part in fault["loc"])
        value = "" if isinstance(fault["input"], dict) else f" (found {fault['input']!r:.80})"
        message = fault["msg"].removeprefix("Value error, ")
        hint = "; remove it or mend its spelling" if fault["type"] == "extra_forbidden" else ""
        lines.append(f"{where}: {message}{value}{hint}" if where else message)
    return "; ".join(lines)


def load_tasks(include: Path) -> TaskFiles:
    """Read every include/tasks/*.yaml. A wrong file becomes a problem and never hides the others."""
    tasks, problems = {}, {}
    for path in sorted((include / "tasks").glob("*.y*ml")):
        try:
            task = load_task(path)
        except ConfigError as error:
            problems[path] = str(error)
        else:
            tasks[task.name] = task
    return TaskFiles(tasks, problems)


def find_task(include: Path, name: str) -> LabellingTask:
    """Return the task of that name; raise ConfigError with the known names otherwise."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
        raise ConfigError(f"task {name!r}: a task name is lower-case letters, digits and underscores")
    path = include / "tasks" / f"{name}.yaml"
    if not path.exists():
        known = sorted(found.stem for found in (include / "tasks").glob("*.yaml"))
        raise ConfigError(f"task {name!r}: no file {path}; the tasks here are {known}")
    return load_task(path)
