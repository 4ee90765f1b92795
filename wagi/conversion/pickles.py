"""The names that weight files may use in their pickles, and what stands for each of them here."""

import math
import mmap
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from wagi.conversion.machine import Known, Machine, PlainDict, Refused, Stub

_DTYPES = {f"{kind}{size}" for kind, sizes in {"f": (2, 4, 8), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8)}.items()
           for size in sizes} | {"b1"}  # fmt: skip


class _DType:
    def __init__(self, code: object, *_: object) -> None:
        if code not in _DTYPES:
            raise Refused(f"holds an array of type {str(code)[:20]!r}; only numbers are read")
        self.dtype = np.dtype(str(code))

    def restore(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise Refused("holds an array of unknown byte order")
        self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """`value` is the array, once the file has given shape, type and exactly as many bytes as they need."""

    value: np.ndarray

    def restore(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, _DType) or not isinstance(raw, (bytes, bytearray)) or order not in ("C", "F"):
        raise Refused("holds an array that is not plain numbers")
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 8:
        raise Refused("holds an array of impossible shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(raw):
        raise Refused(f"holds an array that claims shape {list(shape)} but brings {len(raw)} bytes")
    return np.frombuffer(raw, dtype.dtype).reshape(shape, order=order)


def _reconstruct(kind: Any, *_: object) -> Array:
    if not isinstance(kind, Known) or kind.name != "numpy.ndarray":
        raise Refused("holds an array of a class that is not numpy.ndarray")
    return Array()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> Array:
    made = Array()
    made.value = _array(raw, dtype, shape, order)
    return made


def _scalar(dtype: Any, raw: Any) -> object:
    return _array(raw, dtype, (), "C").item()


def _never(*_: object) -> object:
    raise Refused("builds a numpy.ndarray directly")


NUMPY: dict[str, Callable[..., object]] = {
    "numpy.ndarray": _never,
    "numpy.dtype": _DType,
    **{f"numpy.{core}.multiarray.{name}": make for core in ("core", "_core")
       for name, make in (("_reconstruct", _reconstruct), ("scalar", _scalar))},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}  # fmt: skip
TENSORFLOW = {**NUMPY, "dnnlib.tflib.network.Network": lambda *_: Stub()}

# The names in the pickle of a PyTorch checkpoint. Only looked at: `torch.load(weights_only=True)` reads them.
_STORAGES = ("Float", "Half", "Double", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped")
TORCH: dict[str, Callable[..., object]] = {
    **{f"{module}.{kind}Storage": lambda *_: Stub() for kind in _STORAGES
       for module in ("torch", "torch.storage")},
    **{f"torch._utils.{name}": lambda *_: Stub()
       for name in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter")},
    "torch.Size": lambda *_: Stub(),
    "torch.device": lambda *_: Stub(),
    "collections.OrderedDict": lambda *_: _RestorableDict(),
    "argparse.Namespace": lambda *_: Stub(),
}  # fmt: skip


# Files of other families, by the module in which their classes are: what is said in place of that name.
FOREIGN = {
    "torch_utils.persistence": "is an NVIDIA PyTorch pickle (StyleGAN2-ADA or StyleGAN3), whose classes are "
    "source code in the file; nothing was executed. If you trust it, write a StyleGAN2's weights in the "
    "public PyTorch layout with a tool that runs it (export_weights.py of dvschultz/stylegan2-ada-pytorch) "
    "and convert those; StyleGAN3 is another network, which cannot be used here",
}  # fmt: skip


class _RestorableDict(PlainDict):
    """state_dict() hangs `_metadata` on its OrderedDict; nobody here needs it."""

    def restore(self, state: Any) -> None:
        pass


def read_network(path: Path) -> Any:
    """The content of an official TensorFlow pickle: Stubs for networks, Arrays for their variables."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        return Machine(TENSORFLOW, FOREIGN).read(stream)


def check_torch_pickle(data: bytes) -> None:
    """Refuse what a PyTorch checkpoint does not need before torch sees it (its message is long)."""
    Machine(TORCH, FOREIGN).read(BytesIO(data))


def check_legacy_torch(path: Path) -> None:
    """The same for files before PyTorch 1.6: magic number, version, system, content, storage keys."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        for _ in range(5):
            Machine(TORCH, FOREIGN).read(stream)
