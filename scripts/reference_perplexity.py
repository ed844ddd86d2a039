#!/usr/bin/env python3
"""Perplexity of a quantized Llama checkpoint, computed apart from the C++ code.

    scripts/reference_perplexity.py MODEL_DIR TEXT --scheme w4a4-kv4-q4 --context 1024
    scripts/reference_perplexity.py MODEL_DIR TEXT --windows 4 --float64
    scripts/reference_perplexity.py MODEL_DIR TEXT --scheme w4a4-kv4-q4 --smooth CALIBRATION_TEXT

A second implementation of docs/quantization.md, on NumPy alone: the expected values of the tests in
tests/end_to_end come from here. It quantizes and dequantizes ("fake quantization") and multiplies
floats, where the runtime multiplies codes; the two agree up to the rounding of float sums, and up
to the codes that such a rounding moves.

What it computes:

  forward pass   Llama: RMS norm, grouped-query attention with half-split RoPE, SwiGLU
  weights        rounding to nearest of the seven linears of each block, per output channel or per
                 group; asymmetric, symmetric, bit balanced, binary; no clipping
  activations    per token, the input of each of the seven linears
  K, V, Q        per token and head, K and Q after RoPE
  --smooth       SmoothQuant with alpha 0.5 before rounding: on norm -> q,k,v; norm -> gate,up;
                 v -> o (one scale per kv channel, from the group's first query head); up -> down
  convention     gptq-<context>: no BOS, windows from the start without overlap, the rest dropped,
                 every token but the first of a window scored

Everything is float32, or float64 with --float64. Needs `pip install numpy tokenizers`.
"""
import argparse
import dataclasses
import json
import pathlib
import re
import struct
import sys

import numpy as np
import tokenizers

MIN_SCALE = 1e-8
LINEARS = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}


@dataclasses.dataclass
class Scheme:
    """w<bits>[b]a<bits>[-g<group>][-kv<bits>][-q<bits>][-sym]; 16 bits = floats."""

    weight_bits: int
    balanced: bool
    activation_bits: int
    group: int  # 0 = per output channel
    kv_bits: int
    query_bits: int
    symmetric: bool

    @staticmethod
    def parse(text):
        match = re.fullmatch(r"w(\d+)(b?)a(\d+)(?:-g(\d+))?(?:-kv(\d+))?(?:-q(\d+))?(-sym)?", text)
        if not match:
            sys.exit(f"{text}: not a scheme; expected one like w2ba8-g128-kv8")
        weight, balanced, activation, group, kv, query, symmetric = match.groups()
        return Scheme(int(weight), bool(balanced), int(activation), int(group or 0),
                      int(kv or 16), int(query or 16), bool(symmetric))


def quantize_rows(rows, levels):
    """Asymmetric, one scale and zero point per row (the last axis), back as floats."""
    high = np.maximum(rows.max(-1, keepdims=True), 0)
    low = np.minimum(rows.min(-1, keepdims=True), 0)
    scale = np.maximum((high - low) / (levels - 1), rows.dtype.type(MIN_SCALE))
    zero = np.clip(np.round(-low / scale), 0, levels - 1)
    codes = np.clip(np.round(rows / scale) + zero, 0, levels - 1)
    return scale * (codes - zero)


def quantize_tokens(values, bits):
    return values if bits == 16 else quantize_rows(values, 2**bits)


def quantize_weight(weight, scheme):
    """Rounding to nearest of a weight [N, K], back as floats."""
    bits = scheme.weight_bits
    if bits == 16:
        return weight
    n, k = weight.shape
    group = scheme.group or k
    if k % group:
        sys.exit(f"group size {group} does not divide K={k}")
    rows = weight.reshape(n, k // group, group)
    one = weight.dtype.type
    if bits == 1 and not scheme.balanced:
        # The mean is taken in float64, as the contract says, and rounded once.
        scale = (2 * np.abs(rows).mean(-1, keepdims=True, dtype=np.float64)).astype(weight.dtype)
        result = np.maximum(scale, one(MIN_SCALE)) * ((rows >= 0) - one(0.5))
    elif scheme.symmetric:
        bound = np.abs(rows).max(-1, keepdims=True)
        levels = 2**bits + scheme.balanced
        scale = np.maximum(2 * bound / (levels - 1), one(MIN_SCALE))
        zero = 2 ** (bits - 1)
        result = scale * (np.clip(np.round(rows / scale) + zero, 0, levels - 1) - zero)
    else:
        result = quantize_rows(rows, 2**bits + scheme.balanced)
    return result.reshape(n, k).astype(weight.dtype)


def read_safetensors(path, dtype):
    """Name -> array of `dtype`, from F32, F16 and BF16 tensors."""
    data = path.read_bytes()
    (header_size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_size])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + header_size + offset for offset in entry["data_offsets"])
        raw = data[begin:end]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] in ("F32", "F16"):
            values = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]])
        else:
            sys.exit(f"{path}: {name}: type {entry['dtype']} is not F32, F16 or BF16")
        tensors[name] = values.reshape(entry["shape"]).astype(dtype)
    return tensors


def rms_norm(x, weight, epsilon):
    mean = np.mean(x * x, -1, keepdims=True)
    return x / np.sqrt(mean + x.dtype.type(epsilon)) * weight


class Model:
    def __init__(self, folder, dtype):
        self.config = json.loads((folder / "config.json").read_text())
        files = sorted(folder.glob("model*.safetensors"))
        if not files:
            sys.exit(f"{folder}: no model*.safetensors")
        tensors = {}
        for path in files:
            tensors.update(read_safetensors(path, dtype))
        self.dtype = dtype
        self.hidden = self.config["hidden_size"]
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config.get("num_key_value_heads", self.heads)
        self.head_dim = self.config.get("head_dim") or self.hidden // self.heads
        self.epsilon = self.config["rms_norm_eps"]
        rope = self.config.get("rope_parameters") or {}
        if rope.get("rope_type", "default") != "default" or self.config.get("rope_scaling"):
            sys.exit(f"{folder}: scaled RoPE is not implemented here")
        self.theta = rope.get("rope_theta", self.config.get("rope_theta", 10000.0))
        self.embedding = tensors["model.embed_tokens.weight"]
        self.final_norm = tensors["model.norm.weight"]
        self.head = tensors.get("lm_head.weight", self.embedding)
        self.blocks = []
        for i in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{i}."
            block = {key: tensors[f"{prefix}{name}.weight"] for key, name in LINEARS.items()}
            block["norm1"] = tensors[prefix + "input_layernorm.weight"]
            block["norm2"] = tensors[prefix + "post_attention_layernorm.weight"]
            self.blocks.append(block)

    def rotate(self, x):
        """RoPE on [batch, head, token, head_dim]; pairs are (j, j + head_dim / 2)."""
        half = self.head_dim // 2
        frequency = self.theta ** (-np.arange(half) * 2.0 / self.head_dim)
        angle = np.arange(x.shape[2])[:, None] * frequency
        cos, sin = np.cos(angle).astype(self.dtype), np.sin(angle).astype(self.dtype)
        a, b = x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, block, x, scheme):
        batch, tokens, _ = x.shape

        def split(key, heads):
            y = x @ block[key].T
            return y.reshape(batch, tokens, heads, self.head_dim).transpose(0, 2, 1, 3)

        group = self.heads // self.kv_heads
        query = quantize_tokens(self.rotate(split("q", self.heads)), scheme.query_bits)
        key = quantize_tokens(self.rotate(split("k", self.kv_heads)), scheme.kv_bits)
        value = quantize_tokens(split("v", self.kv_heads), scheme.kv_bits)
        query = query.reshape(batch, self.kv_heads, group, tokens, self.head_dim)
        score = query @ key[:, :, None].swapaxes(-1, -2) / self.dtype(np.sqrt(self.head_dim))
        score += np.triu(np.full((tokens, tokens), -np.inf, self.dtype), 1)
        score = np.exp(score - score.max(-1, keepdims=True))
        score /= score.sum(-1, keepdims=True)
        out = (score @ value[:, :, None]).reshape(batch, self.heads, tokens, self.head_dim)
        return out.transpose(0, 2, 1, 3).reshape(batch, tokens, -1)

    def run_block(self, block, x, scheme, observe=lambda site, value: None):
        def prepared(site, value):
            observe(site, value)
            return quantize_tokens(value, scheme.activation_bits)

        normed = prepared("norm1", rms_norm(x, block["norm1"], self.epsilon))
        x = x + prepared("o", self.attention(block, normed, scheme)) @ block["o"].T
        normed = prepared("norm2", rms_norm(x, block["norm2"], self.epsilon))
        gate = normed @ block["gate"].T
        gate = gate / (1 + np.exp(-gate)) * (normed @ block["up"].T)
        return x + prepared("down", gate) @ block["down"].T

    def quantize_weights(self, scheme):
        for block in self.blocks:
            for key in LINEARS:
                block[key] = quantize_weight(block[key], scheme)

    def negative_log_likelihood(self, windows, scheme):
        """Sum over all tokens but the first of each window [batch, token]."""
        x = self.embedding[windows]
        for block in self.blocks:
            x = self.run_block(block, x, scheme)
        logits = rms_norm(x, self.final_norm, self.epsilon)[:, :-1] @ self.head.T
        logits -= logits.max(-1, keepdims=True)
        chosen = np.take_along_axis(logits, windows[:, 1:, None], -1)[..., 0]
        normalizer = np.log(np.exp(logits).sum(-1))
        return float((normalizer - chosen).sum(dtype=np.float64))


def channel_maxima(model, windows):
    """Per block: site -> max |input| of every channel, over the float model's tokens."""
    floats = Scheme.parse("w16a16")
    maxima = [{} for _ in model.blocks]
    for batch in windows:
        x = model.embedding[batch]
        for block, found in zip(model.blocks, maxima):

            def observe(site, value, found=found):
                largest = np.abs(value).max((0, 1))
                found[site] = np.maximum(found.get(site, 0), largest)

            x = model.run_block(block, x, floats, observe)
    return maxima


def smooth(model, windows):
    """Folds the SmoothQuant scales (alpha 0.5) into the weights of every block."""

    def start(max_input, weights):
        max_weight = np.max([np.abs(weight).max(0) for weight in weights], 0)
        scale = np.sqrt(np.maximum(max_input, 1e-5)) / np.sqrt(np.maximum(max_weight, 1e-5))
        return np.maximum(scale, 1e-2).astype(model.dtype)

    group = model.heads // model.kv_heads
    for block, maxima in zip(model.blocks, channel_maxima(model, windows)):
        for norm, linears in (("norm1", "qkv"), ("norm2", ("gate", "up"))):
            scale = start(maxima[norm], [block[key] for key in linears])
            block[norm] = block[norm] / scale
            for key in linears:
                block[key] = block[key] * scale
        scale = start(maxima["o"], [block["o"]]).reshape(model.kv_heads, group, model.head_dim)
        scale = scale[:, 0]
        block["v"] = block["v"] / scale.reshape(-1, 1)
        block["o"] = block["o"] * np.repeat(scale, group, 0).reshape(-1)
        scale = start(maxima["down"], [block["down"]])
        block["up"] = block["up"] / scale[:, None]
        block["down"] = block["down"] * scale


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model_dir", type=pathlib.Path)
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--scheme", default="w16a16")
    parser.add_argument("--context", type=int, default=1024, help="tokens a window (1024)")
    parser.add_argument("--windows", type=int, default=0, help="first windows only; 0 = all")
    parser.add_argument("--float64", action="store_true", help="float64 instead of float32")
    parser.add_argument("--smooth", type=pathlib.Path, help="SmoothQuant on this calibration text")
    parser.add_argument("--calib-windows", type=int, default=128)
    parser.add_argument("--calib-context", type=int, default=1024)
    options = parser.parse_args()

    scheme = Scheme.parse(options.scheme)
    model = Model(options.model_dir, np.float64 if options.float64 else np.float32)
    tokenizer = tokenizers.Tokenizer.from_file(str(options.model_dir / "tokenizer.json"))

    def encode(path):
        text = path.read_bytes().decode("utf-8")
        return np.array(tokenizer.encode(text, add_special_tokens=False).ids)

    if options.smooth:
        ids = encode(options.smooth)
        context = min(options.calib_context, model.config["max_position_embeddings"])
        starts = [i * (len(ids) - context) // options.calib_windows
                  for i in range(options.calib_windows)]
        smooth(model, (ids[None, start : start + context] for start in starts))
    model.quantize_weights(scheme)

    ids = encode(options.text)
    count = len(ids) // options.context
    if options.windows:
        count = min(count, options.windows)
    if count == 0:
        sys.exit(f"{options.text}: {len(ids)} tokens are less than a window of {options.context}")
    windows = ids[: count * options.context].reshape(count, options.context)
    batch = max(1, 2048 // options.context)
    total = sum(model.negative_log_likelihood(windows[i : i + batch], scheme)
                for i in range(0, count, batch))
    scored = count * (options.context - 1)
    print(f"scheme       {options.scheme}{', smooth' if options.smooth else ''}")
    print(f"convention   gptq-{options.context}, {len(ids)} tokens, {count} windows, {scored} scored")
    print(f"nll          {total / scored:.6f}")
    print(f"perplexity   {np.exp(total / scored):.4f}")


if __name__ == "__main__":
    main()
