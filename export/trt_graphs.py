"""The graphs that `export/trt_check.py` builds: those of bundles, and of models that it exports itself."""

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wagi.model import WaGI

EMBEDDED = Path(__file__).resolve().parent.parent / "wagi" / "portraits" / "portraits-128.safetensors"
LARGE = ("ffhq1024", "ffhq1024-fast")


def cases() -> dict[str, tuple[Callable[[], "WaGI"], str, str]]:
    """{label: (model, precision, form of the skip path)} of what is checked beside the embedded bundle.

    At 1024 px weights are random, which neither parser nor builder minds.
    """
    from export.skip import SKIP_FORMS
    from wagi.checkpoint import load_model

    found: list[tuple[str, Callable[[], WaGI], str, str]]
    found = [("embedded", partial(load_model, EMBEDDED), "fp16", skip) for skip in SKIP_FORMS]
    for name in LARGE:
        for precision, skip in (("fp32", "folded"), ("fp16", "folded"), ("fp16", "plugin")):
            found.append((name, partial(random_model, name), precision, skip))
    return {
        f"{name}-{precision}" + (f"-{skip}" if skip != "folded" else ""): (make, precision, skip)
        for name, make, precision, skip in found
    }


def chosen(only: str | None) -> list[str]:
    """The names in A,B of `demo` (the embedded bundle) and `cases`, all without it.

    UserError names what is not there.
    """
    from wagi_rt.errors import UserError

    names = ["demo", *cases()]
    words = names if only is None else only.split(",")
    if wrong := [word for word in words if word not in names]:
        raise UserError(f"--only {wrong[0]}: choose from {', '.join(names)}", 2)
    return [name for name in names if name in words]


def default_graphs(scratch: Path, names: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """(label, file) of every graph of what `chosen` named."""
    from wagi_rt import manifest

    made = cases()
    for name in names:
        if name == "demo":
            yield from bundle_graphs(manifest.read().folder)
            continue
        make, precision, skip = made[name]
        with tempfile.TemporaryDirectory(dir=scratch) as folder:  # the large ones take a gigabyte each
            for path in export_graphs(make(), precision, Path(folder), skip):
                yield f"{name}/{path.stem}", path


def random_model(preset: str) -> "WaGI":
    """The model of a preset with fresh weights."""
    import torch

    from wagi.config import ModelConfig
    from wagi.model import WaGI
    from wagi.networks.build import PARTS, build_part
    from wagi.presets import PRESETS

    torch.manual_seed(0)
    settings = ModelConfig(**PRESETS[preset]["model"])
    parts: list[Any] = [build_part(settings, part) for part in PARTS]
    return WaGI(*parts).eval()


def export_graphs(model: "WaGI", precision: str, folder: Path, skip: str = "folded") -> list[Path]:
    """Export a model into `folder`, without the comparison with PyTorch."""
    from export.bundle import trace_one_by_one, write_graphs
    from export.graphs import build_graphs
    from export.trace import DEFAULT_OPSET

    graphs = build_graphs(model, precision, skip=skip)

    def say(text: str) -> None:
        print(f"{model.generator.size} px {precision}: {text}", file=sys.stderr, flush=True)

    traced = trace_one_by_one(graphs, DEFAULT_OPSET, say)
    write_graphs(traced, model, folder, precision)
    return [folder / f"{name}.onnx" for name in graphs]


def bundle_graphs(bundle: Path) -> Iterator[tuple[str, Path]]:
    """(label, file) of every graph of a checked bundle."""
    from wagi_rt import manifest

    described = manifest.read(bundle)
    for name, graph in described.graphs.items():
        yield f"{described.folder.resolve().name}/{name}", described.folder / graph.file
