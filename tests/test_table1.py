"""Promise: Table 1 trains every system alike, or takes given models; its numbers are those of `evaluate`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from paper_stages import pictures
from public_files import generator
from training_helpers import write_portraits

from wagi import checkpoint, config, evaluate
from wagi.config import EncoderConfig
from wagi.evaluation.optimisation import optimise_latents
from wagi.evaluation.optimisers import Optimiser, tune_generator
from wagi.experiments import heldout, runs, table1
from wagi.experiments.runs import Runs, Task
from wagi.experiments.systems import systems
from wagi.features import FeatureFiles
from wagi.portraits import LABELS
from wagi.training.images import ImageLoss

SHOWN = ("pSp", "ReStyle (e4e)", "HyperStyle", "WaGI", "PTI")


def command(root: Path, *words: str) -> int:
    where = ["--test", str(root / "test"), "--out", str(root / "out"), "--limit", "2", "--threads", "1"]
    return evaluate.main(["table1", *where, *words])


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Five systems with one seed and two steps each."""
    root = tmp_path_factory.mktemp("table1")
    write_portraits(root / "data", 12)
    write_portraits(root / "test", 5)
    assert command(root, *training(root), "--systems", ",".join(SHOWN)) == 0
    return root


def training(root: Path) -> list[str]:
    budget = ["--preset", "smoke", "--seeds", "1", "--kimg", "0.008", "--generator-kimg", "0.008"]
    slow = ["--latent-steps", "2", "--tuning-steps", "2", "--set", "ada_steps=0"]
    return ["--data", str(root / "data"), "--runs", str(root / "runs"), *budget, *slow]


def table(root: Path) -> dict[str, dict]:
    found = json.loads((root / "out" / "table1.json").read_text())["rows"]
    return {row["row"]: row for row in found if not row["row"].startswith("naive")}


def test_the_numbers_are_those_of_evaluate(world, capsys):
    """Trained rows equal their run's checkpoint, measured by the protocol `portraits` on these pictures."""
    rows = table(world)
    assert list(rows) == list(SHOWN)
    metrics = {"L2": "l2", "L_wave": "l_wave", "SSIM": "ssim", "portraits-ID": "portraits-ID",
               "portraits-features": "portraits-features"}  # fmt: skip
    for label in ("ReStyle (e4e)", "HyperStyle", "WaGI"):
        path = world / "runs" / rows[label]["runs"][0] / "checkpoint.pt"
        words = [
            "--model",
            str(path),
            "--data",
            str(world / "test"),
            "--protocol",
            "portraits",
            "--limit",
            "2",
        ]
        assert evaluate.main([*words, "--json", "-q"]) == 0
        found = json.loads(capsys.readouterr().out)["results"]
        for column, metric in metrics.items():
            assert rows[label][column]["mean"] == pytest.approx(found[metric]["final"]["mean"], rel=1e-5)
    assert all(row["ms per image"] > 0 and row["count"] == 2 for row in rows.values())
    assert rows["ReStyle (e4e)"]["ms per image"] > rows["pSp"]["ms per image"]


def test_every_run_has_the_same_images_and_start(world):
    """Steps times batch, and the same frozen generator, in every stage."""
    rows, seen = table(world), set()
    for label in SHOWN[:-1]:
        content = torch.load(world / "runs" / rows[label]["runs"][0] / "checkpoint.pt", weights_only=True)
        assert content["training"]["images"] == 8
        model = content["config"]["model"]
        assert model["generator"] == ("swagan" if label == "WaGI" else "stylegan2")
        seen |= {float(content["weights"]["generator"]["input.input"].sum())} if label != "WaGI" else set()
    assert len(seen) == 1


def test_the_same_command_again_only_reads(world, capsys):
    """Neither runs nor optimisations are made again; the numbers stay, times too."""
    before = (world / "out" / "table1.json").read_text()
    assert command(world, *training(world), "--systems", "WaGI,PTI") == 0
    text = capsys.readouterr().err
    assert "optimising" not in text and "to train" not in text
    after = table(world)
    assert [after["WaGI"], after["PTI"]] == [
        row for row in json.loads(before)["rows"] if row["row"] in ("WaGI", "PTI")
    ]


def test_given_models_are_rows(world, capsys):
    """A checkpoint of an encoder alone and one of HyperStyle, without any training data."""
    assert command(world, *training(world), "--systems", ",".join(SHOWN)) == 0
    before = table(world)
    paths = {label: world / "runs" / before[label]["runs"][0] / "checkpoint.pt" for label in SHOWN[:3]}
    models = [word for label in ("pSp", "HyperStyle") for word in ("--model", f"mine {label}={paths[label]}")]
    assert command(world, *models) == 0
    after = table(world)
    assert list(after) == ["mine pSp", "mine HyperStyle"]
    for label in ("pSp", "HyperStyle"):
        assert after[f"mine {label}"]["L2"]["mean"] == pytest.approx(before[label]["L2"]["mean"], rel=1e-6)
    assert "not published here" in capsys.readouterr().out


def test_the_size_at_which_pictures_are_compared(world):
    """At half the size the numbers are those of means over blocks, as tables 2 to 4 have them at R."""
    (path,) = (world / "runs").glob("inversion-*/checkpoint.pt")
    assert command(world, "--model", f"D={path}", "--at", "16", "--out", str(world / "half")) == 0
    row = json.loads((world / "half" / "table1.json").read_text())["rows"][0]
    images = heldout.load_images(str(world / "test"), 32, 2)
    with torch.no_grad():
        found = heldout.eight_bit(checkpoint.load_model(path).invert(images).image)
    error = torch.nn.functional.avg_pool2d(found - images, 2).square().mean()
    assert row["L2"]["mean"] == pytest.approx(float(error), rel=1e-4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--model or --data: is needed"),
        (["--systems", "pSp"], "--data, --runs: are needed"),
        (["--systems", "GPT"], "--systems GPT: no such system; choose from pSp, e4e, ReStyle (pSp)"),
        (["--model", "x.pt"], "--model x.pt: write NAME=CHECKPOINT"),
        (["--model", "a=x.pt"], "x.pt: no such checkpoint"),
        (["--seeds", "0"], "--seeds 0: must be greater than 0"),
        (["--at", "-1"], "--at -1: must be greater than 0"),
    ],
)
def test_mistakes_cost_one_line(tmp_path, capsys, words, message):
    write_portraits(tmp_path / "test", 5)
    assert command(tmp_path, *words) in (1, 2)
    text = capsys.readouterr().err
    assert message in text and text.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("preset", ["portraits-64", "portraits-128", "ffhq256", "ffhq1024"])
def test_the_systems_are_what_they_are_called(preset):
    """Settings that every preset accepts; the paper's baselines are without WaGI's loss and on StyleGAN2."""
    model, train = config.settings(preset, "inversion")
    found = {}
    for system in systems(model, train):
        if system.stage:
            found[system.label] = config.settings(preset, system.stage, dict(system.overrides))
    assert all(m.generator == ("swagan" if name == "WaGI" else "stylegan2") for name, (m, _) in found.items())
    assert all((t.lambda_wave > 0) == (name == "WaGI") for name, (_, t) in found.items())
    assert [name for name, (m, _) in found.items() if m.restyle_steps == 5] == [
        "ReStyle (pSp)", "ReStyle (e4e)", "IntereStyle's loss"]  # fmt: skip
    assert {name for name, (_, t) in found.items() if getattr(t, "lambda_adv", 0)} == {"e4e", "ReStyle (e4e)"}
    assert {name for name, (m, _) in found.items() if m.encoder.endswith("psp")} >= {"pSp", "ReStyle (pSp)"}
    assert found["HFGI"][0].wavelet_levels == () and found["WaGI"][0].wavelet_levels
    regions = {name: getattr(t, "interest", ()) for name, (_, t) in found.items()}
    assert {name: [LABELS[label] for label in chosen] for name, chosen in regions.items() if chosen} == {
        "IntereStyle's loss": ["face", "eyes", "mouth", "hair"]}  # fmt: skip


def test_weight_files_reach_the_training(tmp_path, monkeypatch):
    """LPIPS and ArcFace files are the training's options too, and part of what a run is."""
    args = table1.parser().parse_args(["--out", "x", "--lpips-trunk", "a.pth", "--arcface", "b.pth"])
    words = table1.Bench.of(args).words
    assert words == ("--lpips-trunk", "a.pth", "--arcface", "b.pth")
    task, given = Task("encoder", "a run", (("kimg", "0.008"),)), []
    plain, with_files = (Runs(tmp_path, "smoke", "portraits:1:8", words=w) for w in ((), words))
    assert plain.folder_of(task) != with_files.folder_of(task)
    monkeypatch.setattr(runs, "train_run", lambda words: given.append(words) or 0.0)
    with_files.train([task])
    assert " ".join(words) in " ".join(given[0])


# ------------------------------------------------------------------------------- losses and optimisers


def test_interest_region_by_value():
    """IntereStyle: both images times the mask of the labels, then the same losses; means over all pixels."""
    x, y = pictures(seed=1)["image"], pictures(seed=2)["image"]
    labels = torch.randint(0, 9, (4, 32, 32), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    train = EncoderConfig(lambda_lpips=0.0, lambda_id=0.0, interest=(2, 5))
    loss, _ = ImageLoss(train, FeatureFiles())(y, x, labels)
    mask = np.isin(labels.numpy(), (2, 5))[:, None]
    wanted = ((y.double().numpy() * mask - x.double().numpy() * mask) ** 2).mean()
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(Exception, match="interest: the data have no region labels"):
        ImageLoss(train, FeatureFiles())(y, x, None)


def square(a, b):
    return (a - b).square().mean()


def test_tuning_takes_adams_steps_at_fixed_latents():
    """PTI: after one step every weight that matters has moved by the rate (Adam's first step), no other."""
    g = generator("stylegan2")
    before = {name: value.clone() for name, value in g.named_parameters()}
    ws = torch.randn(1, g.n_latent, g.style_dim, generator=torch.Generator().manual_seed(0))
    target = pictures(1)["image"]
    tuned = tune_generator(g, ws, target, square, 1, 1e-3)
    assert all(torch.equal(value, before[name]) for name, value in g.named_parameters())
    moved = {name: (value - before[name]).abs() for name, value in tuned.named_parameters()}
    assert all((value > 0).any() != name.startswith("style.") for name, value in moved.items())
    assert moved["input.input"].median().item() == pytest.approx(1e-3, rel=0.01)
    longer = tune_generator(g, ws, target, square, 30, 1e-2)
    assert square(longer(ws), target) < 0.5 * square(g(ws), target)


def test_each_picture_has_its_own_generator():
    """PTI of two pictures is tuning around each one's latents alone; without tuning both results are one."""
    g, x = generator("stylegan2"), pictures(2)["image"]
    naive, final = Optimiser(g, square, 3, 5).results(x)
    ws = g.broadcast(optimise_latents(g, x, square, 3))
    assert torch.allclose(naive, g(ws), atol=1e-6)
    for k in range(2):
        one = slice(k, k + 1)
        assert torch.allclose(final[one], tune_generator(g, ws[one], x[one], square, 5)(ws[one]), atol=1e-5)
        assert square(final[k], x[k]) < square(naive[k], x[k])
    plain = Optimiser(g, square, 3).results(x)
    assert torch.equal(plain[0], plain[1]) and torch.allclose(plain[0], naive, atol=1e-6)
