"""What steps tell each other in their manifests: a model for each, by which it is written and read.

A field has a default where a manifest may be without it, as one of an earlier version. What only people read is no part
of this.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from llambert_etl.config import Strategy
from llambert_etl.manifest import Facts
from llambert_etl.partition import Partition

Json = Mapping[str, Any]


class Replayed(Facts):
    """Whether the step found its commit there already."""

    replayed: bool


class WithoutForgotten(Facts):
    """How many rows of a commit were taken out since it was made."""

    forgotten: int = 0


class Ingested(Facts):
    """`late_for` is the day whose ingest found that this one has changed; `landing` says why there were no files."""

    source: str = ""
    late_for: Partition | None = None
    landing: str | None = None
    files: int = 0
    files_refused: int = 0
    bytes: int = 0
    empty: bool = False
    replayed: bool = False
    absent_fields: Mapping[str, list[str]] = Field(default_factory=dict)
    content: str | None = None
    content_changed: bool = False
    accepted_before: int | None = None


class Late(Facts):
    """The past days that an ingest has replaced, and those that it could not, each with the reason."""

    late_partitions: list[Partition]
    late_refused: Mapping[Partition, str] = Field(default_factory=dict)


class Spent(Facts):
    """What a run has paid in all its tries."""

    tokens: int = 0
    usd: float = 0.0


class Annotated(Facts):
    spent: Spent = Spent()


class Training(Facts):
    """What a training is made of; `stages` and `rarest_label` are in the order of its stages."""

    strategy: Strategy
    sample: int
    run_key: str
    leaked_rows_removed: int
    llm_on_gold: Mapping[str, float]
    stages: list[int]
    rarest_label: list[Json]
    gold_test: int


class Trained(Facts):
    model_version: int
    model_name: str = ""
    metrics: Mapping[str, float] = Field(default_factory=dict)
    labels_never_given: list[str] = Field(default_factory=list)
    mlflow_run: str = ""


class Side(Facts):
    """A version as gold measures it; `f1` is by label."""

    version: int
    trained_upto: str
    strategy: str | None = None
    accuracy: float
    macro_f1: float
    ece: float
    ece_mass: float
    ece_mass_by_chance: float = 0.0
    log_loss: float
    brier: float = 0.0
    f1: Mapping[str, float]


class Gain(Facts):
    """The candidate's measure less the champion's with the ends of its 95 % interval, and McNemar's exact p."""

    accuracy: tuple[float, float, float]
    macro_f1: tuple[float, float, float]
    p: float


class Changes(Facts):
    """Served labels that the candidate gives otherwise: so many of a sample, and bounds for all of them."""

    labels: int
    sample: int
    changed: int
    low: int
    high: int
    pairs: list[tuple[str, str, int]]


class Comparison(Facts):
    champion: Side | None = None
    candidate: Side
    gold: int
    gain: Gain | None = None
    changes: Changes


Decision = Literal["promoted", "rolled back", "kept"]


class Decided(Facts):
    """`bring_back` lists the days that another champion is to label; `metrics` has a side for each of the two."""

    decision: Decision
    reason: str = ""
    champion: int | None = None
    candidate: int | None = None
    metrics: Json = Field(default_factory=dict)
    comparison: Comparison | None = None
    bring_back: list[Partition] = Field(default_factory=list)
    dry_run: bool = False


class Compared(Facts):
    """What a dry run tells besides: what would change."""

    comparison: Comparison


class Linked(Facts):
    """What the links of any step lead to."""

    mlflow_run: str = ""
    model_version: int | None = None


class Due(Facts):
    due: bool
    reason: str = ""
    new_documents: int = 0
    trained_upto: Partition | None = None


class Planned(Facts):
    """`fresh`: the labels are those of this version already; `skip`: why there is no version; `doubt`: what speaks
    against one that somebody has asked for; `bring_back`: days that a champion moved by hand is to label.
    """

    shards: int
    fresh: bool = False
    bring_back: list[Partition] = Field(default_factory=list)
    model_name: str | None = None
    model_version: int | None = None
    doubt: str | None = None
    skip: str | None = None


class Labelled(Facts):
    shard: int | None = None
    model_version: int


class Published(Facts):
    """`model` is the whole version: with the registry down, the next run goes on with it. `move` made it champion.

    `shard_seconds` is what all shards took together.
    """

    model: Json = Field(default_factory=dict)
    model_version: int | None = None
    move: int | None = None
    shards: int = 0
    shard_seconds: float = 0.0


class Skipped(Facts):
    """Why a step has done nothing, where it has not."""

    skip: str | None = None


class Relabelled(Facts):
    """The days of a range that have documents, and the first few that have none."""

    upto: Partition | None = None
    bring_back: list[Partition]
    without_documents: list[str] = Field(default_factory=list)


class Agreed(Facts):
    """What people say of the documents of `exports`, as `reviews.agreement` counts it, and which of it is gold now."""

    exports: list[Partition] = Field(default_factory=list)
    asked: Mapping[str, int]
    outcomes: Mapping[str, int]
    verdicts: Json
    sides: Mapping[str, int]
    agreement: Json
    accuracy: Json
    gold: Mapping[str, int] = Field(default_factory=dict)
    report: str = ""
