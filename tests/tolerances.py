"""Numerical tolerances of the whole test suite, by dtype: the only place where they are written."""

import numpy as np
import torch

# Absolute and relative tolerance for one operation on values of order one.
TOL = {
    torch.float64: {"atol": 1e-10, "rtol": 1e-10},
    torch.float32: {"atol": 2e-5, "rtol": 1e-5},
    torch.float16: {"atol": 4e-3, "rtol": 4e-3},
    torch.bfloat16: {"atol": 3e-2, "rtol": 3e-2},
    np.float64: {"atol": 1e-10, "rtol": 1e-10},
    np.float32: {"atol": 2e-5, "rtol": 1e-5},
    np.float16: {"atol": 4e-3, "rtol": 4e-3},
}

# A whole network in float32 against another formulation of itself, images in [-1, 1].
NETWORK = {"atol": 2e-4, "rtol": 1e-4}
# ONNX Runtime against PyTorch, images in [-1, 1] (the limit).
EXPORT_ATOL = 1e-3
