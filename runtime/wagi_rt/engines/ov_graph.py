"""Help for OpenVINO with a bundle: wavelet nodes, and what stays in FP32 beside bf16."""

from __future__ import annotations

from typing import Any

import numpy as np

from wagi_rt.haar import skip_kernel

# Sums over many values, and what normalises activations (decision 47).
_NORMS = ("MVN", "GroupNormalization", "BatchNormInference", "NormalizeL2", "ReduceMean", "ReduceSum")
_MARK = "DisablePrecisionConversion_0"
# OpenVINO's Python can pass this attribute on but not make one: it is read from a model of one tensor.
_DONOR = """<?xml version="1.0"?>
<net name="donor" version="11">
 <layers>
  <layer id="0" name="x" type="Parameter" version="opset1">
   <data shape="1" element_type="f32"/>
   <rt_info><attribute name="DisablePrecisionConversion" version="0" value="dynamic:bf16,f16"/></rt_info>
   <output><port id="0" precision="FP32"><dim>1</dim></port></output>
  </layer>
  <layer id="1" name="y" type="Result" version="opset1">
   <input><port id="0" precision="FP32"><dim>1</dim></port></input>
  </layer>
 </layers>
 <edges><edge from-layer="0" from-port="0" to-layer="1" to-port="0"/></edges>
</net>
"""


def add_wavelets(core: Any) -> None:
    """Teach `core` the nodes of the domain `wagi`, whose function bodies OpenVINO does not read.

    The arithmetic is that of wagi_rt.haar and of the bodies in the file.
    """
    from openvino.frontend.onnx import ConversionExtension

    core.add_extension(ConversionExtension("HaarDWT", "wagi", _haar))
    core.add_extension(ConversionExtension("HaarIDWT", "wagi", _inverse_haar))
    core.add_extension(ConversionExtension("SkipUpsample", "wagi", _skip_upsample))


def _haar(node: Any) -> list[Any]:  # [N, C, H, W] => [N, 4C, H/2, W/2]
    from openvino import opset13 as op

    return list(_butterfly(op.space_to_depth(node.get_input(0), "blocks_first", 2)).outputs())


def _inverse_haar(node: Any) -> list[Any]:  # [N, 4C, H, W] => [N, C, 2H, 2W]
    from openvino import opset13 as op

    return list(op.depth_to_space(_butterfly(node.get_input(0)), "blocks_first", 2).outputs())


def _skip_upsample(node: Any) -> list[Any]:  # [N, 12, H, W], [N, 12, 2H, 2W] => [N, 12, 2H, 2W]
    from openvino import opset13 as op

    skip, coefficients = node.get_input(0), node.get_input(1)
    kernel = op.convert_like(op.constant(skip_kernel()), skip)
    larger = op.convolution_backprop_data(skip, kernel, [2, 2], pads_begin=[1, 1], pads_end=[1, 1])
    return list(op.add(larger, coefficients).outputs())


def _butterfly(values: Any) -> Any:
    """The 4-point Haar matrix over the quarters of the channels; symmetric, so it serves both directions."""
    from openvino import opset13 as op

    half = op.convert_like(op.constant(np.float32(0.5)), values)  # first: sums of halves cannot overflow
    a, b, c, d = op.split(op.multiply(values, half), op.constant(1), 4).outputs()
    top, bottom, left, right = op.add(a, b), op.add(c, d), op.subtract(a, b), op.subtract(c, d)
    bands = [op.add(top, bottom), op.subtract(top, bottom), op.add(left, right), op.subtract(left, right)]
    return op.concat(bands, 1)


def keep_fp32(core: Any, model: Any) -> list[str]:
    """Mark the layers that reduced precision would harm, so that OpenVINO leaves them in FP32 => their names.

    Those are the norms and everything without spatial extent: latents, style affine layers, demodulation.
    They are a small part of the arithmetic.
    """
    mark = _mark(core)
    kept = [node for node in model.get_ops() if _is_sensitive(node)]
    for node in kept:
        node.set_rt_info(mark, _MARK)
    return [node.get_friendly_name() for node in kept]


def keep_coordinates(model: Any) -> None:
    """Let OpenVINO compute where every GridSample looks in FP32, by making it an output of the model too.

    What leads to an output stays in FP32, back to the nearest convolution, matrix product or enlargement. The
    mark does not hold here: OpenVINO rewrites such arithmetic, and what it puts in its place has none.
    """
    grids = [node.input_value(1) for node in model.get_ops() if node.get_type_name() == "GridSample"]
    known = {(grid.get_node().get_friendly_name(), grid.get_index()): grid for grid in grids}
    model.add_outputs(list(known.values()))


def _mark(core: Any) -> Any:
    import openvino

    nothing = openvino.Tensor(np.zeros(1, np.uint8))
    donor = core.read_model(model=_DONOR.encode(), weights=nothing)
    return donor.get_parameters()[0].get_rt_info()[_MARK]


def _is_sensitive(node: Any) -> bool:
    kind = node.get_type_name()
    if kind in ("Constant", "Parameter", "Result"):
        return False
    output = node.output(0)
    if not output.element_type.is_real():
        return False
    rank = output.partial_shape.rank
    if kind in _NORMS or rank.is_dynamic:
        return kind in _NORMS
    spatial = list(output.partial_shape)[2:] if rank.get_length() == 4 else []
    return all(side.is_static and side.get_length() == 1 for side in spatial)
