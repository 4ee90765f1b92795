"""Write PyWavelets' numbers for the C++ test: python runtime/plugins/tests/make_golden.py [OUT]

Each case is one line "N C H W", then the image [N, C, H, W], then PyWavelets' cA, cH, cV, cD of its planes
as [N, 4C, H/2, W/2], band-major; one image or band row per line.
"""

import sys
from pathlib import Path

import numpy as np
import pywt

SHAPES = [(1, 1, 2, 2), (1, 1, 2, 10), (2, 3, 6, 4), (1, 5, 14, 6)]


def rows(array: np.ndarray) -> list[str]:
    """One text line per row of the last axis, with digits enough to read the same float32 back."""
    return [" ".join(f"{v:.9g}" for v in row) for row in array.reshape(-1, array.shape[-1])]


def main() -> None:
    """Write the golden file."""
    committed = Path(__file__).parent / "data" / "haar_pywavelets.txt"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else committed
    rng = np.random.default_rng(7)
    lines = ["# PyWavelets dwt2(x, 'haar'), written by: python runtime/plugins/tests/make_golden.py"]
    for shape in SHAPES:
        image = rng.uniform(-1, 1, shape).astype(np.float32)
        approximation, details = pywt.dwt2(image.astype(np.float64), "haar", axes=(2, 3))
        bands = np.concatenate([approximation, *details], axis=1)
        lines += [" ".join(map(str, shape)), *rows(image), *rows(bands)]
    target.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
