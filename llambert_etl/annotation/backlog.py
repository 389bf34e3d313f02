"""Backlog: the sampled documents that an annotator has not answered, and the answers on their way to the lake."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import polars as pl
import pyarrow as pa

from llambert_etl.annotation.account import Account
from llambert_etl.annotation.failures import Fault, judged, without_blame
from llambert_etl.corpus.answers import ANSWERED, decided, failed_for_good, rows_about
from llambert_etl.corpus.forgotten import Forgotten
from llambert_etl.corpus.sampling import draw
from llambert_etl.corpus.sampling import sample as take_sample
from llambert_etl.errors import ConfigError, DataError, TransientError
from llambert_etl.facts import Annotated, Spent
from llambert_etl.lake import Lake, collect
from llambert_etl.llm import Annotator, HalfRefusedError, Reply
from llambert_etl.llm.parsing import PARSER_VERSION
from llambert_etl.llm.spending import Spending
from llambert_etl.manifest import Manifest
from llambert_etl.run import Run
from llambert_etl.schemas import TABLES, AnnotationStatus

logger = logging.getLogger(__name__)

Ask = Callable[[Sequence[str]], list[Reply]]


class Backlog:
    """One run's sample, the `documents` of it that are still to be asked, and what has been answered so far.

    `chosen` documents (id, text, text_hash) stand for the sample where a study asks about some of its own. Those that
    have failed for good are left out, unless the run is to `retry_failed`.
    """

    def __init__(
        self,
        run: Run,
        *,
        lake: Lake,
        annotator: Annotator,
        prompt_hash: str,
        spending: Spending,
        sample: int | None = None,
        chosen: pl.DataFrame | None = None,
        step: str = "annotate",
        retry_failed: bool = False,
    ) -> None:
        self.task, self.partition, self.lake, self.spending = run.task, run.partition, lake, spending
        self.question = {"prompt_hash": prompt_hash, "model": annotator.model, "revision": annotator.revision}
        self._run, self.step, self._wanted = run, step, run.task.sample_size(asked=sample)
        self._began = time.monotonic()
        documents = lake.snapshot("documents")
        if chosen is None:
            chosen = take_sample(documents, run.task.name, run.partition, self._wanted, run.task.annotator.seed)
        self._sample, self._read = chosen, documents.versions
        # Of annotations never a snapshot: what another run answers meanwhile is not asked again.
        self._looked = lake.version("annotations")
        unanswered = self.unanswered(self._sample)
        self.documents = unanswered if retry_failed else unanswered.filter(~self._have_failed_for_good())
        self._reused = self._sample.height - unanswered.height
        self._for_good = unanswered.height - self.documents.height
        self._answerable = next(iter(self._sample.join(unanswered, on="text_hash", how="anti")["text"]), None)
        spending.resume(self._spent_before())
        self._pending: list[tuple[dict[str, str], Reply]] = []
        self._account, self._vain = Account(), 0
        self._version: int | None = None
        logger.info(
            "%s %s %s: sample of %s (%s asked for), %s answered before, %s failed for good",
            step,
            run.task.name,
            run.partition,
            self._sample.height,
            self._wanted,
            self._reused,
            self._for_good,
        )

    @property
    def done(self) -> int:
        return self._account.done

    @property
    def asked(self) -> int:
        return self._account.asked

    @property
    def pending(self) -> int:
        """Return how many replies are kept for the next commit."""
        return len(self._pending)

    def unanswered(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Return the documents that this prompt, model and revision have not answered."""
        answered = collect(self._rows().filter(pl.col("status").is_in(ANSWERED)).select("text_hash"))
        return documents.join(answered, on="text_hash", how="anti")

    def still_open(self, documents: pl.DataFrame) -> pl.DataFrame:
        """Return those documents of the backlog that no other run has answered, and nobody forgotten, meanwhile.

        Where nothing was written since the last look, this costs a look at the table's version and at the notes.
        """
        gone = pl.col("id").is_in(list(Forgotten(self.lake, self.task.name).among(documents["id"])))
        self._account.forget(documents.filter(gone)["text_hash"])
        documents = documents.filter(~gone)
        version = self.lake.version("annotations")
        if version != self._looked:
            answered = set(self.documents["text_hash"]) - set(self.unanswered(self.documents)["text_hash"])
            self._account.leave_to_others(answered - self._account.answered)
            self._looked = version
        return documents.filter(~pl.col("text_hash").is_in(list(self._account.elsewhere)))

    @property
    def outrun(self) -> bool:
        """Tell whether another run was first with what this one has asked since `next_ones` last looked."""
        return self._account.asked_in_vain != self._vain

    def next_ones(self, left: pl.DataFrame) -> pl.DataFrame:
        """Return what is still open of what is left, in another order where another run was first with the last batch.

        Two runs in one order would ask about each batch at the same time, all the way.
        """
        left = self.still_open(left)
        if not self.outrun:
            return left
        self._vain = self._account.asked_in_vain
        return draw(left, left.height, f"{self._run.name}:{self._vain}")

    def may_use_up(self, under_way: int) -> bool:
        """Tell whether so many documents may use up the budget, if each costs what those before have cost."""
        share = under_way / max(self.asked, 1)
        more = round(self.spending.tokens_in * share), round(self.spending.tokens_out * share)
        return self.spending.used_up(*more) is not None

    def check_budget(self) -> None:
        """Raise DataError where the run has spent what its task allows; what is answered is committed before."""
        spent = self.spending.used_up()
        if spent is None:
            return
        self.commit()
        raise DataError(
            f"{self.step} {self.task.name} {self.partition}: the budget is used up: {spent} in run {self._run.name!r}; "
            f"{self.documents.height - self.done} documents are left to ask and what is answered is committed: raise "
            "annotator.budget and run it again, and it goes on from there"
        )

    def ask(self, annotator: Annotator, documents: pl.DataFrame) -> None:
        """Get the replies about one batch of documents and keep them, those too that came before a failure."""
        replies, fault = judged(lambda: annotator.annotate(documents["text"].to_list()))
        answered = pl.Series([reply.is_answer for reply in replies], dtype=pl.Boolean)
        self.keep(documents.filter(answered), [reply for reply in replies if reply.is_answer])
        failures = [reply for reply in replies if not reply.is_answer]
        self.settle(annotator.annotate, documents.filter(~answered), failures, fault, alone=not answered.any())

    def settle(
        self, ask: Ask, documents: pl.DataFrame, replies: Sequence[Reply], fault: Fault | None, *, alone: bool
    ) -> None:
        """Keep the failures of a batch whose answers are kept; they are `alone` where it has none.

        A failure is the documents' own where the annotator answers others at the same time, or answers again about a
        text that it has answered; then the run goes on, and they have had a try. Otherwise raise the fault.
        """
        well = (fault is None and not alone) or (not isinstance(fault, HalfRefusedError) and self.answers_again(ask))
        if well or fault is None or not alone:
            self.keep(documents, replies if well else without_blame(replies))
        if fault is not None and not well:
            self.commit()
            raise fault

    def answers_again(self, ask: Ask) -> bool:
        """Ask again about a text that is answered: it tells documents that cannot be from an annotator that is down."""
        mine = self.documents.filter(pl.col("text_hash").is_in(list(self._account.answered)))
        text = next(iter(mine["text"]), self._answerable)
        if text is None:
            return False
        try:
            (reply,) = ask([text])
        except (TransientError, ConfigError):
            return False
        self.spending.add(reply)
        logger.info("%s %s: asked again about an answered text: %s", self.step, self.task.name, reply.status.value)
        return reply.is_answer

    def keep(self, documents: pl.DataFrame, replies: Sequence[Reply]) -> None:
        """Keep the replies about some documents, in their order, for the next commit."""
        for document, reply in zip(documents.select("id", "text_hash").to_dicts(), replies, strict=True):
            self._pending.append((document, reply))
            self._account.add(document["text_hash"], reply)
            self.spending.add(reply)

    def commit(self) -> None:
        """Write the replies that were kept, but for those to texts answered first by another run, or forgotten."""
        gone = Forgotten(self.lake, self.task.name).among(document["id"] for document, _ in self._pending)
        self._account.forget(document["text_hash"] for document, _ in self._pending if document["id"] in gone)
        self._pending = [entry for entry in self._pending if entry[0]["id"] not in gone]
        if not self._pending:
            return
        rows = pa.Table.from_pylist(
            [self._row(document, reply) for document, reply in self._pending], schema=TABLES["annotations"].schema
        )
        done = self.lake.append_once("annotations", self.task.name, self.partition, rows, manifest=self._settled)
        logger.info("%s %s %s: committed version %s", self.step, self.task.name, self.partition, done.version)
        self._version, self._pending = done.version, []
        if not done.replayed and done.version == self._looked + 1:
            self._looked = done.version  # nobody else has written

    def _settled(self, added: pa.Table) -> Manifest:
        """Account for the pending replies when it is known which of them are added."""
        lost = {document["text_hash"]: reply for document, reply in self._pending}
        for text_hash in added["text_hash"].to_pylist():
            del lost[text_hash]
        if lost:
            # A failure that is not added may be one that this run has written before.
            still_open = self.unanswered(pl.DataFrame({"text_hash": list(lost)}))["text_hash"]
            self._account.leave_to_others(set(lost) - set(still_open))
        return self._manifest()

    def finish(self, facts: Mapping[str, object] = MappingProxyType({}), **others: int) -> Manifest:
        """Return the run's account, with the label shares of the whole sample: this run's answers and older ones.

        `others` counts documents that became neither: `left` for a later run, say.
        """
        mine = self.answered().join(self._sample.lazy().select("text_hash"), on="text_hash", how="semi")
        labels = collect(mine.filter(pl.col("status") == AnnotationStatus.LABELLED).select("label"))["label"]
        shares = {label: int((labels == label).sum()) / max(len(labels), 1) for label in self.task.labels}
        return self._manifest({"label_shares": shares, **facts}, others)

    def answered(self) -> pl.LazyFrame:
        """Return the answers that this prompt, model and revision have given about any text of the task, one a text."""
        return decided(self._rows()).filter(pl.col("status").is_in(ANSWERED))

    def _rows(self) -> pl.LazyFrame:
        return rows_about(self.question, self.task.name, self.lake)

    def _have_failed_for_good(self) -> pl.Expr:
        return pl.col("text_hash").is_in(collect(failed_for_good(self._rows()))["text_hash"].to_list())

    def _spent_before(self) -> Spent:
        """Return what earlier tries of this run have spent: its newest commit tells for all of them."""
        asked = self.lake.scan("annotations", self.task.name, self.partition).filter(pl.col("run") == self._run.name)
        if collect(asked.head(1)).is_empty():
            return Spent()  # without rows there is no commit to look for in a year of them
        mine = (self.task.name, self.partition, self._run.name)
        for commit in self.lake.commits("annotations", self.task.name):
            manifest = commit.manifest
            if manifest is not None and (manifest.task, manifest.partition, manifest.run) == mine:
                return Annotated.of(manifest).spent
        return Spent()

    def _manifest(
        self, facts: Mapping[str, object] = MappingProxyType({}), others: Mapping[str, int] = MappingProxyType({})
    ) -> Manifest:
        """Account for the documents done so far; the last commit's manifest accounts for all."""
        others = {**({"failed_for_good": self._for_good} if self._for_good else {}), **others}
        read = self._reused + self.done + sum(others.values())
        each = round((time.monotonic() - self._began) / self.asked, 4) if self.asked else None
        return self._run.manifest(
            self.step,
            rows={"read": read, **self._account.rows, "reused": self._reused, **others},
            reasons=self._account.reasons,
            versions_read=self._read,
            versions_written={} if self._version is None else {"annotations": self._version},
            tokens=self.spending.tokens_in + self.spending.tokens_out,
            cost=round(self.spending.usd, 6),
            facts={
                "sample_wanted": self._wanted,
                "sample": self._sample.height,
                "sample_is_short": self._sample.height < self._wanted,
                "seconds_per_document": each,
                **self.question,
                **self._account.facts(),
                "tokens_in": self.spending.tokens_in,
                "tokens_out": self.spending.tokens_out,
                "spent": self.spending.spent().told(),
                **facts,
            },
        )

    def _row(self, document: dict[str, str], reply: Reply) -> dict[str, object]:
        probabilities = reply.probabilities and [
            {"label": label, "probability": probability} for label, probability in reply.probabilities.items()
        ]
        return {
            "task": self.task.name,
            "partition": str(self.partition),
            **document,
            **self.question,
            "parser_version": PARSER_VERSION,
            "status": reply.status.value,
            "reason": reply.reason,
            "label": reply.label,
            "probabilities": probabilities,
            "reply": reply.raw,
            "tokens": reply.tokens,
            "run": self._run.name,
        }
