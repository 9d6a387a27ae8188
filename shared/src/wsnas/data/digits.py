"""Images of two superposed digits, made from scikit-learn's: the data of micro and desk, and more of them."""

from __future__ import annotations

import numpy as np

from wsnas.data.images import Source
from wsnas.randomness import numpy_rng

SIZES = (6_000, 4_000, 4_000)  # training, validation and test images
MORE = (60_000, 10_000, 20_000)


def digits(faint: bool = False, sizes: tuple[int, int, int] = SIZES) -> Source:
    """Two superposed digits; the label is the stronger. 8x8 grey pixels.

    ``faint``: the label is the weaker digit, a different task on the same images, as CIFAR-100 is to CIFAR-10.
    ``sizes``: training, validation and test images; with other sizes, all images are different ones.

    scikit-learn's 1,797 handwritten digits alone are too easy to tell architectures apart. Each image adds two of
    them, shifted by up to a pixel, the second at half the contrast, and a little noise. Training, validation
    and test images are made from different digits (1,000 / 400 / 397). The images are always the same, because
    this function has its own generator.
    """
    from sklearn.datasets import load_digits

    stored = load_digits()
    strokes = np.pad(stored.images / 16.0, ((0, 0), (1, 1), (1, 1)))  # [n, 10, 10], ink from 0 to 1
    names = stored.target.astype(np.int64)
    rng = numpy_rng(0, "digits")
    parts = []
    second, noise = 0.5, 0.1  # contrast of the weaker digit; standard deviation of the noise
    for pool, count in zip(np.split(rng.permutation(len(names)), [1000, 1400]), sizes, strict=True):
        chosen = pool[rng.integers(len(pool), size=(2, count))]
        rows, columns = (shift[..., None] + np.arange(8) for shift in rng.integers(3, size=(2, 2, count)))
        strong, weak = strokes[chosen[..., None, None], rows[..., :, None], columns[..., None, :]]
        ink = strong + second * weak + noise * rng.standard_normal((count, 8, 8))
        pixels = np.clip((ink + 1.0) * (255 / (3.0 + second)), 0, 255).astype(np.uint8)
        parts.append((pixels[..., None], names[chosen[int(faint)]]))
    return Source(parts[0], parts[2], parts[1])
