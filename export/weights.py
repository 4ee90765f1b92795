"""One weights file for all graphs of a bundle: every tensor is stored once, whatever graph names it.

The two generator passes (naive and decode) contain the same layers; a naive export would store them twice
(at 1024 px that alone is 0.1 GB). Initialisers become ONNX external data that points into the file.
"""

import hashlib
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx_ir as ir

WEIGHTS_FILE = "weights.bin"
# Smaller initialisers (shapes, biases, scalars) stay in the graph: engines read some while parsing.
EXTERNAL_BYTES = 1024
# Large tensors start on a page, so that a runtime can map them into memory.
_PAGE, _LINE, _LARGE = 4096, 64, 1 << 20
# A tensor is stored in half precision only if that changes it by no more than rounding (2^-11 per value).
HALF_RELATIVE_ERROR = 1e-3
_SCALED = ("QuantizeLinear", "DequantizeLinear")


class WeightStore:
    """Appends tensors to `folder/weights.bin`; equal bytes are written once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / WEIGHTS_FILE
        self._file = self.path.open("wb")
        self._places: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> "WeightStore":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def _place(self, data: bytes) -> tuple[int, int]:
        key = hashlib.sha256(data).hexdigest()
        if key not in self._places:
            align = _PAGE if len(data) >= _LARGE else _LINE
            offset = -(-self._file.tell() // align) * align
            self._file.write(b"\0" * (offset - self._file.tell()))
            self._file.write(data)
            self._places[key] = (offset, len(data))
        return self._places[key]

    def externalise(self, model: ir.Model) -> None:
        """Move every initialiser of EXTERNAL_BYTES or more into the file; the model then refers to it."""
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or isinstance(tensor, ir.ExternalTensor) or tensor.nbytes < EXTERNAL_BYTES:
                continue
            offset, length = self._place(tensor.tobytes())
            value.const_value = ir.ExternalTensor(
                location=WEIGHTS_FILE,
                offset=offset,
                length=length,
                dtype=tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name or "",
                base_dir=self.folder,
            )
        self._file.flush()


def survives_half(array: np.ndarray) -> bool:
    """True when half precision keeps the values: no overflow, and no loss of small ones beyond rounding."""
    with np.errstate(over="ignore"):
        rounded = array.astype(np.float16).astype(np.float32)
    if not np.isfinite(rounded).all():
        return False
    return float(np.linalg.norm(rounded - array)) <= HALF_RELATIVE_ERROR * float(np.linalg.norm(array))


def store_half(model: ir.Model) -> None:
    """Keep large FP32 initialisers as half with a Cast to FP32 behind them: half the file, FP32 arithmetic.

    Tensors whose small or large values half would lose stay FP32.
    """
    graph = model.graph
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.nbytes < EXTERNAL_BYTES:
            continue
        if any(use.node.op_type in _SCALED for use in value.uses()):
            continue  # engines look for scales that are constants
        array = tensor.numpy()
        if not survives_half(array):
            continue
        half = ir.Value(
            name=f"{name}_half",
            type=ir.TensorType(ir.DataType.FLOAT16),
            shape=ir.Shape(array.shape),
            const_value=ir.tensor(array.astype(np.float16), name=f"{name}_half"),
        )
        cast = ir.node("Cast", [half], attributes={"to": int(ir.DataType.FLOAT)}, name=f"{name}_to_float")
        widened = cast.outputs[0]
        widened.type, widened.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(array.shape)
        del graph.initializers[name]
        widened.name, value.name = name, f"{name}_replaced"
        value.replace_all_uses_with(widened)
        graph.register_initializer(half)
        graph.insert_before(graph[0], cast)
