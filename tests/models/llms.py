"""Tiny causal LMs with random weights and tokenizers of their own, saved as the folders that real models come in."""

import json
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, LlamaTokenizer, PreTrainedTokenizerFast

_CORPUS = [
    "Review: a warm and funny film with a wonderful cast\nSentiment: positive",
    "Review: dull, clumsy and far too long\nSentiment: negative",
    "sports business science market match goal physics profit",
]
_CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# Marks of turns that are not called special, as DeepSeek's and Qwen's are, beside added text.
_ORDINARY = ["<｜User｜>", "<think>", "   ", "footballer"]
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_tiny_llama(folder: Path, *, chat: bool = True, context: int = 256, seed: int = 0) -> Path:
    """Save a two-layer Llama and a byte-level tokenizer; `chat` gives it a chat format."""
    tokenizer = _tokenizer(chat)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        # Far from zero, so that two prompts never score alike by accident.
        initializer_range=0.3,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_llama2(folder: Path, *, context: int = 1024, tied: bool = False) -> Path:
    """Save what Llama-2-chat is in small: its shape, a tokenizer of its kind, and settings that would sample."""
    tokenizer = _sentencepiece()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        # 4-bit weights come in blocks of 64.
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.3,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    ends = tokenizer.eos_token_id
    model.generation_config = GenerationConfig(eos_token_id=ends, do_sample=True, temperature=0.6, top_p=0.9)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_speaking_llama(folder: Path, *pieces: str, special: tuple[str, ...] = ()) -> Path:
    """Save a Llama that answers any prompt with the same pieces, each a token of its own, and then ends its turn."""
    tokenizer = _tokenizer(chat=True)
    tokenizer.add_tokens([AddedToken(each, special=each in special, normalized=False) for each in pieces])
    size = len(tokenizer)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=size,  # a direction for each token, which nothing but the head changes
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    said = [*tokenizer.convert_tokens_to_ids(pieces), tokenizer.eos_token_id]
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        model.lm_head.weight.zero_()
        model.lm_head.weight[said[0]] = 0.5  # after whatever the prompt ends with
        for token, following in zip(said, said[1:], strict=False):
            model.lm_head.weight[following, token] = 1.0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _sentencepiece() -> LlamaTokenizer:
    """Return a tokenizer that works as Llama 2's: pieces may begin with a space, other characters become bytes."""
    bare = Tokenizer(BPE(byte_fallback=True))
    bare.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    lines = [*_CORPUS, "[INST] <<SYS>> <</SYS>> [/INST] Please answer with a 'yes' or a 'no' only! Decide if it is"]
    # A line break is a byte for Llama 2, never part of a piece.
    bare.train_from_iterator(
        [line.replace("\n", " ") for line in lines],
        BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False),
    )
    trained = json.loads(bare.to_str())["model"]
    merges = [tuple(pair) for pair in trained["merges"]]
    return LlamaTokenizer(vocab=trained["vocab"], merges=merges, add_bos_token=True, add_eos_token=False)


def _tokenizer(chat: bool) -> PreTrainedTokenizerFast:
    bare = Tokenizer(BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    control = [AddedToken(token, special=True, normalized=False) for token in _CONTROL]
    # Few merges: ` positive` and ` negative` stay several tokens, as most labels are for most models.
    bare.train_from_iterator(_CORPUS, BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=control))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, bos_token=_CONTROL[0], eos_token=_CONTROL[2])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in _ORDINARY])
    tokenizer.chat_template = _CHAT if chat else None
    return tokenizer
