"""predict: ask the champion about a few texts."""

from collections.abc import Sequence

from llambert_etl.champion.moves import ensure_labels, standing
from llambert_etl.config import LabellingTask
from llambert_etl.errors import DataError
from llambert_etl.lake import Lake
from llambert_etl.registry import Registry
from llambert_etl.sources.clean import clean
from llambert_etl.sources.records import Record


def predict(
    task: LabellingTask, texts: Sequence[str], *, lake: Lake, registry: Registry
) -> list[tuple[str, str, dict[str, float]]]:
    """Return (text, label, probabilities) for each text, in order: what a label run gives a document of that text.

    Raise DataError for a text that ingest would refuse.
    """
    cleaned = [_cleaned(text, number, task) for number, text in enumerate(texts, 1)]
    found = standing(task.name, lake, registry)
    found.ensure(task.name)
    if (champion := found.version) is None:
        raise DataError(f"{task.name}: there is no champion yet; run train and promote")
    ensure_labels(task, champion)
    from llambert_etl.encoder.inference import Encoder

    probabilities = Encoder.load(registry.download(champion)).predict(cleaned)
    return [
        (
            text,
            champion.labels[int(row.argmax())],
            dict(zip(champion.labels, row.tolist(), strict=True)),
        )
        for text, row in zip(texts, probabilities, strict=True)
    ]


def _cleaned(text: str, number: int, task: LabellingTask) -> str:
    found = clean(Record("", number, text), task.source.max_chars)
    if found.text is None or found.reason is not None:
        raise DataError(f"predict: text {number} is none that ingest accepts: {found.reason}; leave it out or mend it")
    return found.text
