"""Account: what became of each document of a run, counted once."""

from collections import Counter
from collections.abc import Iterable, Mapping

from llambert_etl.llm import Reply
from llambert_etl.schemas import AnnotationStatus

_ELSEWHERE, _FORGOTTEN = "answered_elsewhere", "forgotten"


class Account:
    """Outcomes by text hash. A text that another run has answered first counts as that, asked about here or not."""

    def __init__(self) -> None:
        self._outcomes: dict[str, tuple[str, str | None]] = {}
        self._asked = set[str]()
        self.elsewhere = set[str]()
        self.answered_by = Counter[str]()

    @property
    def done(self) -> int:
        return len(self._outcomes)

    @property
    def asked(self) -> int:
        return len(self._asked)

    @property
    def asked_in_vain(self) -> int:
        """Return how many were asked about, and paid for, though another run's answer was first."""
        return len(self._asked & self.elsewhere)

    @property
    def answered(self) -> set[str]:
        """Return the texts that this run has got an answer about."""
        failed = AnnotationStatus.FAILED.value
        gone = (failed, _ELSEWHERE, _FORGOTTEN)
        return {each for each, (outcome, _) in self._outcomes.items() if outcome not in gone}

    @property
    def rows(self) -> dict[str, int]:
        counted = Counter(outcome for outcome, _ in self._outcomes.values())
        elsewhere = {_ELSEWHERE: len(self.elsewhere)} if self.elsewhere else {}
        forgotten = {_FORGOTTEN: counted[_FORGOTTEN]} if counted[_FORGOTTEN] else {}
        return {**{status.value: counted[status.value] for status in AnnotationStatus}, **elsewhere, **forgotten}

    @property
    def reasons(self) -> dict[str, int]:
        return dict(Counter(reason for _, reason in self._outcomes.values() if reason is not None))

    def add(self, text_hash: str, reply: Reply) -> None:
        self._asked.add(text_hash)
        self._outcomes[text_hash] = (reply.status.value, reply.reason)
        if reply.answered_by is not None:
            self.answered_by[reply.answered_by] += 1

    def leave_to_others(self, text_hashes: set[str]) -> None:
        self.elsewhere |= text_hashes
        self._outcomes |= dict.fromkeys(text_hashes, (_ELSEWHERE, None))

    def forget(self, text_hashes: Iterable[str]) -> None:
        """Count texts as those of documents that were forgotten meanwhile, whatever was said about them."""
        self._outcomes |= dict.fromkeys(text_hashes, (_FORGOTTEN, None))

    def facts(self) -> Mapping[str, object]:
        vain = self.asked_in_vain
        return {
            "asked": self.asked,
            **({"asked_in_vain": vain} if vain else {}),
            "answered_by": dict(self.answered_by),
        }
