"""The kinds of value that the parts of a task file share."""

from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

NO_SWITCH: Final = "must not be true or false, which yes, no, on and off are too unless they stand in quotes"
HUB_MODEL = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"
COMMIT = r"^[0-9a-f]{40}$"

TaskName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
LabelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9 _.-]{0,62}[A-Za-z0-9_.-])?$")]
ModelId = Annotated[str, Field(pattern=HUB_MODEL)]
Revision = Annotated[str, Field(pattern=COMMIT, description="a commit, never a branch: a branch moves")]
Template = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+\.j2$", description="a file of include/prompts")]
Channel = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
# What the random generators take.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _no_switch(value: object) -> object:
    """Refuse true and false inside a mapping, which `Part` looks into no deeper than its own fields."""
    if isinstance(value, bool):
        raise ValueError(NO_SWITCH)
    return value


Share = Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(_no_switch)]
# What all labels must reach, or label -> what that one must. The tags choose which faults are told.
ONE: Final = "one for all"
EACH: Final = "one for each"
Floors = Annotated[
    Annotated[Share, Tag(ONE)] | Annotated[dict[LabelName, Share], Tag(EACH)],
    Discriminator(lambda value: EACH if isinstance(value, dict) else ONE),
]
Strategy = Literal["gold", "llm", "llm+extra", "combined"]
StudyKind = Literal["strategies", "size", "mislabelling", "prompts", "annotators"]


def _inside_include(value: str) -> str:
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value:
        raise ValueError("must be a path inside the include folder, without '..'")
    return value


IncludePath = Annotated[str, AfterValidator(_inside_include)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _only_a_switch_is_true(cls, value: object, info: ValidationInfo) -> object:
        # Python takes true for 1, so `sample: yes` would ask about one document.
        switch = cls.model_fields[info.field_name or ""].annotation is bool
        if not switch and any(isinstance(each, bool) for each in (value if isinstance(value, list) else [value])):
            raise ValueError(NO_SWITCH)
        return value
