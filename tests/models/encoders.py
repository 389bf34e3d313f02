"""Tiny encoders with random weights and tokenizers of their own: made in a moment, shaped like the real ones."""

import functools
import string
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForSequenceClassification,
    RobertaTokenizer,
)

from llambert_etl.config import Recipe
from llambert_etl.encoder.card import Card
from llambert_etl.encoder.training import LabelledTexts, fine_tune
from llambert_etl.settings import Settings
from tests.given.tasks import REVISION

LABELS = ("positive", "negative")
LONGEST = 64  # in tokens; as many published ones do not, the tokenizers here do not say so
_CHARACTERS = string.ascii_lowercase + string.digits + string.punctuation
# What a sure encoder gets right four times out of five.
HELDOUT = LabelledTexts(("the film good", "the film bad") * 50, ((0, 1) * 4 + (1, 0)) * 10)
_WORDS = ("good", "bad", "fine", "poor", "film", "the", "a")


def bert(labels: tuple[str, ...] = LABELS) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    config = BertConfig(
        vocab_size=len(wordpieces()),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LONGEST,
        **_names(labels),
    )
    return BertForSequenceClassification(config), _wordpiece_tokenizer()


def distilbert(labels: tuple[str, ...] = LABELS) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    config = DistilBertConfig(
        vocab_size=len(wordpieces()),
        dim=16,
        n_layers=1,
        n_heads=2,
        hidden_dim=32,
        max_position_embeddings=LONGEST,
        **_names(labels),
    )
    return DistilBertForSequenceClassification(config), _wordpiece_tokenizer()


def roberta(labels: tuple[str, ...] = LABELS) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Ġ", *_CHARACTERS]
    config = RobertaConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=LONGEST + 2,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        **_names(labels),
    )
    tokenizer = RobertaTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])
    return RobertaForSequenceClassification(config), tokenizer


ARCHITECTURES: dict[str, Callable[[], tuple[PreTrainedModel, PreTrainedTokenizerBase]]] = {
    "bert": bert,
    "distilbert": distilbert,
    "roberta": roberta,
}


def pretrained(folder: Path, architecture: str = "bert", **settings: object) -> Path:
    """Write what a mirror of a published encoder holds: no card yet. `settings` are written into its config.json."""
    torch.manual_seed(0)
    model, tokenizer = ARCHITECTURES[architecture]()
    model.config.update(settings)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def crafted(folder: Path, answers: str, labels: tuple[str, ...] = LABELS) -> Path:
    """Write an encoder that gives one label whatever it reads."""
    torch.manual_seed(0)
    model, tokenizer = bert(labels)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor([5.0 if label == answers else 0.0 for label in labels]))
    return _save(folder, model, tokenizer, labels)


def taught(folder: Path, meanings: Mapping[str, str], labels: tuple[str, ...] = LABELS) -> Path:
    """Write an encoder that knows what each of a few words means: teach it wrong, and it is wrong."""
    torch.manual_seed(0)
    model, tokenizer = bert(labels)
    batch = tokenizer([f"the film {word}" for word in meanings], return_tensors="pt", padding=True)
    truth = torch.tensor([labels.index(label) for label in meanings.values()])
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimiser.zero_grad()
        model(**batch, labels=truth).loss.backward()
        optimiser.step()
    return _save(folder, model, tokenizer, labels)


def trained(root: Path) -> Path:
    """Fine-tune an encoder that is sure of itself before it has seen `HELDOUT`."""
    taught(root / "taught", {"good": "positive", "bad": "negative"})
    rows = LabelledTexts(tuple(f"the film {word}" for word in ("good", "bad") * 5), (0, 1) * 5)
    recipe = Recipe(model="tests/taught", revision=REVISION, epochs=1, max_length=32)
    settings = Settings(lake=str(root), model_paths={recipe.model: root / "taught"})
    fine_tune(recipe, LABELS, [rows], HELDOUT, settings, root / "trained")
    return root / "trained"


def _save(folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, labels: tuple[str, ...]) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Card(labels, 32).write(folder)
    return folder


def _names(labels: tuple[str, ...]) -> dict[str, object]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}


@functools.cache
def wordpieces() -> tuple[str, ...]:
    return (
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *_WORDS,
        *_CHARACTERS,
        *(f"##{character}" for character in _CHARACTERS),
    )


def _wordpiece_tokenizer() -> PreTrainedTokenizerBase:
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(wordpieces())})
