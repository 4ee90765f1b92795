"""A direction's file gives back what was written, and whatever is not one is refused in one line."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save
from tiny_bundle import GENERATOR, N_LATENT, STYLE_DIM, edit_manifest, write_tiny_bundle

from wagi_rt import directions, manifest
from wagi_rt.directions import Direction
from wagi_rt.errors import UserError

VECTOR = np.linspace(-1, 1, 8, dtype=np.float32)
FULL = Direction(
    "smile", np.stack([VECTOR] * 4), unit="one standard deviation", range=(-1.5, 2.0), auc=0.97, effect=0.8,
    leakage={"age": -0.1}, generator=GENERATOR, note="of rendered portraits",
)  # fmt: skip


@pytest.mark.parametrize("direction", [FULL, Direction("yaw-2", VECTOR)], ids=["everything", "vector only"])
def test_a_file_gives_back_what_was_written(tmp_path, direction):
    path = tmp_path / "d.safetensors"
    directions.write(path, direction)
    found = directions.read(path)
    assert np.array_equal(found.vector, direction.vector) and found.vector.dtype == np.float32
    assert found.facts() == direction.facts() and found.name == direction.name


def test_the_library_of_the_format_reads_our_files(tmp_path):
    directions.write(tmp_path / "d.safetensors", FULL)
    with safe_open(tmp_path / "d.safetensors", "np") as file:
        assert np.array_equal(file.get_tensor("vector"), FULL.vector)
        assert file.metadata()["name"] == "smile" and json.loads(file.metadata()["range"]) == [-1.5, 2.0]


def test_a_file_without_a_name_is_called_as_it_is(tmp_path):
    write(tmp_path / "hat.safetensors")
    assert directions.read(tmp_path / "hat.safetensors").name == "hat"


def test_shift_is_the_same_for_all_layers_or_each_its_own():
    assert np.array_equal(Direction("a", VECTOR).shift(2, 3), np.stack([2 * VECTOR] * 3))
    rows = np.arange(24, dtype=np.float32).reshape(3, 8)
    assert np.array_equal(Direction("a", rows).shift(-0.5, 3), -0.5 * rows)


def write(path, vector=VECTOR, key="vector", **words):
    path.write_bytes(save({key: vector}, metadata={"kind": "direction", **words}))


@pytest.mark.parametrize(
    "bad, said",
    [
        (dict(key="direction"), "must hold one tensor"),
        (dict(kind="interfacegan"), "no kind=direction"),
        (dict(vector=VECTOR.astype(np.int32)), "must be floating point"),
        (dict(vector=np.zeros((2, 3, 4), np.float32)), "must be floating point, [D]"),
        (dict(vector=np.zeros((0, 4), np.float32)), "not F32 [0, 4]"),
        (dict(vector=VECTOR * np.float32(np.nan)), "not numbers"),
        (dict(vector=VECTOR * 0), "is zero"),
        (dict(range="[1, 1]"), "'range' must be two numbers"),
        (dict(range="[1"), "'range' is not valid JSON"),
        (dict(range="[" * 5000), "'range' is not valid JSON"),
        (dict(auc="NaN"), "'auc' must be a number"),
        (dict(leakage="[1]"), "'leakage' must be"),
        (dict(leakage='{"age": "x"}'), "'leakage' must be"),
        (dict(name="a=b"), "'name' must be letters"),
    ],
)
def test_what_is_no_direction_is_one_line(tmp_path, bad, said):
    path = tmp_path / "d.safetensors"
    write(path, **bad)
    with pytest.raises(UserError) as caught:
        directions.read(path)
    assert said in str(caught.value) and "\n" not in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        (1 << 62).to_bytes(8, "little") + b"{}",
        b"\2\0\0\0\0\0\0\0{}",
        b"PK\3\4" + b"0" * 99,
    ],
)
def test_damaged_files_are_one_line(tmp_path, content):
    path = tmp_path / "d.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        directions.read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_large_file_is_not_read(tmp_path):
    path = tmp_path / "d.safetensors"
    with open(path, "wb") as file:
        file.truncate(17_000_000)
    with pytest.raises(UserError, match="too large"):
        directions.read(path)


# ------------------------------------------------------------------------------------------- in a bundle

OURS = Direction("smile", np.ones((N_LATENT, STYLE_DIM), np.float32), range=(-1, 1), generator=GENERATOR)


def test_a_bundle_lists_them_and_reads_them_checked(tmp_path):
    folder = write_tiny_bundle(tmp_path / "b", schema=3, directions=(OURS,))
    found = manifest.read(folder)
    assert found.directions["smile"].facts.range == (-1, 1)
    assert np.array_equal(found.direction("smile").vector, OURS.vector)
    (folder / "smile.safetensors").write_bytes(directions.content(OURS) + b" ")
    with pytest.raises(UserError, match="smile.safetensors: sha256 differs from the manifest"):
        manifest.read(folder)


@pytest.mark.parametrize(
    "entry, said",
    [
        ({"file": "../x.safetensors", "sha256": "0" * 64}, "directions.smile.file"),
        ({"file": "x.safetensors", "sha256": "0"}, "directions.smile.sha256"),
        ({"file": "x.safetensors", "sha256": "0" * 64}, "is missing"),
        ({"file": "x.safetensors", "sha256": "0" * 64, "range": [2, 1]}, "'range'"),
        (7, "must be a dict"),
    ],
)
def test_a_manifest_with_a_wrong_entry_is_refused(tmp_path, entry, said):
    folder = write_tiny_bundle(tmp_path / "b", schema=3)
    edit_manifest(folder, directions={"smile": entry})
    with pytest.raises(UserError) as caught:
        manifest.read(folder)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change, said",
    [
        ({"aligner": "magic"}, "'aligner' ada or flow only, not magic"),
        ({"naive": "late"}, "'naive' full or bilinear or early only, not late"),
        ({"full_detail": True}, "'full_detail' false only"),
        ({"generator": None}, "'generator' is missing"),
        ({"naive_errors": {"count": 1, "mean": 1, "quantiles": {}}}, "naive_errors"),
        ({"aligner": "flow"}, "graph 'move' is missing"),
        ({"schema": 5}, "reads schemas 2 to 4"),
    ],
)
def test_what_schema_3_holds_is_checked(tmp_path, change, said):
    folder = write_tiny_bundle(tmp_path / "b", schema=3)
    edit_manifest(folder, **change)
    with pytest.raises(UserError) as caught:
        manifest.read(folder)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_directions_do_not_change_what_the_model_is(tmp_path):
    """Engines and optimised graphs are cached under the model's hashes."""
    plain = manifest.read(write_tiny_bundle(tmp_path / "a", schema=3))
    packed = manifest.read(write_tiny_bundle(tmp_path / "b", schema=3, directions=(OURS,)))
    assert plain.hashes == packed.hashes and plain.latent_space == packed.latent_space == GENERATOR
    assert json.loads((packed.folder / "manifest.json").read_text())["directions"]["smile"]["range"] == [
        -1,
        1,
    ]
