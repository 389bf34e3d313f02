"""predict: ask the champion about a few texts."""

from collections.abc import Sequence

from llambert_etl.config import LabellingTask
from llambert_etl.errors import ConfigError, DataError
from llambert_etl.registry import Registry


def predict(
    task: LabellingTask, texts: Sequence[str], *, registry: Registry
) -> list[tuple[str, str, dict[str, float]]]:
    """Return (text, label, probabilities) for each text, in order."""
    champion = registry.champion(task.name)
    if champion is None:
        raise DataError(f"{task.name}: there is no champion yet; run train and promote")
    if champion.labels != task.label_names:
        raise ConfigError(
            f"champion {champion.version} labels {list(champion.labels)}, the task {list(task.label_names)}: retrain"
        )
    from llambert_etl.encoder.inference import Encoder

    probabilities = Encoder.load(registry.download(champion)).predict(texts)
    return [
        (
            text,
            champion.labels[int(row.argmax())],
            dict(zip(champion.labels, row.tolist(), strict=True)),
        )
        for text, row in zip(texts, probabilities, strict=True)
    ]
