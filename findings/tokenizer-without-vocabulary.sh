#!/usr/bin/env bash
# A model folder with config.json and no tokenizer files at all.
#
# One would expect AutoTokenizer.from_pretrained to raise an error, as transformers 4 did. transformers 5 gives a
# tokenizer that knows its special tokens and not one word: no error, no warning, with local_files_only too. For BERT,
# XLM-RoBERTa, DeBERTa-v2 and ALBERT every word is the unknown token; for RoBERTa, GPT-2 and Qwen2 every text is empty.
# So two sentences with opposite meanings become the same ids, and a model trains on them to its end. ModernBERT's and
# Llama's folders are refused, so whether one is told depends on the architecture.
#
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cd "$folder"
"$folder/venv/bin/python" - 2>"$folder/stderr" <<'PY' || { cat "$folder/stderr" >&2; exit 1; }
import sys
import warnings
from pathlib import Path

import tokenizers
import transformers
from transformers import AutoConfig, AutoTokenizer

print("transformers", transformers.__version__, "tokenizers", tokenizers.__version__)
good, bad = "the film was good", "the film was awful"
silent, refused = [], []
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for kind in ("bert", "xlm-roberta", "deberta-v2", "albert", "roberta", "gpt2", "qwen2", "modernbert", "llama"):
        folder = Path(kind)
        AutoConfig.for_model(kind).save_pretrained(folder)
        assert [path.name for path in folder.iterdir()] == ["config.json"]
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            refused.append(kind)
            print(f"{kind:12} {type(error).__name__}")
            continue
        ids = tokenizer(good)["input_ids"]
        same = ids == tokenizer(bad)["input_ids"]
        silent += [kind] if same else []
        print(f"{kind:12} {type(tokenizer).__name__}, {len(tokenizer)} tokens: {tokenizer.convert_ids_to_tokens(ids)}")
about = [str(each.message) for each in told if "vocab" in str(each.message).lower()]
print("warnings about a vocabulary:", about)
expected = ["bert", "xlm-roberta", "deberta-v2", "albert", "roberta", "gpt2", "qwen2"]
sys.exit(0 if silent == expected and refused == ["modernbert", "llama"] and not about else 1)
PY
if grep -i "vocab" "$folder/stderr"; then echo "it says something now"; exit 1; fi
echo "as described: the same ids for two different texts, and nothing said"
