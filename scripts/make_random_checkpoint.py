#!/usr/bin/env python3
"""Writes a Llama checkpoint with random bfloat16 weights, in shards, as Hugging Face folders have it.

For tests of scale: how long a 7B-shaped model takes to compile, and in how much memory. The text that
such a model produces is noise.

    scripts/make_random_checkpoint.py --shape llama-7b --tokenizer tests/data/tiny-llama/tokenizer.json OUT_DIR
    scripts/make_random_checkpoint.py --shape tiny OUT_DIR
    scripts/make_random_checkpoint.py --hidden 1024 --layers 4 --heads 16 --kv-heads 4 --ffn 2816 \\
        --vocab 8192 OUT_DIR

OUT_DIR gets config.json, generation_config.json, model-*-of-*.safetensors with their index (or one
model.safetensors when it fits), and the tokenizer.json given with --tokenizer. The tokenizer may know
fewer tokens than the model has rows of embeddings: it then never produces the higher ids. Files that
a folder has already are not overwritten without --force.

Weights: normal with deviation 1/sqrt(K) for a linear of K inputs (0.02 for embeddings and head), norms
all 1. One block of --block-mib random values is drawn from --seed and used again for every tensor,
from a start of its own, so that writing 13.5 GB costs little more than the disk, and memory stays near
the size of the block. Same arguments, same bytes.

Needs numpy alone.
"""

import argparse
import json
import pathlib
import shutil
import struct
import sys

import numpy as np

SHAPES = {
    "tiny": dict(hidden=64, layers=2, heads=4, kv_heads=2, ffn=160, vocab=1024, context=256),
    "llama-7b": dict(hidden=4096, layers=32, heads=32, kv_heads=32, ffn=11008, vocab=32000, context=2048),
    "llama-13b": dict(hidden=5120, layers=40, heads=40, kv_heads=40, ffn=13824, vocab=32000, context=2048),
    "llama3-8b": dict(hidden=4096, layers=32, heads=32, kv_heads=8, ffn=14336, vocab=128256, context=8192),
}
DIMENSIONS = ("hidden", "layers", "heads", "kv_heads", "ffn", "vocab", "context")
BYTES = 2  # bfloat16


def to_bf16(values):
    """float32 -> bfloat16 bit patterns, round half to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def tensors_of(shape, tied):
    """(name, shape, deviation) of every tensor in storage order; deviation None: a norm, all ones."""
    hidden, ffn, vocab = shape["hidden"], shape["ffn"], shape["vocab"]
    head_dim = hidden // shape["heads"]
    kv_width = shape["kv_heads"] * head_dim
    linears = [
        ("self_attn.q_proj", hidden, hidden),
        ("self_attn.k_proj", kv_width, hidden),
        ("self_attn.v_proj", kv_width, hidden),
        ("self_attn.o_proj", hidden, hidden),
        ("mlp.gate_proj", ffn, hidden),
        ("mlp.up_proj", ffn, hidden),
        ("mlp.down_proj", hidden, ffn),
    ]
    yield "model.embed_tokens.weight", [vocab, hidden], 0.02
    for layer in range(shape["layers"]):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", [hidden], None
        for name, outputs, inputs in linears:
            yield f"{prefix}{name}.weight", [outputs, inputs], inputs**-0.5
        yield prefix + "post_attention_layernorm.weight", [hidden], None
    yield "model.norm.weight", [hidden], None
    if not tied:
        yield "lm_head.weight", [vocab, hidden], 0.02


def cut_into_shards(tensors, shard_bytes):
    """Lists of tensors of at most shard_bytes each; a larger tensor gets a shard of its own."""
    shards, used = [[]], 0
    for tensor in tensors:
        size = BYTES * int(np.prod(tensor[1], dtype=np.int64))
        if shards[-1] and used + size > shard_bytes:
            shards.append([])
            used = 0
        shards[-1].append(tensor)
        used += size
    return shards


class RandomBlock:
    """A block of standard normal values, and streams of scaled bfloat16 bytes out of it."""

    def __init__(self, count, seed):
        self._generator = np.random.default_rng(seed)
        self._values = self._generator.standard_normal(count, dtype=np.float32)
        self._scaled = {}  # deviation -> bfloat16 block; models have a handful of deviations

    def write(self, file, count, deviation):
        if deviation is None:
            file.write(to_bf16(np.ones(count)).tobytes())
            return
        if deviation not in self._scaled:
            self._scaled[deviation] = to_bf16(self._values * np.float32(deviation))
        block = self._scaled[deviation]
        start = int(self._generator.integers(block.size))  # else all tensors would be equal
        while count > 0:
            part = block[start : start + count]
            file.write(part.data)
            count -= part.size
            start = 0


def write_shard(path, tensors, block):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, _ in tensors:
        size = BYTES * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for _, shape, deviation in tensors:
            block.write(file, int(np.prod(shape, dtype=np.int64)), deviation)
    return offset


def write_weights(folder, shape, tied, shard_bytes, block):
    shards = cut_into_shards(tensors_of(shape, tied), shard_bytes)
    if len(shards) == 1:
        return write_shard(folder / "model.safetensors", shards[0], block)
    total, weight_map = 0, {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05}-of-{len(shards):05}.safetensors"
        total += write_shard(folder / name, shard, block)
        weight_map.update((tensor[0], name) for tensor in shard)
        print(f"{folder / name}: {len(shard)} tensors, {total / 1e9:.2f} GB so far", file=sys.stderr)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    write_json(folder / "model.safetensors.index.json", index)
    return total


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def config_of(shape, tied, theta):
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "hidden_act": "silu",
        "hidden_size": shape["hidden"],
        "intermediate_size": shape["ffn"],
        "max_position_embeddings": shape["context"],
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": shape["heads"],
        "num_hidden_layers": shape["layers"],
        "num_key_value_heads": shape["kv_heads"],
        "rms_norm_eps": 1e-5,
        "rope_theta": theta,
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "vocab_size": shape["vocab"],
    }


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    for name in DIMENSIONS:
        parser.add_argument("--" + name.replace("_", "-"), type=int, help="instead of the shape's")
    parser.add_argument("--tied", action="store_true", help="tie the head to the embeddings")
    parser.add_argument("--theta", type=float, default=10000.0, help="RoPE base (10000)")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="tokenizer.json to copy")
    parser.add_argument("--shard-mib", type=int, default=4096, help="largest shard (4096)")
    parser.add_argument("--block-mib", type=int, default=32, help="random block, as float32 (32)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="overwrite an existing checkpoint")
    arguments = parser.parse_args()
    shape = dict(SHAPES[arguments.shape])
    for name in DIMENSIONS:
        given = getattr(arguments, name)
        if given is not None:
            shape[name] = given
        if shape[name] < 1:
            parser.error(f"--{name}: expected a positive number, got {shape[name]}")
    if shape["hidden"] % shape["heads"] or shape["heads"] % shape["kv_heads"]:
        parser.error("hidden must be a multiple of heads, and heads of kv-heads")
    if min(arguments.shard_mib, arguments.block_mib) < 1:
        parser.error("--shard-mib and --block-mib: expected a positive number")
    return arguments, shape


def vocabulary_size(tokenizer):
    """One more than the largest id of a tokenizer.json."""
    content = json.loads(tokenizer.read_text(encoding="utf-8"))
    ids = list(content["model"]["vocab"].values())
    ids += [token["id"] for token in content.get("added_tokens", [])]
    return max(ids) + 1


def main():
    arguments, shape = parse_arguments()
    folder = arguments.out_dir
    if (folder / "config.json").exists() and not arguments.force:
        sys.exit(f"{folder}: has a checkpoint already; give --force to overwrite it")
    if arguments.tokenizer and vocabulary_size(arguments.tokenizer) > shape["vocab"]:
        sys.exit(
            f"{arguments.tokenizer}: has {vocabulary_size(arguments.tokenizer)} ids, "
            f"but the model only {shape['vocab']}; give --vocab"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("model*.safetensors"), *folder.glob("model.safetensors.index.json")]:
        old.unlink()  # a shard of an earlier shape would not belong to the new index
    write_json(folder / "config.json", config_of(shape, arguments.tied, arguments.theta))
    write_json(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": 1})
    if arguments.tokenizer:
        shutil.copyfile(arguments.tokenizer, folder / "tokenizer.json")
    block = RandomBlock(arguments.block_mib * 2**20 // 4, arguments.seed)
    total = write_weights(folder, shape, arguments.tied, arguments.shard_mib * 2**20, block)
    print(f"{folder}: {total // BYTES} weights, {total / 1e9:.3f} GB")


if __name__ == "__main__":
    main()
