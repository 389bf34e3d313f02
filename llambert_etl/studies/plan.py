"""StudyPlan: what the studies of a task vary, in a YAML file of include/studies that has the task's name."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator

from llambert_etl.config import LabellingTask, LabelName, Share, Strategy
from llambert_etl.config.annotator import AnyLlm
from llambert_etl.config.fields import Part, Seed, Template
from llambert_etl.config.yaml_files import read_yaml
from llambert_etl.errors import ConfigError

Rows = Annotated[int, Field(ge=2)]
_SOME = Field(min_length=1)


def _each_once(values: list[object]) -> list[object]:
    if len(set(values)) < len(values):
        raise ValueError(f"{values} names one twice, which would pass one result off as two")
    return values


_ONCE = AfterValidator(_each_once)


class Strategies(Part):
    """Which strategies stand side by side; those that the task has the data for where left out.

    `soft` targets are the LLM's probabilities, `hard` ones its labels.
    """

    compare: Annotated[list[Strategy], _ONCE] = Field(
        default_factory=list, description="all that there are rows for where left out"
    )
    targets: Annotated[list[Literal["hard", "soft"]], _SOME, _ONCE] = Field(
        default=["hard"], description="for each strategy but `gold`"
    )


class Size(Part):
    """The learning curve: how good is an encoder that learns from so many labels?"""

    strategies: Annotated[list[Literal["gold", "llm"]], _SOME, _ONCE] = Field(
        default=["gold", "llm"], description="whose labels are learnt from"
    )
    rows: Annotated[list[Rows], _ONCE] = Field(
        default_factory=list, description="doubled from 100 up to all there are where left out"
    )
    worth: float = Field(default=0.002, gt=0, lt=1, description="accuracy for which more labels would be paid")


class Mislabelling(Part):
    """Gold labels made wrong on purpose. `like_annotator` errs where the LLM errs, `uniform` anywhere."""

    shares: Annotated[list[Share], _SOME, _ONCE] = Field(
        default=[0.0, 0.05, 0.1, 0.2, 0.3, 0.4], description="of the labels that are made wrong"
    )
    flips: Annotated[list[Literal["uniform", "like_annotator"]], _SOME, _ONCE] = Field(
        default=["uniform"], description="which rows err, and how"
    )
    bodies: Annotated[list[Literal["trained", "frozen"]], _SOME, _ONCE] = Field(
        default=["trained", "frozen"], description="the whole encoder learns, or only what follows its last layer"
    )
    frozen_learning_rate: float = Field(
        default=1e-3, gt=0, lt=1, description="of a frozen body: what follows it starts random"
    )

    @field_validator("shares")
    @classmethod
    def _something_to_compare_with(cls, shares: list[float]) -> list[float]:
        if 0.0 not in shares:
            raise ValueError("add 0.0: what wrong labels cost is told by the accuracy without any")
        return shares


class Prompts(Part):
    """Shots and templates, compared on gold that is learnt from; the best is then held against the test split."""

    templates: Annotated[list[Template], _ONCE] = Field(
        default_factory=list, description="the task's own where left out"
    )
    shots: Annotated[list[Annotated[int, Field(ge=0)]], _ONCE] = Field(
        default_factory=list, description="all that its examples allow"
    )
    documents: Rows = Field(default=250, description="gold documents that each is asked about")


class Annotators(Part):
    """Annotators beside the task's own, by a name of your choice."""

    compare: dict[LabelName, AnyLlm] = Field(
        default_factory=dict, description="name -> annotator, with all that a task file says of one"
    )
    documents: Rows = Field(default=250, description="gold documents that each is asked about")


class StudyPlan(Part):
    """What each kind of study varies, each of a list once.

    A seed decides the rows that are drawn, the new head and the order of batches.
    """

    seeds: Annotated[list[Seed], _SOME, _ONCE] = Field(default=[1, 2, 3], description="trainings of each point")
    gold_rows: Rows | None = Field(default=None, description="gold rows to learn from; all of the train split if none")
    strategies: Strategies = Field(default_factory=Strategies, description="for `llambert study strategies`")
    size: Size = Field(default_factory=Size, description="for `llambert study size`")
    mislabelling: Mislabelling = Field(default_factory=Mislabelling, description="for `llambert study mislabelling`")
    prompts: Prompts = Field(default_factory=Prompts, description="for `llambert study prompts`")
    annotators: Annotators = Field(default_factory=Annotators, description="for `llambert study annotators`")


def load_plan(include: Path, task: LabellingTask, seeds: str | None = None) -> StudyPlan:
    """Read include/studies/<task>.yaml; take the defaults where there is none. `seeds` replaces its seeds: `1,2,3`."""
    path = include / "studies" / f"{task.name}.yaml"
    plan = read_yaml(path, StudyPlan) if path.exists() else StudyPlan()
    if seeds is None:
        return plan
    try:
        return StudyPlan.model_validate({**plan.model_dump(), "seeds": seeds.split(",")})
    except ValidationError as error:
        raise ConfigError(
            f"--seeds {seeds!r}: whole numbers from 0 to 4294967295 with commas between them, each once"
        ) from error
