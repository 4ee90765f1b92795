"""A small valid bundle made of plain ONNX nodes, for tests of the runtime that need no torch and no export.

Its "model" is a caricature of WaGI that keeps the real contract: the encoder stores an 8x8 version of
the image in the latents, the naive inversion is that blur, the aligner passes the residual on, and the
decoder adds it back (times `keep`), so that WaGI's result is closer to the input than the naive one.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from wagi_rt.directions import Direction, write

node = helper.make_node
N_LATENT, STYLE_DIM, CODE = 8, 32, 8  # 8 * 32 >= 3 * 8 * 8 values of the blurred image
BLUR = 3 * CODE * CODE
FEATURE = (4, 16, 16)
SKIP = (12, 8, 8)
GENERATOR = "a" * 64


def write_tiny_bundle(
    folder: Path,
    size: int = 64,
    resolution: int = 64,
    precision: str = "fp32",
    keep: float = 0.75,
    name: str = "tiny",
    external: bool = False,
    pipeline: bool = False,
    default: str = "graphs",
    schema: int = 2,
    aligner: str = "ada",
    directions: tuple[Direction, ...] = (),
) -> Path:
    """Write the bundle and return its folder; external=True keeps a weight in weights.bin, listed by hash.

    pipeline=True adds the same inversion as one graph; `default` is what the manifest names. Schema 3 has an
    aligner, directions and a generator's hash.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {
        "image": [3, size, size],
        "image_r": [3, resolution, resolution],
        "naive_r": [3, resolution, resolution],
        "residual": [3, resolution, resolution],
        "aligned": [3, resolution, resolution],
        "ws": [N_LATENT, STYLE_DIM],
        "result": [3, size, size],
        "feature": list(FEATURE),
        "skip": list(SKIP),
        "edit_naive_r": [3, resolution, resolution],
        "edit_feature": list(FEATURE),
    }
    graphs = {}
    models = {
        graph: _model(graph, *parts, shapes)
        for graph, parts in _graphs(size, resolution, keep, aligner).items()
    }
    if pipeline:
        models["pipeline"] = _model("pipeline", *_pipeline(models, size // resolution), shapes)
    for graph, model in models.items():
        path = folder / f"{graph}.onnx"
        if external and graph == "align":
            onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        else:
            onnx.save(model, path)
        graphs[graph] = {
            "file": path.name,
            "sha256": sha256(path),
            "inputs": _described(model.graph.input, shapes),
            "outputs": _described(model.graph.output, shapes),
            "tolerance": 1e-4,
            "limit_psnr_db": 55.0,
        }
    manifest = {
        "schema": schema,
        "name": name,
        "size": size,
        "resolution": resolution,
        "n_latent": N_LATENT,
        "style_dim": STYLE_DIM,
        "precision": precision,
        "default": default,
        "graphs": graphs,
        "files": {"weights.bin": sha256(folder / "weights.bin")} if external else {},
        "created": "2026-01-01T00:00:00+00:00",
        "source": {"checkpoint": "none"},
        "tolerance": 1e-3,
    }
    if schema == 3:
        manifest |= {"aligner": aligner, "generator": GENERATOR, "naive": "full", "full_detail": False}
        manifest["directions"] = _packed(directions, folder)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return folder


def _packed(directions: tuple[Direction, ...], folder: Path) -> dict:
    entries = {}
    for direction in directions:
        path = folder / f"{direction.name}.safetensors"
        write(path, direction)
        entries[direction.name] = {"file": path.name, "sha256": sha256(path), **direction.facts()}
    return entries


def edit_manifest(folder: Path, **changes: object) -> None:
    """Replace top-level keys of the manifest; a value of None removes the key."""
    path = folder / "manifest.json"
    data = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def run_cli(*arguments: object) -> int:
    """`wagi-rt ARGUMENTS` in this process; its exit status, also where argparse ends it."""
    from wagi_rt.cli import main

    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def error_line(stderr: str) -> str:
    """The single error that a user was shown; fails if there is none, more than one, or a traceback."""
    assert "Traceback" not in stderr
    errors = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, stderr
    return errors[0]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _graphs(size: int, resolution: int, keep: float, aligner: str) -> dict:
    """Graph -> (inputs, outputs, nodes, weights)."""
    base_nodes, base_weights = _base(size)
    nothing = [
        node("Mul", ["naive_r", "none"], ["nothing"]),
        node("Add", ["residual", "nothing"], ["aligned"]),
    ]
    detail = [
        node("Resize", ["aligned", "", "grow"], ["detail"], mode="nearest"),
        node("Mul", ["detail", "keep"], ["kept"]),
        node("Add", ["base", "kept"], ["image"]),
    ]
    grow = np.array([1, 1, size / resolution, size / resolution], np.float32)
    shared = ["ws", "feature", "skip"]
    align = {
        "align": (["residual", "naive_r"], ["aligned"], nothing, {"none": np.zeros((3, 1, 1), np.float32)})
    }
    return {
        "encoder": (["image_r"], ["ws"], *_encoder(resolution // CODE)),
        "prefix": (["ws"], ["feature", "skip"], *_prefix()),
        "naive": (shared, ["image"], [*base_nodes, node("Identity", ["base"], ["image"])], base_weights),
        **(align if aligner == "ada" else {"move": _move()}),
        "decode": (
            [*shared, "aligned"],
            ["image"],
            [*base_nodes, *detail],
            {**base_weights, "grow": grow, "keep": np.array(keep, np.float32)},
        ),
    }


def _move() -> tuple[list, list, list, dict]:
    """The residual less half of the change of the naive image, and of the state below the gates."""
    nodes = [
        node("Sub", ["edit_naive_r", "naive_r"], ["change"]),
        node("Sub", ["edit_feature", "feature"], ["step"]),
        node("ReduceMean", ["step", "all"], ["mean"], keepdims=1),
        node("Add", ["change", "mean"], ["both"]),
        node("Mul", ["both", "half"], ["part"]),
        node("Sub", ["residual", "part"], ["aligned"]),
    ]
    inputs = ["residual", "naive_r", "edit_naive_r", "feature", "edit_feature"]
    return inputs, ["aligned"], nodes, {"all": ints(1, 2, 3), "half": np.array(0.5, np.float32)}


def _encoder(side: int) -> tuple[list, dict]:
    """The mean of every side x side block, as latents filled up with zeros."""
    nodes = [
        node("AveragePool", ["image_r"], ["pooled"], kernel_shape=[side, side], strides=[side, side]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Pad", ["flat", "padding"], ["padded"]),
        node("Reshape", ["padded", "shape"], ["ws"]),
    ]
    return nodes, {
        "padding": ints(0, 0, 0, N_LATENT * STYLE_DIM - BLUR),
        "shape": ints(0, N_LATENT, STYLE_DIM),
    }


def _blur() -> tuple[list, dict]:
    """Latents -> the values of the 8x8 image that they hold."""
    nodes = [node("Flatten", ["ws"], ["all"]), node("Slice", ["all", "start", "end", "axis"], ["blur"])]
    return nodes, {"start": ints(0), "end": ints(BLUR), "axis": ints(1)}


def _prefix() -> tuple[list, dict]:
    """Two different random projections of the latents."""
    nodes, weights = _blur()
    rng = np.random.default_rng(0)
    for name, shape in (("feature", FEATURE), ("skip", SKIP)):
        nodes += [
            node("MatMul", ["blur", f"to_{name}"], [f"flat_{name}"]),
            node("Reshape", [f"flat_{name}", f"{name}_shape"], [name]),
        ]
        weights[f"to_{name}"] = rng.normal(0, 0.1, (BLUR, int(np.prod(shape)))).astype(np.float32)
        weights[f"{name}_shape"] = ints(0, *shape)
    return nodes, weights


def _base(size: int) -> tuple[list, dict]:
    """The 8x8 image enlarged, tinted by feature minus skip: mixing the two up gives another image."""
    nodes, weights = _blur()
    nodes += [
        node("Reshape", ["blur", "code"], ["small"]),
        node("GlobalAveragePool", ["feature"], ["f"]),
        node("ReduceMean", ["f", "axis"], ["f1"], keepdims=1),
        node("GlobalAveragePool", ["skip"], ["s"]),
        node("ReduceMean", ["s", "axis"], ["s1"], keepdims=1),
        node("Sub", ["f1", "s1"], ["difference"]),
        node("Mul", ["difference", "tenth"], ["tint"]),
        node("Resize", ["small", "", "scales"], ["large"], mode="nearest"),
        node("Add", ["large", "tint"], ["base"]),
    ]
    weights["code"] = ints(0, 3, CODE, CODE)
    weights["scales"] = np.array([1, 1, size / CODE, size / CODE], np.float32)
    weights["tenth"] = np.array(0.1, np.float32)
    return nodes, weights


def _pipeline(models: dict[str, onnx.ModelProto], factor: int) -> tuple[list, list, list, dict]:
    """The five graphs joined as wagi_rt.session joins them: names of each get its own prefix."""
    nodes, weights = [], {}
    for name, model in models.items():
        graph = onnx.compose.add_prefix_graph(model.graph, f"{name}/")
        nodes.append(list(graph.node))
        weights |= {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    encoder, prefix, naive, align, decode = nodes

    def same(*pairs: tuple[str, str]) -> list:
        return [node("Identity", [source], [target]) for source, target in pairs]

    def shrink(source: str, target: str) -> onnx.NodeProto:
        return node("AveragePool", [source], [target], kernel_shape=[factor] * 2, strides=[factor] * 2)

    def state(graph: str) -> list:
        return same(("ws", f"{graph}/ws"), *((f"prefix/{x}", f"{graph}/{x}") for x in ("feature", "skip")))

    joined = [shrink("image", "image_r"), *same(("image_r", "encoder/image_r")), *encoder]
    joined += [*same(("encoder/ws", "ws"), ("ws", "prefix/ws")), *prefix, *state("naive"), *naive]
    joined += [node("Clip", ["naive/image", "low", "high"], ["valid"]), shrink("valid", "naive_r")]
    joined += [node("Sub", ["image_r", "naive_r"], ["align/residual"])]
    joined += [*same(("naive_r", "align/naive_r")), *align, *state("decode")]
    joined += [*same(("align/aligned", "decode/aligned")), *decode, *same(("decode/image", "result"))]
    weights |= {"low": np.array(-1, np.float32), "high": np.array(1, np.float32)}
    return ["image"], ["ws", "naive_r", "result"], joined, weights


def _described(tensors: list[onnx.ValueInfoProto], shapes: dict) -> dict:
    return {t.name: {"shape": ["N", *shapes[t.name]], "dtype": "float32"} for t in tensors}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _model(
    graph: str, inputs: list, outputs: list, nodes: list, weights: dict, shapes: dict
) -> onnx.ModelProto:
    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shapes[name]])

    model = helper.make_model(
        helper.make_graph(
            nodes,
            graph,
            [value(name) for name in inputs],
            [value(name) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model, full_check=True)
    return model
