"""An opened causal LM that answers about documents, by scoring the labels or by writing."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch

from llambert_etl.compute.batching import MOST_THREADS, Capacity, run_batches
from llambert_etl.config import LabellingTask
from llambert_etl.llm import Reply
from llambert_etl.llm.encoding import Document, Encoding
from llambert_etl.llm.generation import Generator, Written
from llambert_etl.llm.parsing import read_reply
from llambert_etl.llm.placement import changes_in_use, input_device
from llambert_etl.llm.prompts import Chat, Completion
from llambert_etl.llm.scoring import Scorer
from llambert_etl.llm.weights import LanguageModel, open_model
from llambert_etl.schemas import AnnotationStatus
from llambert_etl.settings import Settings

# Llama 2's whole context. Longer prompts would also make the memory of one batch unbounded.
_MAX_PROMPT_TOKENS = 4096
_TRUNCATED = "truncated"
# Beyond these a batch gains nothing: on a processor the caches are full, on a GPU the multiplications are. One that
# writes gains longer, until its cache fills the GPU: that of Llama-2-7b takes 0.5 MB a token, here 33 GB of 80.
_ON_PROCESSOR, _ON_GPU = 256, 16_384
_WRITTEN_ON_PROCESSOR, _WRITTEN_ON_GPU = 2048, 65_536


class LocalModel:
    """Answers with the task's method. The weights are opened when the first text needs them."""

    def __init__(self, task: LabellingTask, settings: Settings, prompt: Chat | Completion) -> None:
        self._task, self._settings, self._prompt = task, settings, prompt

    def annotate(self, texts: Sequence[str]) -> list[Reply]:
        """Return one reply for each text, in order."""
        documents = self.encoding.documents(texts)
        return self._score(documents) if self._task.annotator.method == "score" else self._generate(documents)

    @cached_property
    def encoding(self) -> Encoding:
        model, tokenizer = self._opened
        annotator = self._task.annotator
        return Encoding.build(
            tokenizer,
            self._prompt,
            self._task.label_names,
            context=min(_MAX_PROMPT_TOKENS, getattr(model.config, "max_position_embeddings", _MAX_PROMPT_TOKENS)),
            answer=annotator.max_new_tokens if annotator.method == "generate" else 0,
        )

    @cached_property
    def _opened(self) -> LanguageModel:
        return open_model(self._task.annotator, self._settings)

    @cached_property
    def _scorer(self) -> Scorer:
        return Scorer(self._opened.model, self.encoding.prefix, self.encoding.labels)

    @cached_property
    def _generator(self) -> Generator:
        return Generator(
            *self._opened,
            max_new_tokens=self._task.annotator.max_new_tokens,
            one_line=self.encoding.one_line,
        )

    @cached_property
    def _capacity(self) -> Capacity:
        on_processor = self._device.type == "cpu"
        if self._task.annotator.method == "score":
            return Capacity((_ON_PROCESSOR if on_processor else _ON_GPU) // self._scorer.rows_per_document)
        return Capacity(_WRITTEN_ON_PROCESSOR if on_processor else _WRITTEN_ON_GPU)

    @property
    def _device(self) -> torch.device:
        return input_device(self._opened.model)

    @property
    def _threads(self) -> int:
        return 1 if changes_in_use(self._opened.model) else MOST_THREADS

    def _score(self, documents: Sequence[Document]) -> list[Reply]:
        items = [[*document.ids, *self.encoding.suffix] for document in documents]
        shared, on_gpu = len(self.encoding.prefix), self._device.type != "cpu"
        found = run_batches(
            items,
            self._scorer.score,
            capacity=self._capacity,
            device=self._device,
            # The prefix is computed once, but each row of a GPU's batch has its own copy of the cache.
            room=lambda ids: len(ids) + (shared if on_gpu else 0),
            threads=self._threads,
        )
        return [
            _scored(document, probabilities, shared + len(item) + 1)
            for document, probabilities, item in zip(documents, found, items, strict=True)
        ]

    def _generate(self, documents: Sequence[Document]) -> list[Reply]:
        encoding = self.encoding
        items = [[*encoding.prefix, *document.ids, *encoding.suffix] for document in documents]
        found = run_batches(
            items,
            self._generator.write,
            capacity=self._capacity,
            device=self._device,
            room=lambda ids: len(ids) + self._task.annotator.max_new_tokens,
            threads=self._threads,
        )
        return [
            self._written(document, written, len(item) + written.tokens)
            for document, written, item in zip(documents, found, items, strict=True)
        ]

    def _written(self, document: Document, written: Written, tokens: int) -> Reply:
        reply = read_reply(self._task, written.text, tokens, cut=written.cut)
        reply = replace(reply, answer_tokens=written.tokens)
        return reply if reply.label is None else replace(reply, reason=_seen(document))


def _scored(document: Document, probabilities: dict[str, float] | None, tokens: int) -> Reply:
    if probabilities is None:
        return Reply(None, None, "", AnnotationStatus.FAILED, "not_finite", tokens)
    best = max(probabilities, key=lambda label: probabilities[label])
    if sum(probability == probabilities[best] for probability in probabilities.values()) > 1:
        return Reply(None, probabilities, "", AnnotationStatus.UNPARSED, "ambiguous", tokens)
    return Reply(best, probabilities, best, AnnotationStatus.LABELLED, _seen(document), tokens)


def _seen(document: Document) -> str | None:
    return _TRUNCATED if document.truncated else None
