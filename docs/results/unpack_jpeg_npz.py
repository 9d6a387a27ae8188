"""Unpacks a .npz of JPEG bytes into the .npz form of wsnas: python unpack_jpeg_npz.py IN.npz OUT.npz

IN holds ``{train,test}_jpeg`` uint8 bytes, ``{train,test}_offsets`` int64 [n+1] and ``{train,test}_labels``;
OUT holds ``{train,test}_images`` uint8 [N,H,W,3] and ``{train,test}_labels``.
"""

import sys
from itertools import pairwise

import numpy as np
import torch
from torchvision.io import ImageReadMode, decode_jpeg


def main(source: str, target: str) -> None:
    stored = np.load(source, allow_pickle=False)
    arrays = {}
    for part in ("train", "test"):
        jpeg, offsets = torch.from_numpy(stored[f"{part}_jpeg"]), stored[f"{part}_offsets"]
        images = [decode_jpeg(jpeg[a:b], mode=ImageReadMode.RGB).permute(1, 2, 0).numpy() for a, b in pairwise(offsets)]
        arrays[f"{part}_images"] = np.stack(images)
        arrays[f"{part}_labels"] = stored[f"{part}_labels"].astype(np.int64)
        print(f"{part}: {arrays[f'{part}_images'].shape}, {np.bincount(arrays[f'{part}_labels'])} a class")
    np.savez(target, allow_pickle=False, **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
