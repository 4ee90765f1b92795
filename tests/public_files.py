"""Tiny random files in the layouts in which weights are published (decision 41)."""

import argparse
import pickle
import sys
import types
from collections import OrderedDict
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from wagi.networks.layers import channels
from wagi.networks.stylegan2 import StyleGAN2Generator
from wagi.networks.swagan import Generator

TINY = dict(style_dim=8, n_mlp=2, channel_multiplier=0.125, max_channels=8)

# --------------------------------------------------------------------------------- official TensorFlow


def tf_shapes(size: int, style_dim: int, n_mlp: int, multiplier: float, limit: int, kernel: int = 3) -> dict:
    """Variable name -> shape of an official generator, as the published listing has them."""
    shapes: dict[str, tuple[int, ...]] = {}
    top, d = size.bit_length() - 1, style_dim
    for i in range(2 * top - 3):
        shapes[f"synthesis/noise{i}"] = (1, 1, 2 ** ((i + 5) // 2), 2 ** ((i + 5) // 2))
    shapes["synthesis/4x4/Const/const"] = (1, channels(4, multiplier, limit), 4, 4)

    def conv(name: str, c_in: int, c_out: int, k: int, noise: bool) -> None:
        shapes[f"{name}/weight"] = (k, k, c_in, c_out)
        shapes[f"{name}/mod_weight"], shapes[f"{name}/mod_bias"] = (d, c_in), (c_in,)
        if noise:
            shapes[f"{name}/noise_strength"] = ()
        shapes[f"{name}/bias"] = (c_out,)

    for r in range(2, top):
        res, c = 2**r, channels(2**r, multiplier, limit)
        block = f"synthesis/{res}x{res}"
        if r == 2:
            conv(f"{block}/Conv", c, c, 3, True)
        else:
            conv(f"{block}/Conv0_up", channels(res // 2, multiplier, limit), c, 3, True)
            conv(f"{block}/Conv1", c, c, 3, True)
        conv(f"{block}/ToWavelet", c, 12, kernel, False)
    for i in range(n_mlp):
        shapes[f"mapping/Dense{i}/weight"], shapes[f"mapping/Dense{i}/bias"] = (d, d), (d,)
    return {**shapes, "lod": (), "dlatent_avg": (d,)}


def tf_variables(size: int = 32, kernel: int = 3, seed: int = 0, **wide: float) -> dict[str, np.ndarray]:
    """Random variables of the size that trained ones have; every one matters to the image."""
    settings = {**TINY, **wide}
    rng = np.random.default_rng(seed)
    names = ("style_dim", "n_mlp", "channel_multiplier", "max_channels")
    shapes = tf_shapes(size, *(settings[name] for name in names), kernel)
    found = {}
    for name, shape in shapes.items():
        scale = 100.0 if "/Dense" in name else 1.0 if "weight" in name or "noise" in name else 0.3
        found[name] = np.asarray(scale * rng.standard_normal(shape), np.float32)
        if name.endswith("noise_strength"):
            found[name] = np.asarray(0.2 * rng.standard_normal(), np.float32)
    return found


@contextmanager
def dnnlib_modules():
    """`dnnlib.tflib.network.Network` while a file is written, so that pickle can name it."""
    names = ("dnnlib", "dnnlib.tflib", "dnnlib.tflib.network")
    modules = {name: types.ModuleType(name) for name in names}

    class Network:
        def __init__(self, state: dict) -> None:
            self.state = state

        def __getstate__(self) -> dict:
            return self.state

    Network.__module__, Network.__qualname__ = names[-1], "Network"
    modules[names[-1]].Network = Network
    sys.modules.update(modules)
    try:
        yield Network
    finally:
        for name in names:
            del sys.modules[name]


def write_tf(path: Path, variables: dict[str, np.ndarray], protocol: int = 4) -> Path:
    """(G, D, Gs) as the official code pickles them; only Gs has these variables."""
    other = {name: np.zeros_like(value) for name, value in variables.items()}
    with dnnlib_modules() as network:

        def make(name: str, entries: dict, components: dict) -> object:
            return network({
                "version": 4, "name": name, "static_kwargs": {"num_channels": 3, "label_size": 0},
                "components": components, "build_module_src": "raise SystemExit('executed')",
                "build_func_name": "G_main", "variables": list(entries.items()),
            })  # fmt: skip

        def generator(entries: dict) -> object:
            def below(part: str) -> dict:
                return {k.removeprefix(part): v for k, v in entries.items() if k.startswith(part)}

            parts = {p: make(p, below(f"{p}/"), {}) for p in ("synthesis", "mapping")}
            return make("Gs", {k: v for k, v in entries.items() if "/" not in k}, parts)

        d = make("D", {"32x32/FromWavelet/weight": np.zeros((1, 1, 12, 8), np.float32)}, {})
        path.write_bytes(pickle.dumps((generator(other), d, generator(variables)), protocol=protocol))
    return path


# ------------------------------------------------------------------------------------------- PyTorch


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random parameters and buffers of sane size; the fixed filters stay."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in {**dict(module.named_parameters()), **dict(module.named_buffers())}.items():
            if name.endswith((".kernel", ".ll", ".lh", ".hl", ".hh", "num_batches_tracked", "latent_avg")):
                continue
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=rng)
            elif value.ndim <= 1:
                value.add_(torch.randn(value.shape, generator=rng) * 0.1)
    return module.eval()


def generator(kind: str = "swagan", size: int = 32, seed: int = 0, **settings: float) -> Generator:
    """A random generator, module of the layout that rosinality publishes."""
    torch.manual_seed(seed)
    make = {"swagan": Generator, "stylegan2": StyleGAN2Generator}[kind]
    made = randomise(make(size, **{**TINY, **settings}), seed)
    made.latent_avg.normal_()
    return made


def write_rosinality(path: Path, model: Generator, average: bool = False) -> Path:
    """A training checkpoint (no latent_avg, args as a Namespace) or a converted one (latent_avg)."""
    state = OrderedDict(model.state_dict())
    other = OrderedDict((name, torch.zeros_like(value)) for name, value in state.items())
    content: dict = {"g_ema": state, "g": other}
    if average:
        content["latent_avg"] = model.latent_avg.clone()
    else:
        moments = {0: {"step": 3, "exp_avg": torch.zeros(2)}}
        optim = {"state": moments, "param_groups": [{"lr": 0.002, "betas": (0.0, 0.99), "params": [0]}]}
        content |= {
            "d": {"final_linear.1.weight": torch.zeros(1, 2)}, "g_optim": optim, "d_optim": optim,
            "args": argparse.Namespace(size=model.size, path="data", latent=8), "ada_aug_p": 0.0,
        }  # fmt: skip
    torch.save(content, path)
    return path


def write_inversion(path: Path, opts: dict, average: Tensor, **parts: nn.Module) -> Path:
    """e4e, pSp and HFGI: one state_dict with prefixes, opts, latent_avg [styles, D]."""
    state = {f"{name}.{key}": v for name, part in parts.items() for key, v in part.state_dict().items()}
    torch.save({"state_dict": state, "opts": opts, "latent_avg": average}, path)
    return path


def write_flat(path: Path, state: dict[str, Tensor], legacy: bool = False) -> Path:
    """A flat state dict, zipped or as before PyTorch 1.6."""
    torch.save(OrderedDict(state), path, _use_new_zipfile_serialization=not legacy)
    return path
