"""The kinds of value that the parts of a task file share."""

from dataclasses import dataclass
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

# Ends what tells the kinds of a value apart, and is no part of its place: no text of a task file holds it.
TAG: Final = "\0"
NO_SWITCH: Final = "must not be true or false, which yes, no, on and off are too unless they stand in quotes"
HUB_MODEL = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"
COMMIT = r"^[0-9a-f]{40}$"
# A server names its models as it likes: `gpt-4-0613`, `llama3:70b`, a hub id.
# Its length is bounded apart: as part of the pattern that takes 20 ms of every start.
SERVED_MODEL = r"^[A-Za-z0-9][\w.:/-]*$"
SERVED_REVISION = r"^[\w.:-]*$"
TABLE_PATH = r"^([A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}$"
COLUMN = r'^[^"\x00-\x1f]{1,63}$'
_SERVER = r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$"
_TASK = r"^[a-z][a-z0-9_]{0,62}$"
_LABEL = r"^[A-Za-z0-9]([A-Za-z0-9 _.-]{0,62}[A-Za-z0-9_.-])?$"
_TEMPLATE = r"^[A-Za-z0-9_-]+\.j2$"
_CHANNEL = r"^[a-z][a-z0-9_-]{0,62}$"
# What each pattern asks for, to be told to people.
RULES = {
    HUB_MODEL: "must be organisation/name, as the hub writes it, such as FacebookAI/roberta-large",
    COMMIT: "must be a commit, its 40 hexadecimal digits: the hub lists them under the model's files and versions",
    SERVED_MODEL: "must be the server's name of a model, in letters, digits and . : / _ -",
    SERVED_REVISION: "must be a word of letters, digits and . : _ -",
    TABLE_PATH: "must be table or schema.table, each a word of letters, digits and underscores",
    COLUMN: "must be the name of a column, of 63 characters at most and without quotes or line breaks",
    _SERVER: "must be the name of a server of the deployment, in lower-case letters, digits and single underscores",
    _TASK: "must be lower-case letters, digits and underscores, and begin with a letter",
    _LABEL: "must be letters, digits, spaces and . _ - between two that are no space, 64 at most",
    _TEMPLATE: "must be the name of a file of include/prompts that ends in .j2",
    _CHANNEL: "must be the name of a channel of the deployment, in lower-case letters, digits, _ and -",
}


@dataclass(frozen=True)
class Names:
    """Marks a field whose value is the name of something that a deployment has or lacks."""

    of: Literal["connection", "server", "model", "channel"]


TaskName = Annotated[str, Field(pattern=_TASK)]
LabelName = Annotated[str, Field(pattern=_LABEL)]
HubModel = Annotated[str, Field(pattern=HUB_MODEL)]
# One that a step opens.
ModelId = Annotated[HubModel, Names("model")]
ServerName = Annotated[str, Field(pattern=_SERVER), Names("server")]
Revision = Annotated[str, Field(pattern=COMMIT, description="a commit, never a branch: a branch moves")]
Template = Annotated[str, Field(pattern=_TEMPLATE, description="a file of include/prompts")]
Channel = Annotated[str, Field(pattern=_CHANNEL), Names("channel")]
# No count of documents or characters is above it, and none that it multiplies exceeds what libraries in C take.
MOST: Final = 2**31 - 1
# What the random generators take.
Seed = Annotated[int, Field(ge=0, lt=2**32)]


def _no_switch(value: object) -> object:
    """Refuse true and false inside a mapping, which `Part` looks into no deeper than its own fields."""
    if isinstance(value, bool):
        raise ValueError(NO_SWITCH)
    return value


Share = Annotated[float, Field(ge=0.0, le=1.0), BeforeValidator(_no_switch)]
# What all labels must reach, or label -> what that one must. The tags choose which faults are told.
ONE: Final = f"one for all{TAG}"
EACH: Final = f"one for each{TAG}"
Floors = Annotated[
    Annotated[Share, Tag(ONE)] | Annotated[dict[LabelName, Share], Tag(EACH)],
    Discriminator(lambda value: EACH if isinstance(value, dict) else ONE),
]
Strategy = Literal["gold", "llm", "llm+extra", "combined"]
StudyKind = Literal["strategies", "size", "mislabelling", "prompts", "annotators"]


def _inside_include(value: str) -> str:
    path = PurePosixPath(value)
    if not path.name or path.is_absolute() or ".." in path.parts or "\\" in value:
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
