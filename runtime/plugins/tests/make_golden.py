"""Write PyWavelets' and SciPy's numbers for the C++ tests.

python runtime/plugins/tests/make_golden.py [FOLDER]

Every case is one line "N C H W", then arrays, a row of their last axis per line. haar_pywavelets.txt: an
image [N, C, H, W] and PyWavelets' cA, cH, cV, cD of its planes as [N, 4C, H/2, W/2], band-major.
skip_scipy.txt: bands [N, 4C, H, W], coefficients [N, 4C, 2H, 2W] and the result, by PyWavelets' transforms
around SciPy's upsampling.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pywt
from scipy.signal import upfirdn

SHAPES = [(1, 1, 2, 2), (1, 1, 2, 10), (2, 3, 6, 4), (1, 5, 14, 6)]
SKIP_SHAPES = [(1, 1, 1, 1), (2, 1, 1, 5), (2, 3, 4, 3), (1, 2, 3, 4)]
FIR = (0.25, 0.75, 0.75, 0.25)  # 1 3 3 1 of gain 2 per axis, as in StyleGAN2
WORDS = "written by: python runtime/plugins/tests/make_golden.py"


def rows(array: np.ndarray) -> list[str]:
    """One text line per row of the last axis, with digits enough to read the same float32 back."""
    return [" ".join(f"{v:.9g}" for v in row) for row in array.reshape(-1, array.shape[-1])]


def bands(image: np.ndarray) -> np.ndarray:
    """PyWavelets' transform, band-major."""
    approximation, details = pywt.dwt2(image.astype(np.float64), "haar", axes=(2, 3))
    return np.concatenate([approximation, *details], axis=1)


def upsampled(skip: np.ndarray) -> np.ndarray:
    """The bands of the image of twice the size."""
    ll, *details = np.split(skip.astype(np.float64), 4, axis=1)
    image = pywt.idwt2((ll, details), "haar", axes=(2, 3))
    for axis in (2, 3):
        side = 2 * image.shape[axis]
        image = upfirdn(FIR, image, up=2, axis=axis).take(range(1, side + 1), axis=axis)
    return bands(image)


def haar_lines(rng: np.random.Generator) -> Iterator[str]:
    yield f"# PyWavelets dwt2(x, 'haar'), {WORDS}"
    for shape in SHAPES:
        image = rng.uniform(-1, 1, shape).astype(np.float32)
        yield from (" ".join(map(str, shape)), *rows(image), *rows(bands(image)))


def skip_lines(rng: np.random.Generator) -> Iterator[str]:
    yield f"# PyWavelets idwt2, SciPy upfirdn, PyWavelets dwt2, {WORDS}"
    for n, c, h, w in SKIP_SHAPES:
        skip = rng.uniform(-1, 1, (n, 4 * c, h, w)).astype(np.float32)
        coefficients = rng.uniform(-1, 1, (n, 4 * c, 2 * h, 2 * w)).astype(np.float32)
        result = coefficients + upsampled(skip)
        yield from (f"{n} {c} {h} {w}", *rows(skip), *rows(coefficients), *rows(result))


def main() -> None:
    """Write both golden files."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "data"
    for name, lines in (("haar_pywavelets", haar_lines), ("skip_scipy", skip_lines)):
        text = "\n".join(lines(np.random.default_rng(7))) + "\n"
        (folder / f"{name}.txt").write_text(text)


if __name__ == "__main__":
    main()
