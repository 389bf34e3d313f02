"""Spending: what a run's annotator has cost so far, against the budget of its task."""

from llambert_etl.config import LabellingTask, Llm
from llambert_etl.errors import ConfigError
from llambert_etl.facts import Spent
from llambert_etl.llm import Reply
from llambert_etl.settings import Price, Settings

_MILLION = 1_000_000


class Spending:
    """Tokens and USD of this try and of the run's earlier ones. A model without a price costs nothing that we know."""

    def __init__(self, annotator: Llm, price: Price | None = None, *, batched: bool = False) -> None:
        self._budget, self._price = annotator.budget, price
        self._share = price.batch_share if price is not None and batched else 1.0
        self.tokens_in = self.tokens_out = 0
        self._earlier_tokens, self._earlier_usd = 0, 0.0
        if price is None and self._budget is not None and self._budget.usd is not None:
            raise ConfigError(
                f"annotator.budget: {self._budget.usd} USD, but {annotator.model!r} has no price here; add it to "
                "LLAMBERT_PRICES, or give the budget in tokens"
            )

    @classmethod
    def load(cls, task: LabellingTask, settings: Settings, *, batched: bool = False) -> "Spending":
        """Look up the model's price, `batched` that of a batch file; raise ConfigError for a budget that needs one."""
        return cls(task.annotator, settings.prices.get(task.annotator.model), batched=batched)

    @property
    def usd(self) -> float:
        return self.price_of(self.tokens_in, self.tokens_out)

    @property
    def priced(self) -> bool:
        return self._price is not None

    def price_of(self, tokens_in: float, tokens_out: float) -> float:
        if self._price is None:
            return 0.0
        return self._share * (tokens_in * self._price.input + tokens_out * self._price.output) / _MILLION

    def add(self, reply: Reply) -> None:
        self.tokens_in += reply.tokens - reply.answer_tokens
        self.tokens_out += reply.answer_tokens

    def resume(self, spent: Spent) -> None:
        """Go on from what an earlier try of the run had spent, as its last commit tells."""
        self._earlier_tokens, self._earlier_usd = spent.tokens, spent.usd

    def spent(self) -> Spent:
        """Return what the run has spent in all its tries."""
        tokens = self._earlier_tokens + self.tokens_in + self.tokens_out
        return Spent(tokens=tokens, usd=round(self._earlier_usd + self.usd, 6))

    def used_up(self, more_in: int = 0, more_out: int = 0) -> str | None:
        """Say how much of the budget is spent, where none is left or would be left beside so many tokens more."""
        if self._budget is None:
            return None
        tokens = self._earlier_tokens + self.tokens_in + self.tokens_out
        usd = self._earlier_usd + self.usd
        if self._budget.tokens is not None and tokens + more_in + more_out >= self._budget.tokens:
            return f"{tokens:,} of {self._budget.tokens:,} tokens"
        if self._budget.usd is not None and usd + self.price_of(more_in, more_out) >= self._budget.usd:
            return f"{usd:.4f} of {self._budget.usd:.4f} USD"
        return None
