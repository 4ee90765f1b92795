"""The ffhq1024 recipe of docs/weights.md, command by command, on tiny random files in the public layouts."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from public_files import randomise, tf_variables, write_flat, write_tf

from wagi import checkpoint, convert, train
from wagi.conversion import rebuild
from wagi.features import load_weights
from wagi.networks.e4e import Encoder4Editing
from wagi.networks.irse import Backbone

SHORT = ("--batch", "2", "--steps", "1", "--set", "holdout=1", "--device", "cpu", "--threads", "1")
# The encoder of the preset needs 256 px and its full width; at 32 px the small one takes its place.
SCALES = {
    32: (
        "--set",
        "size=32",
        "--set",
        "encoder=small",
        "--set",
        "encoder_input=32",
        "--set",
        "encoder_width=8",
        "--set",
        "feature_levels=8,16",
        "--set",
        "wavelet_levels=16",
    ),
    256: ("--set", "size=256"),
}


def commands(root: Path) -> list[list[str]]:
    text = (root / "docs" / "weights.md").read_text()
    block = re.search(r"<!-- rehearsed[^\n]*-->\n```bash\n(.*?)```", text, re.S)
    assert block, "docs/weights.md has no rehearsed block"
    return [shlex.split(line) for line in block[1].replace("\\\n", " ").splitlines()]


def public_files(folder: Path, size: int) -> None:
    torch.manual_seed(0)
    write_tf(folder / "swagan-ffhq.pkl", tf_variables(size))
    write_flat(folder / "model_ir_se50.pth", randomise(Backbone()).state_dict(), legacy=True)
    trunk = {**rebuild.trunk("alex").state_dict(), "classifier.1.weight": torch.zeros(2, 2)}
    write_flat(folder / "alexnet.pth", trunk, legacy=True)
    linear = {name: value.abs() for name, value in rebuild.linear("alex").state_dict().items()}
    write_flat(folder / "alex.pth", linear, legacy=True)
    (folder / "ffhq").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        small = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        small.resize((size, size), Image.BICUBIC).save(folder / "ffhq" / f"{i}.png")
    (folder / "photo.png").write_bytes((folder / "ffhq" / "0.png").read_bytes())


def execute(command: list[str], size: int) -> int:
    from export import to_onnx
    from wagi_rt import cli

    if command[:3] == ["python", "-m", "wagi.convert"]:
        return convert.main(command[3:])
    if command[:3] == ["python", "-m", "wagi.train"]:
        return train.main([*command[3:], *SHORT, *SCALES[size]])
    if command[:2] == ["python", "export/to_onnx.py"]:
        return to_onnx.main(command[2:])
    assert command[0] == "wagi-rt", command
    return cli.main(command[1:])


@pytest.mark.parametrize("size", [32, pytest.param(256, marks=pytest.mark.slow)])
def test_the_recipe(tmp_path, monkeypatch, root, capsys, size):
    """256 px is the same with the real e4e, initialised from IR-SE50: minutes."""
    monkeypatch.chdir(tmp_path)
    public_files(tmp_path, size)
    steps = commands(root)
    assert len(steps) == 9
    for command in steps:
        assert execute(command, size) == 0, f"{shlex.join(command)}\n{capsys.readouterr().err[-2000:]}"
    model = checkpoint.load_model("runs/inversion/checkpoint.pt")
    assert model.generator.to_rgb1.conv.weight.shape[-1] == 3 and model.generator.size == size
    source = checkpoint.load_generator("swagan.pt").state_dict()
    assert all(torch.equal(value, source[name]) for name, value in model.generator.state_dict().items())
    assert any(path.suffix == ".png" for path in Path("out").iterdir())


def test_e4e_starts_from_the_converted_backbone(tmp_path):
    torch.manual_seed(0)
    model = randomise(Backbone())
    write_flat(tmp_path / "model_ir_se50.pth", model.state_dict(), legacy=True)
    out = tmp_path / "irse50.pt"
    assert convert.main([str(tmp_path / "model_ir_se50.pth"), "-o", str(out)]) == 0
    encoder = Encoder4Editing(1, 8)
    encoder.initialise_from_backbone(load_weights(out, "--irse50", "IR-SE50"))
    for name in ("input_layer", "body"):
        own, given = getattr(encoder, name).state_dict(), getattr(model, name).state_dict()
        assert all(torch.equal(own[key], value) for key, value in given.items())
