"""A small TensorFlow Lite file with every operator of the face models, written field by field."""

from typing import Any

import flatbuffers
import numpy as np
import tflite

NUMBERS = {np.dtype(np.float32): tflite.TensorType.FLOAT32, np.dtype(np.float16): tflite.TensorType.FLOAT16,
           np.dtype(np.int32): tflite.TensorType.INT32}  # fmt: skip


class Writer:
    """Tensors and operators in order, then `content()`."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 16)
        self.tensors: list[tuple[str, tuple[int, ...], int, np.ndarray | None]] = []
        self.operators: list[tuple[str, list[int], int, str, dict[str, Any]]] = []

    def tensor(self, name: str, shape: tuple[int, ...], kind: Any = np.float32) -> int:
        self.tensors.append((name, shape, NUMBERS[np.dtype(kind)], None))
        return len(self.tensors) - 1

    def constant(self, value: np.ndarray) -> int:
        self.tensors.append((f"c{len(self.tensors)}", value.shape, NUMBERS[value.dtype], value))
        return len(self.tensors) - 1

    def add(
        self, kind: str, inputs: list[int], shape: tuple[int, ...], table: str = "", **fields: Any
    ) -> int:
        """An operator with the options of `table`; its output's number."""
        output = self.tensor(f"{kind.lower()}{len(self.tensors)}", shape)
        self.operators.append((kind, inputs, output, table, fields))
        return output

    def _table(self, name: str, **fields: Any) -> int:
        functions = vars(tflite)
        functions[f"{name}Start"](self.builder)
        for field, value in fields.items():
            functions[f"{name}Add{field}"](self.builder, value)
        return int(functions[f"{name}End"](self.builder))

    def _offsets(self, items: list[int]) -> int:
        self.builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            self.builder.PrependUOffsetTRelative(item)
        return int(self.builder.EndVector())

    def _ints(self, items: Any) -> int:
        return int(self.builder.CreateNumpyVector(np.array(items, np.int32)))

    def content(self, inputs: list[int], outputs: list[int]) -> bytes:
        buffers, tensors = [self._table("Buffer")], []
        for name, shape, kind, value in self.tensors:
            number = 0
            if value is not None:
                data = self.builder.CreateByteVector(np.ascontiguousarray(value).tobytes())
                buffers.append(self._table("Buffer", Data=data))
                number = len(buffers) - 1
            label, sides = self.builder.CreateString(name), self._ints(shape)
            tensors.append(self._table("Tensor", Shape=sides, Type=kind, Buffer=number, Name=label))
        kinds = sorted({operator[0] for operator in self.operators})
        codes = []
        for kind in kinds:
            number = getattr(tflite.BuiltinOperator, kind)
            codes.append(
                self._table(
                    "OperatorCode", DeprecatedBuiltinCode=min(number, 127), Version=1, BuiltinCode=number
                )
            )
        operators = [self._operator(kinds.index(kind), *rest) for kind, *rest in self.operators]
        parts = {"Tensors": self._offsets(tensors), "Operators": self._offsets(operators),
                 "Inputs": self._ints(inputs), "Outputs": self._ints(outputs)}  # fmt: skip
        graphs = self._offsets([self._table("SubGraph", **parts)])
        model = self._table(
            "Model", Version=3, OperatorCodes=self._offsets(codes), Subgraphs=graphs,
            Buffers=self._offsets(buffers),
        )  # fmt: skip
        self.builder.Finish(model, b"TFL3")
        return bytes(self.builder.Output())

    def _operator(self, code: int, inputs: list[int], output: int, table: str, fields: dict[str, Any]) -> int:
        parts = {"Inputs": self._ints(inputs), "Outputs": self._ints([output]), "OpcodeIndex": code}
        if table:
            parts |= {"BuiltinOptionsType": getattr(tflite.BuiltinOptions, table),
                      "BuiltinOptions": self._table(table, **fields)}  # fmt: skip
        return self._table("Operator", **parts)


def every_operator(half_pixel: bool = True) -> bytes:
    """Odd sides, strides of 2 with SAME padding, half weights, fused and separate activations."""
    random = np.random.default_rng(3)

    def weights(*shape: int) -> np.ndarray:
        return random.normal(0, 0.4, shape).astype(np.float32)

    w = Writer()
    same, valid, relu = tflite.Padding.SAME, tflite.Padding.VALID, tflite.ActivationFunctionType.RELU
    source = w.tensor("picture", (1, 19, 14, 3))
    kernel = w.add("DEQUANTIZE", [w.constant(weights(4, 5, 3, 3).astype(np.float16))], (4, 5, 3, 3))
    x = w.add("CONV_2D", [source, kernel, w.constant(weights(4))], (1, 10, 7, 4), "Conv2DOptions",
              Padding=same, StrideW=2, StrideH=2, FusedActivationFunction=relu)  # fmt: skip
    kernel, bias = w.constant(weights(1, 3, 3, 4)), w.constant(weights(4))
    x = w.add("DEPTHWISE_CONV_2D", [x, kernel, bias], (1, 10, 7, 4), "DepthwiseConv2DOptions",
              Padding=same, StrideW=1, StrideH=1, DepthMultiplier=1)  # fmt: skip
    x = w.add("PRELU", [x, w.constant(weights(1, 1, 4))], (1, 10, 7, 4))
    pooled = w.add("MAX_POOL_2D", [x], (1, 5, 4, 4), "Pool2DOptions", Padding=same, StrideW=2, StrideH=2,
                   FilterWidth=2, FilterHeight=2)  # fmt: skip
    padded = w.add("PAD", [pooled, w.constant(np.array([[0, 0], [0, 1], [1, 0], [0, 2]], np.int32))],
                   (1, 6, 5, 6), "PadOptions")  # fmt: skip
    large = w.add("RESIZE_BILINEAR", [padded, w.constant(np.array([12, 10], np.int32))], (1, 12, 10, 6),
                  "ResizeBilinearOptions", HalfPixelCenters=half_pixel)  # fmt: skip
    other = w.add("CONV_2D", [large, w.constant(weights(6, 1, 1, 6)), w.constant(weights(6))], (1, 12, 10, 6),
                  "Conv2DOptions", Padding=valid, StrideW=1, StrideH=1)  # fmt: skip
    x = w.add("ADD", [large, other], (1, 12, 10, 6), "AddOptions")
    x = w.add("RELU", [x], (1, 12, 10, 6))
    shape = w.constant(np.array([1, 120, 6], np.int32))
    flat = w.add("RESHAPE", [x, shape], (1, 120, 6), "ReshapeOptions")
    return w.content([source], [flat])
