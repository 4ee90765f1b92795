"""A small TensorFlow Lite graph as ONNX: what `wagi-rt faces install` does once, with the extra `faces`.

Knows the operators of MediaPipe's face models. Pictures are NHWC there and NCHW here; the batch is free.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from wagi_rt.errors import UserError

_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32}  # of TensorType, as the format numbers them
_OPSET = 17


def packages() -> tuple[ModuleType, ModuleType]:
    """The packages onnx and tflite, or one line that says how to install them."""
    try:
        import onnx
        import tflite
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; run: pip install 'wagi[faces]'", status=2) from None
    return onnx, tflite


def to_onnx(content: bytes) -> bytes:
    """A .tflite file's content => an ONNX file's; names are kept, the input is [N, C, H, W].

    UserError when its packages are missing or when it holds what is not known here.
    """
    onnx, tflite = packages()
    model = tflite.Model.GetRootAs(content, 0)
    graph = _Graph(tflite, onnx.helper, model)
    checked = onnx.helper.make_model(
        graph.convert(), opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=8
    )
    onnx.checker.check_model(checked, full_check=True)
    return bytes(checked.SerializeToString())


class _Graph:
    """One conversion: nodes and weights so far, and which tensors are constants."""

    def __init__(self, tflite: Any, helper: Any, model: Any) -> None:
        self.tflite, self.helper, self.model, self.graph = tflite, helper, model, model.Subgraphs(0)
        self.nodes: list[Any] = []
        self.weights: dict[str, np.ndarray] = {}
        self.constants: dict[int, np.ndarray] = {}
        for index in range(self.graph.TensorsLength()):
            tensor = self.graph.Tensors(index)
            data = model.Buffers(tensor.Buffer()).DataAsNumpy()
            if isinstance(data, np.ndarray) and data.size:
                if tensor.Type() not in _DTYPES or tensor.Sparsity() is not None:
                    raise UserError(f"the tensor {self.name(index)} is of a kind that is not known here")
                values = np.frombuffer(data.tobytes(), np.dtype(_DTYPES[tensor.Type()]).newbyteorder("<"))
                self.constants[index] = values.reshape(self.shape(index))

    def name(self, index: int) -> str:
        return str(self.graph.Tensors(index).Name().decode())

    def shape(self, index: int) -> list[int]:
        shape = self.graph.Tensors(index).ShapeAsNumpy()
        return [int(n) for n in shape] if isinstance(shape, np.ndarray) else []

    def convert(self) -> Any:
        """The whole graph."""
        kinds = {number: name for name, number in vars(self.tflite.BuiltinOperator).items()
                 if isinstance(number, int)}  # fmt: skip
        for index in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(index)
            code = self.model.OperatorCodes(operator.OpcodeIndex())
            kind = kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            if kind not in _RULES:
                raise UserError(f"the operator {kind} is not known here")
            inputs = [int(i) for i in operator.InputsAsNumpy()]
            _RULES[kind](self, operator, inputs, int(operator.OutputsAsNumpy()[0]))
        make, float32 = self.helper.make_tensor_value_info, 1
        inputs, outputs = (
            [make(self.name(i), float32, ["N", *self._planes(self.shape(i))[1:]]) for i in side]
            for side in (self.graph.InputsAsNumpy(), self.graph.OutputsAsNumpy())
        )
        weights = [
            self.helper.make_tensor(name, self.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape,
                                    np.ascontiguousarray(value).tobytes(), raw=True)
            for name, value in self.weights.items()
        ]  # fmt: skip
        return self.helper.make_graph(self.nodes, "faces", inputs, outputs, weights)

    @staticmethod
    def _planes(shape: list[int]) -> list[int]:
        """NHWC as NCHW; tensors of other ranks are as they are."""
        return [shape[0], shape[3], shape[1], shape[2]] if len(shape) == 4 else shape

    def weight(self, name: str, value: np.ndarray) -> str:
        self.weights[name] = value
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(self.helper.make_node(kind, inputs, [output], **attributes))

    def add_activated(self, kind: str, inputs: list[str], output: int, fused: int, **attributes: Any) -> None:
        """A node and the activation that TensorFlow Lite has fused into it."""
        functions = self.tflite.ActivationFunctionType
        if fused not in (functions.NONE, functions.RELU):
            raise UserError(f"the activation {fused} of {self.name(output)} is not known here")
        name = self.name(output)
        before = name if fused == functions.NONE else f"{name}/before_relu"
        self.add(kind, inputs, before, **attributes)
        if before != name:
            self.add("Relu", [before], name)

    def options(self, operator: Any, name: str) -> Any:
        options = getattr(self.tflite, name)()
        table = operator.BuiltinOptions()
        options.Init(table.Bytes, table.Pos)
        return options

    def window(self, options: Any, source: int, kernel: tuple[int, int]) -> dict[str, list[int]]:
        """ONNX's attributes of a sliding window; SAME pads as TensorFlow does, the odd pixel at the end."""
        strides = [options.StrideH(), options.StrideW()]
        dilations = [options.DilationHFactor(), options.DilationWFactor()] if _dilates(options) else [1, 1]
        pads = [0, 0, 0, 0]
        if options.Padding() == self.tflite.Padding.SAME:
            for axis, (side, k, s, d) in enumerate(
                zip(self.shape(source)[1:3], kernel, strides, dilations, strict=True)
            ):
                total = max((-(-side // s) - 1) * s + (k - 1) * d + 1 - side, 0)
                pads[axis], pads[axis + 2] = total // 2, total - total // 2
        return {"strides": strides, "pads": pads, "kernel_shape": list(kernel), "dilations": dilations}


def _dilates(options: Any) -> bool:
    return hasattr(options, "DilationHFactor")


def _dequantize(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    """Weights that are stored in half precision: widened here, once."""
    graph.constants[output] = graph.constants[inputs[0]].astype(np.float32)


def _convolution(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    options = graph.options(operator, "Conv2DOptions")
    kernel = graph.constants[inputs[1]].transpose(0, 3, 1, 2)  # O,H,W,I => O,I,H,W
    _convolve(graph, options, inputs, output, kernel, 1)


def _depthwise(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    options = graph.options(operator, "DepthwiseConv2DOptions")
    kernel = graph.constants[inputs[1]].transpose(3, 0, 1, 2)  # 1,H,W,O => O,1,H,W
    _convolve(graph, options, inputs, output, kernel, graph.shape(inputs[0])[3])


def _convolve(
    graph: _Graph, options: Any, inputs: list[int], output: int, kernel: np.ndarray, groups: int
) -> None:
    name = graph.name(output)
    names = [graph.name(inputs[0]), graph.weight(f"{name}/kernel", kernel)]
    if len(inputs) > 2 and inputs[2] >= 0:
        names.append(graph.weight(f"{name}/bias", graph.constants[inputs[2]]))
    window = graph.window(options, inputs[0], kernel.shape[2:])
    graph.add_activated("Conv", names, output, options.FusedActivationFunction(), group=groups, **window)


def _max_pool(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    options = graph.options(operator, "Pool2DOptions")
    window = graph.window(options, inputs[0], (options.FilterHeight(), options.FilterWidth()))
    fused = options.FusedActivationFunction()
    graph.add_activated("MaxPool", [graph.name(inputs[0])], output, fused, **window)


def _relu(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    graph.add("Relu", [graph.name(inputs[0])], graph.name(output))


def _prelu(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    slope = graph.constants[inputs[1]]  # 1,1,C, or spatial
    slope = graph.weight(f"{graph.name(output)}/slope", np.moveaxis(slope, -1, 0))
    graph.add("PRelu", [graph.name(inputs[0]), slope], graph.name(output))


def _sum(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    if any(index in graph.constants for index in inputs):
        raise UserError(f"the constant that {graph.name(output)} adds is not known here")
    fused = graph.options(operator, "AddOptions").FusedActivationFunction()
    graph.add_activated("Add", [graph.name(index) for index in inputs], output, fused)


def _pad(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    widths = graph.constants[inputs[1]][[0, 3, 1, 2]].T.ravel().astype(np.int64)  # N,C,H,W before, then after
    name = graph.name(output)
    graph.add("Pad", [graph.name(inputs[0]), graph.weight(f"{name}/widths", widths)], name)


def _resize(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    options, name = graph.options(operator, "ResizeBilinearOptions"), graph.name(output)
    mode = "align_corners" if options.AlignCorners() else "asymmetric"
    mode = "half_pixel" if options.HalfPixelCenters() else mode
    before, after = graph.shape(inputs[0]), graph.shape(output)
    scales = np.array([1, 1, after[1] / before[1], after[2] / before[2]], np.float32)
    names = [graph.name(inputs[0]), "", graph.weight(f"{name}/scales", scales)]
    graph.add("Resize", names, name, mode="linear", coordinate_transformation_mode=mode)


def _reshape(graph: _Graph, operator: Any, inputs: list[int], output: int) -> None:
    name, shape = graph.name(output), graph.shape(output)
    source = graph.name(inputs[0])
    if len(graph.shape(inputs[0])) == 4:
        source = f"{name}/channels_last"
        graph.add("Transpose", [graph.name(inputs[0])], source, perm=[0, 2, 3, 1])
    if len(shape) == 4:
        raise UserError(f"the shape of {name} is not known here")
    wanted = graph.weight(f"{name}/shape", np.array([0, *shape[1:]], np.int64))  # 0: the batch as it is
    graph.add("Reshape", [source, wanted], name)


_RULES: dict[str, Callable[[_Graph, Any, list[int], int], None]] = {
    "DEQUANTIZE": _dequantize,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "MAX_POOL_2D": _max_pool,
    "RELU": _relu,
    "PRELU": _prelu,
    "ADD": _sum,
    "PAD": _pad,
    "RESIZE_BILINEAR": _resize,
    "RESHAPE": _reshape,
}
