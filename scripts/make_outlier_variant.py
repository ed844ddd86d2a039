#!/usr/bin/env python3
"""Writes a copy of a Llama checkpoint that computes the same function with outlier channels in it.

Large language models have a few activation channels that are tens of times larger than the rest, and
small ones do not. This makes them: 4 channels of every block's norms and of every up_proj are
multiplied by powers of two, and what reads them is divided by the same. Powers of two are exact in
bfloat16, so the float model stays what it was, while plain rounding loses most of its accuracy.

    norm weight * s   ->  q, k, v (gate, up) columns / s
    up rows * s       ->  down columns / s

    scripts/make_outlier_variant.py MODEL_DIR OUT_DIR [--seed 0] [--channels 4] [--factors 8,16,32]

Same arguments, same bytes. Needs numpy alone; bfloat16 checkpoints only.
"""

import argparse
import json
import pathlib
import random
import shutil
import struct
import sys

import numpy as np

EXPONENT_BIAS_STEP = 1 << 7  # one step of a bfloat16's exponent


def scale(values, exponents):
    """bfloat16 bit patterns times 2^exponents, exactly; zeros stay zero."""
    exponent = (values >> 7) & 0xFF
    moved = exponent.astype(np.int64) + exponents
    if np.any((exponent != 0) & ((moved < 1) | (moved > 254))):
        sys.exit("error: a weight leaves bfloat16's range")
    shifted = (values.astype(np.int64) + exponents * EXPONENT_BIAS_STEP).astype(np.uint16)
    return np.where(exponent == 0, values, shifted)


class Checkpoint:
    """All safetensors files of a folder, in memory."""

    def __init__(self, folder):
        self.files = {}
        self.place = {}
        for path in sorted(folder.glob("*.safetensors")):
            if path.name.startswith("golden"):
                continue
            data = bytearray(path.read_bytes())
            (size,) = struct.unpack("<Q", data[:8])
            header = json.loads(data[8 : 8 + size])
            self.files[path.name] = data
            for name, entry in header.items():
                if name != "__metadata__":
                    self.place[name] = (path.name, 8 + size, entry)
        if not self.place:
            sys.exit(f"error: {folder}: no safetensors files")

    def tensor(self, name):
        if name not in self.place:
            sys.exit(f"error: no tensor {name}")
        file, start, entry = self.place[name]
        if entry["dtype"] != "BF16":
            sys.exit(f"error: {name}: type {entry['dtype']}, expected BF16")
        begin, end = entry["data_offsets"]
        view = np.frombuffer(self.files[file], dtype="<u2", count=(end - begin) // 2, offset=start + begin)
        return view.reshape(entry["shape"])

    def multiply(self, name, channels, exponents, axis):
        """Channels of the tensor's rows (axis 0) or columns (axis 1) times 2^exponents."""
        values = self.tensor(name)
        values.flags.writeable = True
        where = (slice(None), channels) if axis == 1 else (channels,)
        steps = np.array(exponents)
        if axis == 0 and values.ndim == 2:
            steps = steps[:, None]
        values[where] = scale(values[where], steps)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=pathlib.Path)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--factors", default="8,16,32")
    arguments = parser.parse_args()
    if arguments.out_dir.exists():
        sys.exit(f"error: {arguments.out_dir} exists")
    exponents = [int(f).bit_length() - 1 for f in arguments.factors.split(",")]
    if any(1 << e != int(f) for e, f in zip(exponents, arguments.factors.split(","))):
        sys.exit("error: --factors: expected powers of two")

    config = json.loads((arguments.model_dir / "config.json").read_text())
    checkpoint = Checkpoint(arguments.model_dir)
    draw = random.Random(arguments.seed)

    def pick(width):
        return draw.sample(range(width), arguments.channels), draw.choices(exponents, k=arguments.channels)

    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        for norm, readers in (
            ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
            ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
        ):
            channels, steps = pick(config["hidden_size"])
            checkpoint.multiply(f"{prefix}{norm}.weight", channels, steps, 0)
            for reader in readers:
                checkpoint.multiply(f"{prefix}{reader}.weight", channels, [-s for s in steps], 1)
        channels, steps = pick(config["intermediate_size"])
        checkpoint.multiply(f"{prefix}mlp.up_proj.weight", channels, steps, 0)
        checkpoint.multiply(f"{prefix}mlp.down_proj.weight", channels, [-s for s in steps], 1)

    arguments.out_dir.mkdir(parents=True)
    for path in arguments.model_dir.iterdir():
        if path.name in checkpoint.files:
            (arguments.out_dir / path.name).write_bytes(checkpoint.files[path.name])
        elif not path.name.startswith("golden"):
            shutil.copy(path, arguments.out_dir / path.name)
    print(f"wrote {arguments.out_dir}")


if __name__ == "__main__":
    main()
