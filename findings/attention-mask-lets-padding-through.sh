#!/usr/bin/env bash
# The same text, alone and padded beside a longer one, with the attention mask that the tokenizer gives.
#
# One would expect the same logits: the mask says which tokens are padding. For BERT, RoBERTa, ELECTRA, MPNet and
# ModernBERT they are the same to the last bits. For ConvBERT, FNet, Nystromformer and YOSO they are not, in eval mode and
# fp32: their layers mix positions in ways that the mask does not reach (FNet takes a mask and drops it without a word).
# XLNet padded on the right reads its answer off the last position, which is padding. So the label of a document depends
# on what it was batched with, unless all texts are padded to one length (XLNet: on the left).
#
# Tiny models with random weights, six times what initialisation gives, so that texts differ at all. Exits with 1 if that
# has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/stderr" <<'PY' || { cat "$folder/stderr" >&2; exit 1; }
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification, BertTokenizer

print("transformers", transformers.__version__, "torch", torch.__version__)
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"the film was good bad long and dull but fine in parts".split()]
tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
bert = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
}
kinds = {
    "bert": bert,
    "roberta": bert,
    "electra": bert | {"embedding_size": 16},
    "mpnet": bert,
    "modernbert": bert,
    "convbert": bert | {"embedding_size": 16},
    "fnet": bert,
    "nystromformer": bert | {"segment_means_seq_len": 64, "num_landmarks": 64, "conv_kernel_size": 5},
    "yoso": bert,
    "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32},
}
texts = ["the film was good", "the film was long and dull but good in parts and fine but long and dull and bad"]
through = []
for kind, sizes in kinds.items():
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=len(words), pad_token_id=0, **sizes)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(6)

        def ask(texts: list[str], **options: object) -> torch.Tensor:
            batch = tokenizer(texts, return_tensors="pt", return_token_type_ids=False, **options)
            return model(**batch).logits

        alone, longer = ask(texts[:1])[0], ask(texts[1:])[0]
        beside = ask(texts, padding=True)[0]
    change = float((beside - alone).abs().max() / (longer - alone).abs().max())
    print(f"{kind:14} alone {alone.tolist()}, beside a longer text {beside.tolist()}: {change:.1e} of what two texts differ")
    if change > 1e-3:
        through.append(kind)
print("padding gets through the mask of", through)
sys.exit(0 if through == ["convbert", "fnet", "nystromformer", "yoso", "xlnet"] else 1)
PY
echo "as described"
