"""The public layouts, and each of them in ours: one function per kind."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from wagi import checkpoint
from wagi.config import ModelConfig
from wagi.conversion import rebuild, tensorflow
from wagi.conversion.hyperstyle import hypernetwork
from wagi.conversion.identify import identify, options
from wagi.conversion.public_directions import boundary, components
from wagi.conversion.rebuild import fit
from wagi.conversion.sources import Source, State, below, tensor, tensors, unwrap
from wagi.errors import UserError

STEPS = 5  # of ReStyle's and HyperStyle's public checkpoints, whose training options say so too
# Of the layout {state_dict, opts, latent_avg}.
PREFIXED = ("e4e", "psp", "restyle-e4e", "restyle-psp", "w-encoder", "hyperstyle", "hfgi")


@dataclass
class Converted:
    """A file as ours. Models have `config`, `stage` and `parts`; other weights only `flat`."""

    kind: str
    what: str  # in words, for people
    config: ModelConfig | None = None
    stage: str = ""
    parts: dict[str, State] = field(default_factory=dict)
    flat: State = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)  # for --info and the metadata


# ------------------------------------------------------------------------------------------ generators


def _family(config: ModelConfig) -> str:
    return {"swagan": "SWAGAN", "stylegan2": "StyleGAN2"}[config.generator]


def _generator(state: State, average: Tensor | None, where: str) -> tuple[ModelConfig, State, dict[str, str]]:
    """Settings, our state with latent_avg, and facts. Missing noise maps and latent_avg are computed."""
    config = rebuild.generator_config(state, where)
    what = f"{_family(config)} generator of {config.size} px"
    facts = {"latent_avg": "from the file"}
    expected = rebuild.part(config, "generator")
    if not any(name.startswith("noises.") for name in state):
        state = {**state, **rebuild.seeded_noise(expected)}
        facts["noise"] = "seeded: the file has none"
    state = fit(expected, state, where, what)
    if average is None:
        average = rebuild.mean_latent(config, state)
        facts["latent_avg"] = "mean of 100000 seeded samples: the file has none"
    if average.shape != (config.style_dim,):
        raise UserError(f"{where}: latent_avg {list(average.shape)}, W has {config.style_dim} dimensions")
    return config, {**state, "latent_avg": average}, facts


def swagan_tf(source: Source) -> Converted:
    where = str(source.path)
    found = tensorflow.averaged(source)
    state, average = tensorflow.convert(found, where)
    config, weights, facts = _generator(state, average, where)
    latents = config.n_latent
    facts["latents"] = f"{latents + 2} in the file, {latents} used"
    what = "official TensorFlow SWAGAN"
    return Converted("swagan-tf", what, config, "generator", {"generator": weights}, {}, facts)


def _averaged_state(source: Source) -> tuple[State, Tensor | None]:
    content = source.content
    name = next((name for name in ("g_ema", "g") if isinstance(content.get(name), Mapping)), None)
    where = f"{source.path} ({name})" if name else str(source.path)
    state = tensors(content[name] if name else content, where)
    average = content.get("latent_avg") if name else None
    return state, None if average is None else _one_average(average, where)


def _one_average(average: Any, where: str) -> Tensor:
    """latent_avg [D] from [D], [n, D] or [1, n, D] whose rows are equal (e4e repeats the mean)."""
    if isinstance(average, Tensor) and average.ndim == 3 and len(average) == 1:
        average = average[0]
    if not isinstance(average, Tensor) or average.ndim not in (1, 2) or not average.numel():
        raise UserError(f"{where}: latent_avg is not a tensor [styles, dimension]")
    rows = tensor(average, f"{where}: latent_avg").reshape(-1, average.shape[-1])
    if not torch.allclose(rows, rows[:1].expand_as(rows), atol=1e-5):
        raise UserError(f"{where}: latent_avg differs between styles; one mean of W is needed")
    return rows[0].clone()


def rosinality(source: Source) -> Converted:
    state, average = _averaged_state(source)
    config, weights, facts = _generator(state, average, str(source.path))
    what = f"PyTorch {_family(config)} checkpoint"
    return Converted(config.generator, what, config, "generator", {"generator": weights}, {}, facts)


def wagi_checkpoint(source: Source) -> Converted:
    """One of ours, .pt or .safetensors."""
    content = source.content if source.container == "torch" else checkpoint.read_release(source.path)
    config = checkpoint.model_config(content, source.path)
    parts = {name: tensors(state, f"{source.path} ({name})") for name, state in content["weights"].items()}
    for name, state in parts.items():
        expected = dict(rebuild.part(config, name))
        if name == "generator":
            expected["latent_avg"] = torch.empty(config.style_dim, device="meta")
        if text := checkpoint.differences(expected, state):
            raise UserError(f"{source.path} ({name}): does not fit its settings: {text}")
    facts = {k: v for k, v in source.metadata.items() if k in ("source", "source_sha256", "licence")}
    stage = str(content["stage"])
    return Converted("wagi", f"WaGI checkpoint of stage {stage}", config, stage, parts, {}, facts)


# ---------------------------------------------------------------------------------- encoders, whole models


def _state_dict(source: Source) -> dict[str, Any]:
    return dict(source.content["state_dict"])


def _decoder(source: Source) -> tuple[ModelConfig, State, dict[str, str]]:
    """Settings, state and facts of the generator beside an encoder or a hypernetwork."""
    where = str(source.path)
    average = source.content.get("latent_avg")
    average = None if average is None else _one_average(average, where)
    decoder = tensors(below(_state_dict(source), "decoder"), f"{where} (decoder)")
    return _generator(decoder, average, f"{where} (decoder)")


def _with_encoder(
    source: Source, encoder: str, steps: int = 0
) -> tuple[ModelConfig, dict[str, State], dict[str, str]]:
    """Settings, encoder and generator of an e4e, pSp, ReStyle or HFGI checkpoint."""
    where, state = str(source.path), _state_dict(source)
    config, generator, facts = _decoder(source)
    # All of them read what Pillow's bilinear filter makes of an image.
    config = replace(config, encoder=encoder, restyle_steps=steps, image_resize="pil")
    latents = config.n_latent
    given = tensors(below(state, "encoder"), f"{where} (encoder)")
    heads = len({name.split(".")[1] for name in given if name.startswith("styles.")})
    pairs = "input_layer.0.weight" in given and given["input_layer.0.weight"].shape[1:2] == (6,)
    if pairs and not steps:
        raise UserError(f"{where}: a ReStyle encoder (6 input channels); say --kind restyle-{encoder}")
    if encoder != "w" and heads != latents:
        raise UserError(
            f"{where}: an encoder of {heads} styles with a {_family(config)}-{config.size} decoder "
            f"of {latents} styles; they do not belong together"
        )
    expected = rebuild.part(config, "encoder")
    name = ("ReStyle " if steps else "") + {"e4e": "e4e", "psp": "pSp", "w": "W"}[encoder]
    parts = {
        "generator": generator,
        "encoder": fit(expected, given, f"{where} (encoder)", f"{name} encoder of {latents} styles"),
    }
    return config, parts, {**facts, "styles": str(latents)}


def e4e(source: Source) -> Converted:
    config, parts, facts = _with_encoder(source, "e4e")
    return Converted("e4e", "e4e encoder with its generator", config, "encoder", parts, {}, facts)


def psp(source: Source) -> Converted:
    config, parts, facts = _with_encoder(source, "psp")
    return Converted("psp", "pSp encoder with its generator", config, "encoder", parts, {}, facts)


def w_encoder(source: Source) -> Converted:
    config, parts, facts = _with_encoder(source, "w")
    what = "HyperStyle's W encoder with its generator"
    return Converted("w-encoder", what, config, "encoder", parts, {}, facts)


def _steps(source: Source) -> int:
    steps = options(source.content).get("n_iters_per_batch", STEPS)
    if not isinstance(steps, int) or not 0 < steps <= 100:
        raise UserError(f"{source.path}: opts.n_iters_per_batch is {str(steps)[:40]!r}, not 1 to 100")
    return steps


def hyperstyle(source: Source) -> Converted:
    """Hypernetwork and StyleGAN2; its encoder is another file's (`hyperstyle.join`)."""
    where, state = str(source.path), _state_dict(source)
    config, generator, facts = _decoder(source)
    given = below(state, "hypernet")
    first = given.get("conv1.weight")
    width = first.shape[0] if isinstance(first, Tensor) and first.ndim == 4 else ModelConfig.hyper_width
    config = replace(config, hyper_width=width, hyper_steps=_steps(source))
    parts = {"generator": generator}
    parts["hypernetwork"] = hypernetwork(given, config, f"{where} (hypernet)")
    facts["steps"] = str(config.hyper_steps)
    what = "HyperStyle: hypernetwork with its generator"
    return Converted("hyperstyle", what, config, "hypernetwork", parts, {}, facts)


def _restyle(encoder: str) -> Callable[[Source], Converted]:
    def convert(source: Source) -> Converted:
        steps = _steps(source)
        config, parts, facts = _with_encoder(source, encoder, steps)
        what = f"ReStyle encoder over {encoder} with its generator"
        facts["steps"] = str(steps)
        return Converted(f"restyle-{encoder}", what, config, "encoder", parts, {}, facts)

    return convert


def hfgi(source: Source) -> Converted:
    """The paper's configuration A whole: encoder, StyleGAN2, grid_align (ADA), residue (one level)."""
    config, parts, facts = _with_encoder(source, "e4e")
    config = replace(config, feature_levels=(config.resolution // 4,), wavelet_levels=(), naive="bilinear")
    state, where = _state_dict(source), str(source.path)
    for ours, theirs in (("aligner", "grid_align"), ("fusion", "residue")):
        given = tensors(below(state, theirs), f"{where} ({theirs})")
        parts[ours] = fit(rebuild.part(config, ours), given, f"{where} ({theirs})", f"HFGI {theirs}")
    return Converted("hfgi", "HFGI: a whole inversion model", config, "inversion", parts, {}, facts)


# ------------------------------------------------------------------------------------- feature networks


def _flat(kind: str, what: str, make: Callable[[], Any]) -> Callable[[Source], Converted]:
    def convert(source: Source) -> Converted:
        where = str(source.path)
        state = tensors(source.content, where)
        classifier = {name: value for name, value in state.items() if name.startswith("classifier.")}
        kept = {name: value for name, value in state.items() if name not in classifier}
        with torch.device("meta"):
            expected = rebuild.shapes_of(make())
        facts = {"dropped": f"{len(classifier)} tensors of the classifier"} if classifier else {}
        return Converted(kind, what, flat=fit(expected, kept, where, what), facts=facts)

    return convert


def _backbone() -> Any:
    from wagi.networks.irse import Backbone

    return Backbone()


READERS: dict[str, Callable[[Source], Converted]] = {
    "swagan-tf": swagan_tf,
    "swagan": rosinality,
    "stylegan2": rosinality,
    "e4e": e4e,
    "psp": psp,
    "restyle-e4e": _restyle("e4e"),
    "restyle-psp": _restyle("psp"),
    "w-encoder": w_encoder,
    "hyperstyle": hyperstyle,
    "hfgi": hfgi,
    "irse50": _flat("irse50", "ArcFace IR-SE50", _backbone),
    "lpips-alex": _flat("lpips-alex", "LPIPS v0.1 linear for AlexNet", lambda: rebuild.linear("alex")),
    "lpips-vgg": _flat("lpips-vgg", "LPIPS v0.1 linear for VGG16", lambda: rebuild.linear("vgg")),
    "alexnet": _flat("alexnet", "torchvision AlexNet", lambda: rebuild.trunk("alex")),
    "vgg16": _flat("vgg16", "torchvision VGG16", lambda: rebuild.trunk("vgg")),
    "interfacegan": lambda s: Converted("interfacegan", "InterFaceGAN direction", **boundary(s)),
    "ganspace": lambda s: Converted("ganspace", "GANSpace components", **components(s)),
    "wagi": wagi_checkpoint,
}

def convert(source: Source, kind: str = "auto") -> Converted:
    """Read `source` as `kind`. Raises UserError when it is something else."""
    source.content, prefix = unwrap(source.content)
    kind = identify(source) if kind == "auto" else kind
    needs = {"swagan-tf": ("tensorflow",), "interfacegan": ("numpy", "torch", "safetensors")}
    allowed = needs.get(kind, ("torch", "safetensors"))
    mapping = isinstance(source.content, Mapping)
    usable = source.container in allowed and (mapping or kind in ("swagan-tf", "interfacegan"))
    if usable and kind in PREFIXED:
        usable = isinstance(source.content.get("state_dict"), Mapping)
    if not usable:
        raise UserError(f"--kind {kind}: {source.path} holds something else ({source.container})", 2)
    try:
        found = READERS[kind](source)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
        # Names that promise a layout whose values are of other types: hostile or badly damaged.
        reason = (str(error).splitlines() or ["damaged"])[0][:100]
        raise UserError(f"{source.path}: its contents are not those of a {kind} file ({reason})") from None
    if kind in ("swagan", "stylegan2") and found.kind != kind:
        raise UserError(f"--kind {kind}: {source.path} is a {found.what}", 2)
    if prefix:
        found.facts["names"] = f"{prefix!r} was before each and is left out"
    return found
