"""Promise: figures show every system of a finished Table 1, each inverted and edited as its paper does."""

import json

import numpy as np
import pytest
import torch
from sheet_pixels import cells
from training_helpers import write_portraits

from wagi import checkpoint, config, evaluate
from wagi.checkpoint import state_of
from wagi.data import to_uint8
from wagi.editing.attributes import true_edit
from wagi.evaluation.optimisers import Optimiser, PictureLoss, tune_generator
from wagi.experiments import heldout
from wagi.experiments.attribute_edits import portraits
from wagi.experiments.comparison import TITLE
from wagi.experiments.networks import standin_metrics
from wagi.experiments.systems import BASELINES, LATENTS, PTI, systems
from wagi.losses import wavelet_band_losses
from wagi.model import area_resize
from wagi.networks.build import PARTS, build_part
from wagi.portraits import dataset, render
from wagi_rt.directions import Direction, write

SIZE, SEED = 32, 9001
STEPS = {LATENTS: [2, 0], PTI: [2, 3]}
OWN = {"encoder": PARTS[1:2], "hypernetwork": ("encoder", "hypernetwork"), "inversion": PARTS[1:]}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Random checkpoints of Table 1's systems and the table1.json that names them, pSp with two seeds."""
    root = tmp_path_factory.mktemp("systems")
    rows = []
    for system in systems(*config.settings("smoke", "inversion")):
        line = {"row": system.label, "generator": system.generator, "runs": []}
        if not system.stage:
            rows.append(line | {"steps": STEPS[system.label]})
            continue
        model, _ = config.settings("smoke", system.stage, dict(system.overrides) | {"param_dim": "133"})
        for seed in range(2 if system.label == "pSp" else 1):
            torch.manual_seed(0)  # one G0 for all of a kind
            parts = {"generator": state_of(build_part(model, "generator"))}
            torch.manual_seed(len(rows) + 100 * seed)
            parts |= {part: state_of(randomised(build_part(model, part))) for part in OWN[system.stage]}
            line["runs"].append(f"run-{len(rows)}-{seed}")
            folder = root / "runs" / line["runs"][-1]
            folder.mkdir(parents=True)
            checkpoint.save(folder / "checkpoint.pt", system.stage, model, parts)
        rows.append(line)
    (root / "table1.json").write_text(json.dumps({"name": "table1", "rows": rows}))
    write_portraits(root / "data", 3)
    return root


def randomised(module):
    """With weights that differ where fresh ones are zero: heads of hypernetworks, gates."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            if "output.1" in name or "scale" in name or "shift" in name:
                value.normal_(0, 0.05)
    return module


def model_of(world, name, seed=0):
    rows = {row["row"]: row for row in json.loads((world / "table1.json").read_text())["rows"]}
    path = world / "runs" / rows[name]["runs"][seed] / "checkpoint.pt"
    return checkpoint.build_inverter(checkpoint.read(path), path)


def command(world, name, out, *words):
    where = ["--table1", str(world / "table1.json"), "--runs", str(world / "runs"), "--out", str(out)]
    return evaluate.main([name, *where, *words])


def assert_cell(sheet, line, column, image, left=0):
    found = sheet[TITLE + line * SIZE :][:SIZE, left + column * SIZE :][:, :SIZE]
    assert np.abs(found.astype(int) - to_uint8(image)[0].astype(int)).max() <= 1


def test_the_sheet_has_the_papers_columns(world, tmp_path):
    """Figure 4: input, then each system's inversion; no naive column beside pSp and e4e, which are some."""
    assert command(world, "sheet", tmp_path / "f.png", "--data", str(world / "data"), "--blocks", "1") == 0
    sheet = cells(tmp_path / "f.png")
    assert sheet.shape == (TITLE + 3 * SIZE, (1 + len(BASELINES)) * SIZE, 3)
    images = heldout.load_images(str(world / "data"), SIZE)
    assert_cell(sheet, 2, 0, images[2:])
    for column, name in enumerate(BASELINES, 1):
        with torch.no_grad():
            assert_cell(sheet, 2, column, model_of(world, name).results(images)[1][2:])


def test_optimised_systems_are_columns_too(world, tmp_path):
    """Their steps are the table's, their generator is that of the others of its kind."""
    words = ["--systems", f"{LATENTS}, PTI", "--data", str(world / "data"), "--count", "1", "--blocks", "1"]
    assert command(world, "sheet", tmp_path / "f.png", *words) == 0
    x = heldout.load_images(str(world / "data"), SIZE, 1)
    loss = PictureLoss(standin_metrics()["portraits-features"])
    found = Optimiser(model_of(world, "HFGI").generator, loss, 2, 3).results(x)
    for column, image in enumerate(found, 1):
        assert_cell(cells(tmp_path / "f.png"), 0, column, image)


def test_bands_are_measured_over_seeds(world, tmp_path):
    """The mean error of each band of both seeds, all systems at the size that all have;
    LL's error over the mean of the others."""
    words = ["--systems", "pSp,WaGI", "--test", str(world / "data")]
    assert command(world, "bands", tmp_path, *words) == 0
    report = json.loads((tmp_path / "bands.json").read_text())
    lines = {(row["method"], row["norm"], row["level"]): row for row in report["rows"]}
    images = heldout.load_images(str(world / "data"), SIZE)
    found, ratios = [], []
    for seed in (0, 1):
        with torch.no_grad():
            result = heldout.eight_bit(model_of(world, "pSp", seed).results(images)[1])
        finest = wavelet_band_losses(result, images, norm="l2")[:, 0].mean(0)
        found.append(float(finest[2]))
        ratios.append(float(finest[0] / finest[1:].mean()))
    line = lines["pSp", "L2", 0]
    assert line["HL"]["values"] == pytest.approx(found, rel=1e-4) and found[0] != found[1]
    assert line["LL / mean of the others"]["values"] == pytest.approx(ratios, rel=1e-4)
    assert {row["method"] for row in report["rows"]} == {"pSp", "WaGI"}


def test_models_with_another_r_are_measured_at_one_size(world, tmp_path):
    """An encoder's pictures have 64 px, WaGI's residual has 32: both are compared at 32 px."""
    levels = {"residual_resolution": "32", "feature_levels": "8,16", "wavelet_levels": "16"}
    model, _ = config.settings("smoke", "inversion", {"size": "64", **levels})
    parts = {part: state_of(build_part(model, part)) for part in PARTS}
    checkpoint.save(tmp_path / "d.pt", "inversion", model, parts)
    checkpoint.save(tmp_path / "e.pt", "encoder", model, {part: parts[part] for part in PARTS[:2]})
    data = str(write_portraits(tmp_path / "data", 3, 64))
    words = ["--model", f"E={tmp_path / 'e.pt'}", f"D={tmp_path / 'd.pt'}", "--test", data]
    assert evaluate.main(["bands", *words, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "bands.json").read_text())
    assert report["held-out data"].endswith("at 64 px, measured at 32 px")
    images = heldout.load_images(data, 64)
    with torch.no_grad():
        encoder = checkpoint.build_inverter(checkpoint.read(tmp_path / "e.pt"), tmp_path)
        result = area_resize(heldout.eight_bit(encoder.image(images)), 32)
    wanted = wavelet_band_losses(result, area_resize(images, 32), norm="l2")[:, 0, 0].mean()
    assert report["rows"][0]["LL"]["mean"] == pytest.approx(float(wanted), rel=1e-4)


def test_figure_12_edits_as_each_paper_does(world, tmp_path, capsys):
    """One inversion, then an edit to the latents of the true edit, written again for every kind of system."""
    assert command(world, "figure12", tmp_path / "f.png", "--inversions", "1", "--set", "yaw=1") == 0
    (index,) = portraits([("yaw", 1.0)], SEED, 1)
    assert f"inversion, yaw +1; portraits 0, {index} of seed 9001" in capsys.readouterr().out
    portrait = dataset.portrait(SEED, index)
    source, edited = (drawn(one) for one in (portrait, true_edit("yaw", 1.0).apply(portrait)))
    sheet = cells(tmp_path / "f.png", left=TITLE)
    assert sheet.shape == (TITLE + 2 * SIZE, TITLE + 8 * SIZE, 3)
    assert_cell(sheet, 1, 0, source, TITLE)
    assert_cell(sheet, 1, 7, edited, TITLE)
    first = drawn(dataset.portrait(SEED, 0))
    for column, name in enumerate(BASELINES, 1):
        model = model_of(world, name)
        with torch.no_grad():
            assert_cell(sheet, 0, column, model.results(first)[1], TITLE)
            assert_cell(sheet, 1, column, own_edit(model, name, source, model.encode(edited)), TITLE)


def drawn(portrait):
    pixels = torch.from_numpy(np.ascontiguousarray(render(portrait, SIZE)))
    return pixels.permute(2, 0, 1)[None].float() / 127.5 - 1


def own_edit(model, name, source, ws):
    """The edits of the papers: pSp to ReStyle by G; HyperStyle by its tuned G; HFGI and WaGI by fusion."""
    if name == "HyperStyle":
        *_, last = model.refinements(source)
        offsets = {key: value[0] for key, value in last.offsets.items()}
        tuned = {key: value * (1 + offsets.get(key, 0)) for key, value in model.generator.named_parameters()}
        return torch.func.functional_call(model.generator, tuned, (ws,))
    if name in ("HFGI", "WaGI"):
        state, naive = model.reconstruct(ws)
        found = model.aligner(model.invert(source).residual, model.low_fidelity(naive))
        return model.generator.suffix(ws, state, model.fusion_start, gates=model.fusion(found))
    return model.generator(ws)


def test_figure_5_along_directions_of_both_generators(world, tmp_path, capsys):
    """Each model takes the folder of its own generator, whatever their order; --data has no true edits."""
    vectors = {}
    for kind, name in (("swagan", "WaGI"), ("stylegan2", "HFGI")):
        generator = model_of(world, name).generator
        vector = torch.randn(generator.n_latent, generator.style_dim)
        vectors[name] = vector
        origin = checkpoint.weights_hash(generator)
        found = Direction("smile", vector.numpy(), generator=origin, range=(-2, 0.5))
        (tmp_path / kind).mkdir()
        write(tmp_path / kind / "smile.safetensors", found)
    folders = ["--directions", str(tmp_path / "swagan"), str(tmp_path / "stylegan2")]
    data = ["--data", str(world / "data")]
    assert command(world, "figure5", tmp_path / "f.png", *folders, *data, "--systems", "HFGI,WaGI") == 0
    assert "smile -1; pictures 0 of" in capsys.readouterr().out  # the side on which the ranges allow one unit
    sheet = cells(tmp_path / "f.png", left=TITLE)
    source = heldout.load_images(str(world / "data"), SIZE, 1)
    assert sheet.shape == (TITLE + SIZE, TITLE + 3 * SIZE, 3)
    for column, name in enumerate(("HFGI", "WaGI"), 1):
        model = model_of(world, name)
        with torch.no_grad():
            expected = own_edit(model, name, source, model.encode(source) - vectors[name])
        assert_cell(sheet, 0, column, expected, TITLE)
    assert command(world, "figure5", tmp_path / "g.png", *folders[:2], *data, "--systems", "HFGI,WaGI") == 2
    assert "swagan/smile.safetensors: its vector is [6, 160], this model takes" in capsys.readouterr().err


def test_pti_edits_by_the_generator_it_tuned(world):
    """Latents moved after tuning; the generator itself stays."""

    def loss(a, b):
        return (a - b).square().mean()

    g, x = model_of(world, "HFGI").generator, heldout.load_images(str(world / "data"), SIZE, 1)
    optimiser = Optimiser(g, loss, 2, 3)
    ws = optimiser.encode(x)
    with torch.inference_mode():
        found = optimiser.edited(x, ws + 0.1)
    assert torch.allclose(found, tune_generator(g, ws, x, loss, 3)(ws + 0.1), atol=1e-5)
    assert not torch.allclose(found, g(ws + 0.1), atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--systems", "GPT"], "--systems GPT: "),
        (["--runs", "/nowhere"], "--runs /nowhere/run-0-0/checkpoint.pt: no such checkpoint"),
        (["--model", "a.pt"], "--model, --table1: give one of them"),
        (["--table1", "/nowhere/table1.json"], "--table1 /nowhere/table1.json: is no table1.json"),
        (["--data", "DATA"], "--data: has no true edits; give --directions DIR"),
        (["--set", "long_hair=1"], "--set long_hair: no portrait's true edit"),
        (["--inversions", "-1"], "--inversions -1: must be 0 or more"),
    ],
)
def test_mistakes_cost_one_line(world, tmp_path, capsys, words, message):
    words = [str(world / "data") if word == "DATA" else word for word in words]
    assert command(world, "figure12", tmp_path / "f.png", *words) in (1, 2)
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1
    assert not list(tmp_path.iterdir())
