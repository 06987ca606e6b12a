"""Builds a language model that is tiny, random and the same each time; runs in the servers' environment.

    python tiny_model.py FOLDER FILE.gguf

A Llama of about 0.1 M parameters with a byte-level BPE tokenizer of its own, written once for vLLM (a
Hugging Face folder) and once for llama-server (GGUF). What it says is noise; how many tokens it reads
and writes is exact, and nothing has to be downloaded. Its output is not valid UTF-8 most of the time,
so some tokens decode to nothing: just what a measurement of the first token must cope with.
"""

# mypy: disable-error-code="import-not-found"
# (these libraries are where this runs, not where it is checked)

from __future__ import annotations

import json
import sys

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT_TOKENS = 512
LAYERS, HEADS, WIDTH, INNER_WIDTH = 2, 2, 64, 128
SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>")
MERGES = 60
CORPUS = (
    "How many tokens does a watt buy? The meter counts every request, the wait before it and the answer after it.",
    "A cache that remembers the prompt saves the work of reading it again; a queue shows when the server is full.",
    "Count from one to ten, then count the seconds between two words, and add up what they cost.",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'assistant' %}<|assistant|>{% else %}<|user|>{% endif %}{{ message.content }}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + len(SPECIAL) + MERGES,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=SPECIAL[0],
        model_max_length=CONTEXT_TOKENS,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def build_model(vocabulary: int, end_token: int) -> LlamaForCausalLM:
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=INNER_WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT_TOKENS,
        bos_token_id=None,
        eos_token_id=end_token,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).float().eval()


def write_gguf(path: str, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    _add_tokenizer(writer, tokenizer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy().astype(np.float32)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            values = _interleaved(values, config.num_attention_heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    words = sorted(tokenizer.get_vocab().items(), key=lambda word: word[1])
    kinds = [gguf.TokenType.CONTROL if word in SPECIAL else gguf.TokenType.NORMAL for word, _ in words]
    merges = _merges(tokenizer)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([word for word, _ in words])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _merges(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    pairs = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return [pair if isinstance(pair, str) else " ".join(pair) for pair in pairs]


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rotary halves side by side, as llama.cpp rotates neighbouring rows and transformers rotates halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def main(folder: str, gguf_file: str) -> None:
    tokenizer = build_tokenizer()
    model = build_model(len(tokenizer), tokenizer.eos_token_id)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    write_gguf(gguf_file, model, tokenizer)
    print(f"{sum(weights.numel() for weights in model.parameters())} parameters, {len(tokenizer)} tokens")


if __name__ == "__main__":
    main(*sys.argv[1:])
