"""The official SWAGAN graph's arithmetic in numpy float64, written from its description (decisions 8, 40).

Nothing here is shared with the package: weights are modulated per sample, the up-convolution is zero
insertion and correlation, bands are un-normalised sums.
"""

import numpy as np

SQRT2 = np.sqrt(2)
FIR = np.outer([1, 3, 3, 1], [1, 3, 3, 1]) / 64


def lrelu(x: np.ndarray) -> np.ndarray:
    return SQRT2 * np.where(x > 0, x, 0.2 * x)


def correlate(x: np.ndarray, w: np.ndarray, pad: tuple[int, int]) -> np.ndarray:
    """C,H,W with kernel [kh, kw, in, out], zero padding before and after."""
    x = np.pad(x, ((0, 0), pad, pad))
    k, size = w.shape[0], x.shape[1] - w.shape[0] + 1
    return sum(
        np.einsum("chw,co->ohw", x[:, i:i + size, j:j + size], w[i, j]) for i in range(k) for j in range(k)
    )  # fmt: skip


def fir(x: np.ndarray, gain: float, pad: tuple[int, int]) -> np.ndarray:
    x = np.pad(x, ((0, 0), pad, pad))
    size = x.shape[1] - 3
    return sum(gain * FIR[i, j] * x[:, i:i + size, j:j + size] for i in range(4) for j in range(4))


def insert_zeros(x: np.ndarray) -> np.ndarray:
    up = np.zeros((x.shape[0], 2 * x.shape[1], 2 * x.shape[2]))
    up[:, ::2, ::2] = x
    return up


def dwt(x: np.ndarray) -> np.ndarray:
    """Un-normalised: +-1 filters; LH and HL have the official signs."""
    a, b, c, d = x[:, ::2, ::2], x[:, ::2, 1::2], x[:, 1::2, ::2], x[:, 1::2, 1::2]
    return np.concatenate([a + b + c + d, c + d - a - b, b + d - a - c, a - b - c + d])


def iwt(y: np.ndarray) -> np.ndarray:
    """The inverse of `dwt`, which divides by four."""
    ll, lh, hl, hh = np.split(y, 4)
    x = np.zeros((3, 2 * y.shape[1], 2 * y.shape[2]))
    x[:, ::2, ::2], x[:, ::2, 1::2] = ll - lh - hl + hh, ll - lh + hl - hh
    x[:, 1::2, ::2], x[:, 1::2, 1::2] = ll + lh - hl - hh, ll + lh + hl + hh
    return x / 4


class Graph:
    """`variables`: official name -> array, as in the pickle."""

    def __init__(self, variables: dict[str, np.ndarray]) -> None:
        self.v = {name: value.astype(np.float64) for name, value in variables.items()}
        blocks = [name.split("/")[1] for name in self.v if name.endswith("ToWavelet/weight")]
        self.size = 2 * max(int(block.split("x")[0]) for block in blocks)

    def mapping(self, z: np.ndarray) -> np.ndarray:
        x = z / np.sqrt(np.mean(z**2) + 1e-8)
        for i in range(sum(n.endswith("/weight") and n.startswith("mapping/") for n in self.v)):
            w, b = self.v[f"mapping/Dense{i}/weight"], self.v[f"mapping/Dense{i}/bias"]
            x = lrelu(x @ (w * 0.01 / np.sqrt(len(w))) + b * 0.01)
        return x

    def weight(self, name: str, w: np.ndarray, demodulate: bool) -> np.ndarray:
        kernel, mod = self.v[f"{name}/weight"], self.v[f"{name}/mod_weight"]
        style = w @ (mod / np.sqrt(len(mod))) + self.v[f"{name}/mod_bias"] + 1
        kernel = kernel / np.sqrt(np.prod(kernel.shape[:3])) * style[:, None]
        return kernel / np.sqrt((kernel**2).sum((0, 1, 2)) + 1e-8) if demodulate else kernel

    def layer(self, block: str, name: str, x: np.ndarray, w: np.ndarray, index: int) -> np.ndarray:
        name = f"synthesis/{block}/{name}"
        kernel = self.weight(name, w, True)
        if name.endswith("_up"):
            x = insert_zeros(x)[:, :-1, :-1]
            x = fir(correlate(x, kernel, (2, 2)), 4, (1, 1))
        else:
            x = correlate(x, kernel, (1, 1))
        x = x + self.v[f"{name}/noise_strength"] * self.v[f"synthesis/noise{index}"][0]
        return lrelu(x + self.v[f"{name}/bias"][:, None, None])

    def to_wavelet(self, block: str, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        name = f"synthesis/{block}/ToWavelet"
        kernel = self.weight(name, w, False)
        pad = kernel.shape[0] // 2
        return correlate(x, kernel, (pad, pad)) + self.v[f"{name}/bias"][:, None, None]

    def synthesis(self, ws: np.ndarray) -> np.ndarray:
        """dlatents [2 log2(size) - 2, D], of which the last two are not read => image [3, size, size]."""
        x = self.layer("4x4", "Conv", self.v["synthesis/4x4/Const/const"][0], ws[0], 0)
        y = self.to_wavelet("4x4", x, ws[1])
        for r in range(3, self.size.bit_length() - 1):
            block = f"{2**r}x{2**r}"
            x = self.layer(block, "Conv0_up", x, ws[2 * r - 5], 2 * r - 5)
            x = self.layer(block, "Conv1", x, ws[2 * r - 4], 2 * r - 4)
            y = dwt(fir(insert_zeros(iwt(y)), 4, (2, 1))) + self.to_wavelet(block, x, ws[2 * r - 3])
        return iwt(y)
