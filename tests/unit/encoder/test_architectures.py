"""Whatever transformers opens as a sequence classifier is trained, and no label depends on what else is labelled."""

import json
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from llambert_etl.config import Recipe
from llambert_etl.encoder.card import read_card
from llambert_etl.encoder.inference import Encoder
from llambert_etl.encoder.training import LabelledTexts, fine_tune
from llambert_etl.errors import ConfigError
from llambert_etl.settings import Settings
from tests.given.tasks import REVISION
from tests.models.architectures import COMMON, PADDINGS, SETTINGS, save
from tests.models.encoders import LABELS, LONGEST

ROWS = LabelledTexts(tuple("the film good" + " a" * number for number in range(12)), (0, 1) * 6)
# The least that a tokenizer can give, lengths that differ, and more than is read.
TEXTS = ("", "good", "the film bad", "a film", "a poor film " * 5, "the film good " * 40)


def trained(root: Path, mirror: Path) -> Path:
    recipe = Recipe(model="tests/own", revision=REVISION, epochs=1, max_length=LONGEST)
    settings = Settings(lake=str(root), model_paths={recipe.model: mirror})
    fine_tune(recipe, LABELS, [ROWS], ROWS, settings, root / "out")
    return root / "out"


@pytest.mark.parametrize(
    ("architecture", "side"),
    [(name, "left") for name in SETTINGS] + [(name, "right") for name in COMMON] + [("bert", ""), ("xlnet", "")],
)
def test_every_architecture_learns_and_gives_a_text_the_logits_that_it_has_alone(
    tmp_path: Path, architecture: str, side: str
) -> None:
    folder = trained(tmp_path, save(tmp_path / "own", architecture, side))
    encoder = Encoder.load(folder)
    encoder._bf16 = False  # whose rounding would hide the difference
    together = encoder.logits(TEXTS)
    alone = np.vstack([encoder.logits([text]) for text in TEXTS])
    spread = np.ptp(alone, axis=0).max()
    assert spread > 1e-4, "the texts are told apart"
    assert np.abs(together - alone).max() < 1e-3 * spread
    padding = PADDINGS.get(architecture, "right")
    assert read_card(folder).padding == padding
    # What other readers of the folder will do.
    said = json.loads((folder / "tokenizer_config.json").read_text())
    assert said["padding_side"] == ("left" if padding == "left" else "right")
    assert said["truncation_side"] == "right"


@pytest.mark.parametrize(
    ("architecture", "settings", "reason"),
    [
        ("xmod", {"default_language": None}, "a XmodForSequenceClassification .*Input language unknown"),
        (
            "nystromformer",
            {"segment_means_seq_len": 32, "num_landmarks": 8},
            "a NystromformerForSequenceClassification",
        ),
        ("bart", {"eos_token_id": 90}, "a BartForSequenceClassification"),
    ],
)
def test_an_architecture_that_asks_for_more_is_refused_with_its_name_and_what_to_take_instead(
    tmp_path: Path, architecture: str, settings: dict[str, object], reason: str
) -> None:
    mirror = save(tmp_path / "own", architecture, **settings)
    with pytest.raises(ConfigError, match=rf"encoder\.model 'tests/own': {reason}.*choose another encoder, such as"):
        trained(tmp_path, mirror)


def test_a_tokenizer_with_nothing_to_pad_with_is_refused(tmp_path: Path) -> None:
    mirror = save(tmp_path / "own", "gpt2")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (mirror / name).exists():
            said = json.loads((mirror / name).read_text())
            (mirror / name).write_text(json.dumps({key: value for key, value in said.items() if "_token" not in key}))
    with pytest.raises(ConfigError, match="its tokenizer has no token to pad texts with; name one as pad_token"):
        trained(tmp_path, mirror)


def test_an_encoder_that_was_trained_with_padding_on_the_left_is_padded_on_the_right(tmp_path: Path) -> None:
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: number for number, label in enumerate(LABELS)}}
    folder = save(tmp_path / "own", "bert", "left", **names)
    (folder / "llambert.json").write_text(
        json.dumps({"labels": LABELS, "max_length": LONGEST})
    )  # of an earlier version
    encoder = Encoder.load(folder)
    encoder._bf16 = False
    assert np.allclose(encoder.logits(TEXTS), [encoder.logits([text])[0] for text in TEXTS], atol=1e-5)


def without_tokenizer(folder: Path) -> Path:
    for path in (*folder.glob("tokenizer*"), *folder.glob("vocab*"), *folder.glob("special*")):
        path.unlink()
    return folder


@pytest.mark.parametrize("architecture", ["bert", "roberta", "t5", "deberta-v2", "gpt2"])
def test_a_mirror_without_its_vocabulary_is_refused_and_not_trained_on_unknown_words(
    tmp_path: Path, architecture: str
) -> None:
    mirror = without_tokenizer(save(tmp_path / "own", architecture))
    with pytest.raises(ConfigError, match=r"its tokenizer tells no words apart.* with all its tokenizer files"):
        trained(tmp_path, mirror)


def test_a_tokenizer_that_cannot_be_opened_is_told_apart_from_weights_that_cannot(tmp_path: Path) -> None:
    mirror = without_tokenizer(save(tmp_path / "own", "llama"))
    with pytest.raises(ConfigError, match=r"the tokenizer in .* cannot be opened .* one with a tokenizer\.json"):
        trained(tmp_path, mirror)


def test_tokens_that_the_model_has_no_embedding_for_are_refused(tmp_path: Path) -> None:
    mirror = save(tmp_path / "own", "bert", vocab_size=100)
    with pytest.raises(ConfigError, match=r"its tokenizer gives tokens up to \d+, and the model knows 100"):
        trained(tmp_path, mirror)


def test_a_tokenizer_that_is_a_sentencepiece_file_alone_is_read_as_sentencepiece_reads_it(tmp_path: Path) -> None:
    mirror = without_tokenizer(save(tmp_path / "own", "deberta-v2"))
    words = "the film was good bad fine poor warm dull long".split()
    (mirror / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    lines = [" ".join(words[number % 7 :: 1 + number % 3]) for number in range(300)]
    special = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
    ids = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(mirror / "spm"), vocab_size=28, minloglevel=2, **special, **ids
    )
    encoder = Encoder.load(trained(tmp_path, mirror))
    read = sentencepiece.SentencePieceProcessor(model_file=str(mirror / "spm.model"))
    text = "the film  was poor"
    assert encoder._tokenizer(text)["input_ids"] == [1, *read.encode(text), 2]
