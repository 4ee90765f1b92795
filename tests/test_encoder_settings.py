"""Promise: a named encoder setting wins over the checkpoint's; without one a run goes on from its E0."""

import pytest
import torch
from training_helpers import assert_same_bits, run, weights, write_portraits

from wagi import checkpoint
from wagi.networks.small_encoder import SmallEncoder

WIDE = ["--set", "encoder_width=24"]
STAY = ["--steps", "1", "--lr", "1e-20"]  # a run that changes no weight


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_portraits(tmp_path_factory.mktemp("data") / "p")


@pytest.fixture(scope="module")
def start(data, tmp_path_factory):
    """A generator and its E0 of width 8."""
    folder = tmp_path_factory.mktemp("g")
    assert run("generator", data, folder, "--steps", "2") == 0
    return folder / "checkpoint.pt"


def encoder_of(path):
    return checkpoint.read(path)["weights"]["encoder"]


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.allclose(a[name], b[name], 0, 1e-15) for name in a)


def test_a_named_width_is_built_and_starts_as_if_there_were_no_e0(data, start, tmp_path, capsys):
    """To the bit as from a checkpoint without an encoder; the generator is the given one."""
    words = ["--generator", str(start), *WIDE, "--steps", "2"]
    assert run("encoder", data, tmp_path / "a", *words) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note")]
    assert [line for line in notes if "width" in line] == [
        f"note: the encoder of {start} has another size; this one starts fresh: encoder_width=24 (there 8)"
    ]
    found = checkpoint.read(tmp_path / "a" / "checkpoint.pt")
    assert found["config"]["model"]["encoder_width"] == 24
    shapes = {name: value.shape for name, value in SmallEncoder(6, 160, 32, 24).state_dict().items()}
    assert {name: value.shape for name, value in found["weights"]["encoder"].items()} == shapes
    assert same(found["weights"]["generator"], checkpoint.read(start)["weights"]["generator"])
    content = torch.load(start, weights_only=True)
    del content["weights"]["encoder"]
    torch.save(content, tmp_path / "alone.pt")
    words[1] = str(tmp_path / "alone.pt")
    assert run("encoder", data, tmp_path / "b", *words) == 0
    assert_same_bits(tmp_path / "a", tmp_path / "b")


def test_without_a_named_setting_its_e0_goes_on(data, start, tmp_path, capsys):
    """Whatever the preset says: here 8. So does one that is named as it is, and the way to R, which no weight
    depends on."""
    wide = tmp_path / "wide" / "checkpoint.pt"
    assert run("encoder", data, wide.parent, "--generator", str(start), *WIDE, "--steps", "1") == 0
    capsys.readouterr()
    cases = {"plain": [], "named": WIDE, "resize": ["--set", "image_resize=pil"]}
    for name, more in cases.items():
        assert run("encoder", data, tmp_path / name, "--generator", str(wide), *more, *STAY) == 0
        said = capsys.readouterr().err
        assert "starts fresh" not in said
        assert ("note: encoder_width=24 from" in said) == (name != "named")
        assert same(encoder_of(tmp_path / name / "checkpoint.pt"), encoder_of(wide))
    model = checkpoint.read(tmp_path / "resize" / "checkpoint.pt")["config"]["model"]
    assert model["image_resize"] == "pil"


def test_what_is_frozen_keeps_its_own(data, start, tmp_path, capsys):
    assert run("inversion", data, tmp_path, "--encoder", str(start), *WIDE, "--steps", "1") == 0
    assert "note: encoder_width=8 from" in capsys.readouterr().err
    assert same(encoder_of(tmp_path / "checkpoint.pt"), encoder_of(start))


def test_the_e0_that_it_replaces_can_be_its_teacher(data, start, tmp_path):
    words = ["--generator", str(start), *WIDE, "--steps", "1"]
    taught = [*words, "--teacher", str(start), "--set", "lambda_teacher=1"]
    assert run("encoder", data, tmp_path / "alone", *words) == 0
    assert run("encoder", data, tmp_path / "taught", *taught) == 0
    alone, found = (weights(tmp_path / name) for name in ("alone", "taught"))
    assert found["/weights/encoder/stem.weight"].shape == alone["/weights/encoder/stem.weight"].shape
    assert not same(*(encoder_of(tmp_path / name / "checkpoint.pt") for name in ("alone", "taught")))
