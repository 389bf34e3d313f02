"""Annotator: which LLM answers about the sample, from where, and what that may cost.

Each kind is a class and a line of the table at the end.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from llambert_etl.config.fields import (
    MOST,
    SERVED_MODEL,
    SERVED_REVISION,
    HubModel,
    IncludePath,
    ModelId,
    Part,
    Revision,
    ServerName,
)
from llambert_etl.config.kinds import Kinds, key_of

# Fields that only some kinds have. A file may say nothing by them whatever its kind, and its hash has always held them.
_NOTHING_SAID: Final[dict[str, object]] = {"server": None, "recorded": None, "leave_out": [], "batch": False}
_OF_SERVERS: Final = {
    "leave_out": "leave_out: only a server is sent these fields; set server, or remove leave_out",
    "batch": "batch: only a server takes batch files; set server, or remove batch",
}


def _above_zero(value: float) -> float:
    if value <= 0:
        raise ValueError("must be above 0; to spend without a cap, leave it out; to ask nobody, do not annotate")
    return value


class Recorded(Part):
    """Replies that `model` gave before: a Parquet, CSV or JSON lines file with the text that each was given about."""

    file: IncludePath = Field(description="a path below include/ that ends in .parquet, .csv or .jsonl")
    text: str = Field(default="text", description="its column of texts")
    reply: str = Field(default="reply", description="its column of replies")


class Budget(Part):
    """What one run may spend on its annotator, all its tries together; the first of the two that is used up ends it."""

    usd: Annotated[float, AfterValidator(_above_zero)] | None = Field(
        default=None, allow_inf_nan=False, description="above 0, in USD; the model needs a price in `LLAMBERT_PRICES`"
    )
    tokens: Annotated[int, AfterValidator(_above_zero)] | None = Field(
        default=None, description="above 0; those of prompts and answers together"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_something(cls, value: object) -> object:
        if not isinstance(value, Mapping) or all(value.get(name) is None for name in ("usd", "tokens")):
            raise ValueError(
                "name what it is of, such as {usd: 20}, {tokens: 1000000} or both; without one, leave it out"
            )
        return value


class Llm(Part):
    """What every kind of annotator says. The class variables are what others need to know of a kind."""

    loads_model: ClassVar[bool] = False
    # Over the network: what it answers is paid for, and how it joins turns is not known here.
    remote: ClassVar[bool] = False
    # False where the replies are there already, and were given to one prompt.
    asks: ClassVar[bool] = True

    model: str = Field(description="its id on the hub, organisation/name")
    revision: str = Field(description="a commit of 40 digits")
    sample: int = Field(gt=0, le=MOST, description="documents to annotate, as of a partition")
    extra: int = Field(
        default=0, ge=0, le=MOST, description="more of them, for the strategies `llm+extra` and `combined`"
    )
    method: Literal["score", "generate"] = Field(
        default="score", description="how labels are had; all but a model that is loaded need `generate`"
    )
    max_new_tokens: int = Field(default=10, gt=0, le=256, description="tokens of an answer, for `generate`")
    parse: Literal["mention", "exact"] = Field(default="mention", description="which replies count as a label")
    quantization: Literal["int8", "nf4"] | None = Field(default=None, description="whole weights where left out")
    budget: Budget | None = Field(default=None, description="no cap where left out")
    seed: int = Field(default=42, description="chooses the sample")

    @model_validator(mode="before")
    @classmethod
    def _fields_of_other_kinds(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        others = {name for name in _NOTHING_SAID.keys() & value.keys() if name not in cls.model_fields}
        for name in sorted(others):
            if value[name] != _NOTHING_SAID[name]:
                one_of_two = f"{key_of(cls, LLMS)} and {name}: replies come from one of the two; remove the other"
                raise ValueError(_OF_SERVERS.get(name, one_of_two))
        return {name: each for name, each in value.items() if name not in others}

    @model_validator(mode="after")
    def _replies_are_parsed(self) -> Self:
        if self.method == "score" and not self.loads_model:
            raise ValueError(f"{key_of(type(self), LLMS)}: replies are parsed, so set method: generate")
        return self

    @model_serializer(mode="wrap")
    def _as_ever(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        return {**_NOTHING_SAID, **handler(self)}

    @property
    def in_batches(self) -> bool:
        """Whether it is asked by batch files."""
        return False

    @property
    def left_out(self) -> frozenset[str]:
        """What its model does not take of a request."""
        return frozenset()


class LocalLlm(Llm):
    """A model that the step loads.

    `score` reads P(label) in one forward pass; `generate` lets it write and parses, as the paper did. `parse` accepts a
    reply that is a label and nothing else (`exact`), or one that names a single label (`mention`). `quantization` packs
    the weights into 8 or 4 bits, which changes answers.
    """

    loads_model = True

    model: ModelId = Field(description="its id on the hub, organisation/name")
    revision: Revision = Field(description="a commit of 40 digits")


class RecordedLlm(Llm):
    """With `recorded`: replies that a model has given before. Nobody is asked."""

    asks = False

    model: HubModel = Field(description="which gave them: its id on the hub, organisation/name")
    revision: Revision = Field(description="a commit of 40 digits")
    recorded: Recorded = Field(description="the file that holds them")


class ServedLlm(Llm):
    """With `server`: a model that one of the deployment's servers is asked for.

    `revision`, by default the server's name, sets apart answers that must not be mixed.
    """

    remote = True

    server: ServerName = Field(description="the name in `LLAMBERT_SERVERS__<NAME>__URL`")
    model: str = Field(pattern=SERVED_MODEL, max_length=200, description="the server's name for it")
    revision: str = Field(
        default="", pattern=SERVED_REVISION, max_length=100, description="a word, the server's name where left out"
    )
    leave_out: list[Literal["seed", "logprobs", "temperature", "system"]] = Field(
        default_factory=list,
        description="what the server's model does not take; without `temperature` answers are drawn, and `system` puts "
        "the system's words before the first question",
    )
    batch: bool = Field(default=False, description="ask by the server's batch files: cheaper, within a day")

    @model_validator(mode="after")
    def _named_by_its_server(self) -> Self:
        if not self.revision:
            object.__setattr__(self, "revision", self.server)
        return self

    @property
    def in_batches(self) -> bool:
        return self.batch

    @property
    def left_out(self) -> frozenset[str]:
        return frozenset(self.leave_out)


LLMS: Final[dict[str, type[Llm]]] = {
    "model": LocalLlm,
    "server": ServedLlm,
    "recorded": RecordedLlm,
}
AnyLlm = Annotated[Llm, Kinds(LLMS)]
