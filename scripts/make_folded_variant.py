#!/usr/bin/env python3
"""Writes a copy of a Llama checkpoint whose norm weights within blocks are folded into the linears
that read them: the same function in other coordinates, for comparison with methods that always fold.

    norm weight g  ->  1,    q, k, v (gate, up) columns * g

    scripts/make_folded_variant.py MODEL_DIR OUT_DIR

Folded tensors become float32, the others stay as they are, all in one file. Needs numpy alone;
bfloat16 checkpoints only.
"""

import argparse
import json
import pathlib
import shutil
import struct
import sys

import numpy as np

from make_outlier_variant import Checkpoint

READERS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=pathlib.Path)
    parser.add_argument("out_dir", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.out_dir.exists():
        sys.exit(f"error: {arguments.out_dir} exists")
    config = json.loads((arguments.model_dir / "config.json").read_text())
    checkpoint = Checkpoint(arguments.model_dir)

    def values(name):
        return (checkpoint.tensor(name).astype("<u4") << 16).view("<f4")

    tensors = {name: ("BF16", checkpoint.tensor(name)) for name in checkpoint.place}
    for layer in range(config["num_hidden_layers"]):
        for norm, readers in READERS.items():
            name = f"model.layers.{layer}.{norm}.weight"
            weight = values(name)
            tensors[name] = ("F32", np.ones_like(weight))
            for reader in readers:
                linear = f"model.layers.{layer}.{reader}.weight"
                tensors[linear] = ("F32", values(linear) * weight[None, :])

    header, offset = {}, 0
    for name, (dtype, array) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)

    arguments.out_dir.mkdir(parents=True)
    with open(arguments.out_dir / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, array in tensors.values():
            file.write(array.tobytes())
    for path in arguments.model_dir.iterdir():
        left = path.name in checkpoint.files or path.name.endswith(".index.json") or path.name.startswith("golden")
        if not left:
            shutil.copy(path, arguments.out_dir / path.name)
    print(f"wrote {arguments.out_dir}")


if __name__ == "__main__":
    main()
