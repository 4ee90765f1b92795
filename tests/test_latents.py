"""A kept picture is edited as if it had just been opened, without the encoder, and only by its own model."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import edit_manifest, write_tiny_bundle

import wagi_rt
from wagi_rt.errors import UserError


@pytest.fixture(params=["ada", "flow"])
def bundle(request, tmp_path):
    return write_tiny_bundle(tmp_path / "bundle", schema=3, aligner=request.param, size=128)


@pytest.fixture
def kept(bundle, tmp_path):
    """(the file, the session that wrote it and its face)."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (150, 200, 3), np.uint8)).save(tmp_path / "in.png")
    with wagi_rt.load(bundle, threads=1) as session:
        face = session.open(tmp_path / "in.png")
        face.save(tmp_path / "face.npz")
        yield tmp_path / "face.npz", session, face


def test_edits_are_the_same_to_the_bit_and_need_no_encoder(kept, bundle, monkeypatch):
    path, _, face = kept
    with wagi_rt.load(bundle, threads=1) as session:
        run, ran = session.engine._run, []
        monkeypatch.setattr(session.engine, "_run", lambda name, *rest: ran.append(name) or run(name, *rest))
        again = session.reopen(path)
        ws = face.ws * 0.5
        assert np.array_equal(again.render(ws).image, face.render(ws).image)
    assert "encoder" not in ran
    assert again.prepared.notes == face.prepared.notes != []
    assert again.prepared.placement == face.prepared.placement is not None


def test_another_model_refuses_it(kept, bundle):
    path = kept[0]
    edit_manifest(bundle, generator="c" * 64)
    with wagi_rt.load(bundle, threads=1) as session, pytest.raises(UserError) as caught:
        session.reopen(path)
    assert caught.value.status == 2 and "latents are of another model" in str(caught.value)


def test_a_model_of_other_sizes_refuses_it(kept, tmp_path):
    other = write_tiny_bundle(tmp_path / "small", schema=3, resolution=32)
    with wagi_rt.load(other, threads=1) as session, pytest.raises(UserError) as caught:
        session.reopen(kept[0])
    assert caught.value.status == 2 and "another model" in str(caught.value)


def arrays(path):
    with np.load(path) as found:
        return {name: found[name] for name in found.files}


def words(about: dict) -> np.ndarray:
    return np.frombuffer(json.dumps(about).encode(), np.uint8)


@pytest.mark.parametrize(
    "what", ["text", "missing", "nan", "double", "pickle", "json", "bomb", "shape", "none"]
)
def test_damaged_files_are_one_line(kept, tmp_path, what):
    path, session, _ = kept
    found, bad = arrays(path), tmp_path / "bad.npz"
    if what == "text":
        bad.write_text("hello")
    elif what == "bomb":
        with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in found:
                archive.writestr(f"{name}.npy", bytes(50_000_000))
    elif what != "none":
        if what == "missing":
            del found["ws"]
        if what == "nan":
            found["ws"] = found["ws"] * np.float32(np.nan)
        if what == "double":
            found["naive_r"] = found["naive_r"].astype(np.float16)
        if what == "pickle":
            found["about"] = np.array([object()], object)
        if what == "json":
            found["about"] = words({"schema": 7})
        if what == "shape":
            found["image_r"] = found["image_r"][:1]
        np.savez(bad, **found)
    with pytest.raises(UserError) as caught:
        session.reopen(bad)
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)
