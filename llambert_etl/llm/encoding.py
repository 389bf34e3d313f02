"""Token ids of a prompt in three parts: the shared prefix, one document, the suffix; and of the labels."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jinja2 import TemplateError
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from llambert_etl.errors import ConfigError
from llambert_etl.llm.prompts import DOCUMENT, Chat, Completion, in_one_line, without_marks

# Chat formats that tell the model the date tell it this one, or answers would change overnight. It is Llama 3.1's own.
_SAME_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"
# What a template of a model's folder may fail with, as one of ours may.
_FAULTS = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
# Added words and white space are text; anything else may be a mark of a turn, and not every tokenizer calls it special.
_MARK = re.compile(r"[^\w\s▁]")


class Document(NamedTuple):
    """One document's token ids; `truncated` when the end of the text did not fit."""

    ids: list[int]
    truncated: bool


@dataclass(frozen=True)
class Encoding:
    """What one task's prompt becomes for one tokenizer; `room` is how many tokens a document may have."""

    plain: PreTrainedTokenizerBase  # for documents: it can split every mark
    prefix: list[int]
    suffix: list[int]
    labels: dict[str, list[int]]
    room: int
    one_line: bool  # documents and the reply are a line each
    lead: str  # what separates the prefix's last word from the document

    @classmethod
    def build(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        prompt: Chat | Completion,
        labels: Sequence[str],
        *,
        context: int,
        answer: int = 0,
    ) -> "Encoding":
        """Split the prompt at the document's mark. Raise ConfigError where the prompt alone fills the context.

        `answer` is how many tokens the reply may have; the longest label is counted in any case.
        """
        shown = _shown(tokenizer, prompt)
        if shown.count(DOCUMENT) != 1:
            raise ConfigError(
                f"prompt: this model's chat format shows the document {shown.count(DOCUMENT)} times; write a template "
                "without blocks that the model goes on with"
            )
        before, after = shown.split(DOCUMENT)
        # Tokenizers join a space to the word after it, so the space goes with the document.
        stem = before.rstrip(" ")
        prefix = list(tokenizer(stem, add_special_tokens=False)["input_ids"]) if stem else []
        if isinstance(prompt, Completion):
            prefix = _begin(tokenizer) + prefix
        space = "" if (after or before)[-1:].isspace() else " "
        encoded = dict(zip(labels, _pieces(tokenizer, [f"{space}{label}" for label in labels]), strict=True))
        suffix = _pieces(tokenizer, [after])[0] if after else []
        room = context - len(prefix) - len(suffix) - max(answer, *(len(ids) for ids in encoded.values()))
        if room < 1:
            raise ConfigError(
                f"prompt: its {len(prefix) + len(suffix)} tokens leave no room for a document in a context of "
                f"{context}; use fewer or shorter examples"
            )
        one_line = isinstance(prompt, Completion) and prompt.of_lines
        return cls(_plain(tokenizer), prefix, suffix, encoded, room, one_line, before[len(stem) :])

    def documents(self, texts: Sequence[str]) -> list[Document]:
        """Encode documents as plain text: nothing in them is a control token or a turn mark."""
        unmarked = [without_marks(text) for text in texts]
        if self.one_line:
            unmarked = [in_one_line(text) for text in unmarked]
        encoded = _pieces(self.plain, [self.lead + text for text in unmarked], split_special_tokens=True)
        return [Document(ids[: self.room], len(ids) > self.room) for ids in encoded]


def _shown(tokenizer: PreTrainedTokenizerBase, prompt: Chat | Completion) -> str:
    if isinstance(prompt, Completion):
        return prompt.content
    messages = [{"role": message.role, "content": message.content} for message in prompt.messages]
    try:
        shown = tokenizer.apply_chat_template(
            messages,
            chat_template=_SAME_DATE + tokenizer.get_chat_template(),
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,  # where a model may think first, or not, the label is to come at once
        )
    except _FAULTS as error:
        raise ConfigError(
            f"prompt: this model's chat format does not take it ({error}); leave out the system block, or write a "
            "template without blocks that the model goes on with"
        ) from error
    return str(shown)


def _begin(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the token that this tokenizer itself puts first, if any. A chat format already holds it as text."""
    first = tokenizer("")["input_ids"][:1]
    return list(first) if first == [tokenizer.bos_token_id] else []


def _plain(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a copy that holds every mark for special, since it splits no other added token.

    The tokenizer itself stays as it is: it leaves out of a reply what it holds for special.
    """
    plain = copy.deepcopy(tokenizer)
    if isinstance(plain, PreTrainedTokenizerFast):  # the others split all added tokens
        marks = [str(token) for token in plain.added_tokens_decoder.values() if _MARK.search(str(token))]
        plain.backend_tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    return plain


def _pieces(
    tokenizer: PreTrainedTokenizerBase, pieces: Sequence[str], *, split_special_tokens: bool = False
) -> list[list[int]]:
    """Encode texts as they are encoded in the middle of a prompt.

    SentencePiece tokenizers put a space before whatever they are given first; so each piece is encoded behind an
    anchor, which is then cut off. A letter cannot merge with white space, nor a line break with anything else.
    """
    if not pieces:
        return []
    anchors = ["x" if piece[:1].isspace() else "\n" for piece in pieces]
    options = {"add_special_tokens": False, "split_special_tokens": split_special_tokens}
    behind = [anchor + piece for anchor, piece in zip(anchors, pieces, strict=True)]
    anchored = tokenizer(behind, **options)["input_ids"]
    alone = {anchor: tokenizer(anchor, **options)["input_ids"] for anchor in set(anchors)}
    plain = tokenizer(list(pieces), **options)["input_ids"]
    return [
        list(ids[len(alone[anchor]) :]) if ids[: len(alone[anchor])] == alone[anchor] else list(bare)
        for anchor, ids, bare in zip(anchors, anchored, plain, strict=True)
    ]
