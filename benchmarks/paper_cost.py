"""What the paper costs on 1, 8 and 64 GPUs, computed from measurements on one. Prints the table of docs/cluster.md.

    python benchmarks/paper_cost.py

Steps are exact; seconds a step are those in docs/results/gpu/h100 (one NVIDIA H100, the faster of float32 and
bfloat16). A supernet is one job on one GPU, so fewer supernets than GPUs leave some idle.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

RATES = Path(__file__).parents[1] / "docs/results/gpu/h100"
IMAGES = {"nb101": 40_000, "nb201": 50_000, "darts_cnn": 40_000}  # of a supernet's training
TOKENS = 929_589  # of Penn Treebank's training part, in batches of 256 x 35 tokens
EPOCHS = 1000
# In supernets of 1,000 epochs, of three seeds each (docs/gpu.md): budgets, density, capacity, tricks where they run.
SUPERNETS = {"nb101": 70, "nb201": 81, "darts_cnn": 6, "darts_rnn": 6}
GPUS = (1, 8, 64)


def measured(space: str) -> float:
    """Seconds a supernet's step of the space, the fastest way measured."""
    found = []
    for file in ("gpu_check.json", "gpu_check-2.json"):
        rates = json.loads((RATES / file).read_text())["rates"]
        found += [v["ms a step"] for k, v in rates.items() if k.startswith(f"{space} supernet") and isinstance(v, dict)]
    return float(min(found)) / 1000


def main() -> None:
    columns = ["space", "steps", "ms a step", "hours a supernet", "supernets", *(f"days on {gpus}" for gpus in GPUS)]
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for space, supernets in SUPERNETS.items():
        batch = 448 if space == "darts_cnn" else 256
        an_epoch = TOKENS // (256 * 35) if space == "darts_rnn" else IMAGES[space] // batch
        steps, seconds = EPOCHS * an_epoch, measured(space)
        hours = steps * seconds / 3600
        days = [math.ceil(supernets / gpus) * hours / 24 for gpus in GPUS]
        print(
            f"| {space} | {steps:,} | {1000 * seconds:.1f} | {hours:.1f} | {supernets} | "
            + " | ".join(f"{one:.2f}" for one in days)
            + " |"
        )


if __name__ == "__main__":
    main()
