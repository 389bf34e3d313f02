#!/usr/bin/env bash
# Texts concatenated into one row, position ids that start again at each, and no attention mask: what
# DataCollatorWithFlattening of transformers makes, and how its models are given texts without padding.
#
# A decoder sees by the positions where a text begins, in its usual attention (sdpa), and gives each token the state that it
# has in its text alone; but only without a cache, and a cache is the default. One would expect the same of an encoder,
# which takes the same arguments and, without a word, gives states in which every text has attended to all the others: only
# the mask of causal models is made from position ids.
#
# Tiny models with random weights, six times what initialisation gives, so that texts differ at all. Exits with 1 if that has
# changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 transformers==5.24.0 tokenizers==0.23.3 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/stderr" <<'PY' || { cat "$folder/stderr" >&2; exit 1; }
import sys

import torch
import transformers
from transformers import AutoConfig, AutoModel, DataCollatorWithFlattening

print("transformers", transformers.__version__, "torch", torch.__version__)
sizes = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
}
kinds = {
    "llama": sizes | {"num_key_value_heads": 2},
    "qwen2": sizes | {"num_key_value_heads": 2},
    "bert": sizes,
    "electra": sizes | {"embedding_size": 16},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "modernbert": sizes,
}
texts = [[5, 6, 7], [8, 9, 10, 11, 12], [13, 14]]
flat = DataCollatorWithFlattening(return_tensors="pt")([{"input_ids": text} for text in texts])
print("position ids", flat["position_ids"].tolist())
mixed = []
for kind, settings in kinds.items():
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=20, pad_token_id=0, **settings)
    model = AutoModel.from_config(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(6)
        alone = torch.cat([model(input_ids=torch.tensor([text])).last_hidden_state for text in texts], dim=1)
        given = {"input_ids": flat["input_ids"], "position_ids": flat["position_ids"]}
        ways = {kind: {}}
        if kind in ("llama", "qwen2"):
            ways[f"{kind} without a cache"] = {"use_cache": False}
        found = {way: model(**given, **options).last_hidden_state for way, options in ways.items()}
    for way, together in found.items():
        apart = float((alone - together).abs().max() / alone.std())
        print(f"{way:22} {config._attn_implementation}: in one row its states differ by {apart:.1e} of their deviation")
        if apart > 1e-3:
            mixed.append(way)
print("texts see each other in", mixed)
sys.exit(0 if mixed == ["llama", "qwen2", "bert", "electra", "distilbert", "modernbert"] else 1)
PY
echo "as described"
