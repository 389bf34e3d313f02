"""Annotator: which LLM answers about the sample, from where, and what that may cost."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from llambert_etl.config.fields import (
    COMMIT,
    HUB_MODEL,
    RULES,
    SERVED_MODEL,
    SERVED_REVISION,
    IncludePath,
    Part,
    ServerName,
)


def _above_zero(value: float) -> float:
    if value <= 0:
        raise ValueError("must be above 0; to spend without a cap, leave it out; to ask nobody, do not annotate")
    return value


def _matching(value: str, pattern: str) -> str:
    if not re.fullmatch(pattern, value):
        raise ValueError(RULES[pattern])
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


class Annotator(Part):
    """The LLM. `score` reads P(label) in one forward pass; `generate` lets it write and parses, as the paper did.

    `parse` accepts a reply that is a label and nothing else (`exact`), or one that names a single label (`mention`).
    `quantization` packs the weights into 8 or 4 bits, which changes answers. With `recorded` nobody is asked. With
    `server` one of the deployment's servers is asked: `model` is its own name for the model, and `revision`, by default
    the server's name, sets apart answers that must not be mixed.
    """

    server: ServerName | None = Field(default=None, description="the name in `LLAMBERT_SERVERS__<NAME>__URL`")
    model: str = Field(description="its id on the hub, organisation/name; with `server`, the server's name for it")
    revision: str = Field(
        default="",
        validate_default=True,
        description="a commit of 40 digits, needed without `server`; with it a word, the server's name where left out",
    )
    sample: int = Field(gt=0, description="documents to annotate, as of a partition")
    extra: int = Field(default=0, ge=0, description="more of them, for the strategies `llm+extra` and `combined`")
    method: Literal["score", "generate"] = Field(
        default="score", description="how labels are had; `server` and `recorded` need `generate`"
    )
    max_new_tokens: int = Field(default=10, gt=0, le=256, description="tokens of an answer, for `generate`")
    parse: Literal["mention", "exact"] = Field(default="mention", description="which replies count as a label")
    quantization: Literal["int8", "nf4"] | None = Field(default=None, description="whole weights where left out")
    recorded: Recorded | None = Field(default=None, description="replies that were given before")
    leave_out: list[Literal["seed", "logprobs", "temperature", "system"]] = Field(
        default_factory=list,
        description="what the server's model does not take; without `temperature` answers are drawn, and `system` puts "
        "the system's words before the first question",
    )
    batch: bool = Field(default=False, description="ask by the server's batch files: cheaper, within a day")
    budget: Budget | None = Field(default=None, description="no cap where left out")
    seed: int = Field(default=42, description="chooses the sample")

    @field_validator("model")
    @classmethod
    def _known_where_it_is_asked(cls, value: str, info: ValidationInfo) -> str:
        return _matching(value, SERVED_MODEL if info.data.get("server") else HUB_MODEL)

    @field_validator("revision")
    @classmethod
    def _fixed(cls, value: str, info: ValidationInfo) -> str:
        server = info.data.get("server")
        return _matching(value or server, SERVED_REVISION) if server else _matching(value, COMMIT)

    @model_validator(mode="after")
    def _replies_are_parsed(self) -> Self:
        for name, set_ in (("recorded", self.recorded), ("server", self.server)):
            if set_ is not None and self.method == "score":
                raise ValueError(f"{name}: replies are parsed, so set method: generate")
        if self.recorded is not None and self.server is not None:
            raise ValueError("recorded and server: replies come from one of the two; remove the other")
        if self.leave_out and self.server is None:
            raise ValueError("leave_out: only a server is sent these fields; set server, or remove leave_out")
        if self.batch and self.server is None:
            raise ValueError("batch: only a server takes batch files; set server, or remove batch")
        return self

    @property
    def loads_model(self) -> bool:
        return self.server is None and self.recorded is None
