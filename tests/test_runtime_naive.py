"""`wagi-rt invert --naive DIR`: the naive inversions as pictures of their own, beside the final ones."""

import numpy as np
import pytest
import skimage.data
from PIL import Image
from tiny_bundle import error_line, run_cli, write_tiny_bundle

import wagi_rt

PHOTO = Image.fromarray(skimage.data.astronaut()).resize((64, 64))


@pytest.fixture(scope="module", params=["graphs", "pipeline"])
def bundle(request, tmp_path_factory):
    """The fused graph gives no naive image of full size: the option must not depend on it."""
    folder = tmp_path_factory.mktemp("bundle") / request.param
    return write_tiny_bundle(folder, 64, 32, pipeline=True, default=request.param)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(3):
        PHOTO.rotate(90 * k).save(folder / f"{k}.png")
    return folder


def test_naive_pictures_are_those_of_the_session(bundle, photos, tmp_path):
    out, naive = tmp_path / "out", tmp_path / "deep" / "naive"
    assert run_cli("invert", photos, "-m", bundle, "-o", out, "--naive", naive, "--batch", 2) == 0
    names = ["0.png", "1.png", "2.png"]
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in naive.iterdir()) == names
    with wagi_rt.load(bundle, naive=True) as session:
        for name, result in zip(names, session.invert([str(photos / n) for n in names]), strict=True):
            written = np.asarray(Image.open(naive / name)).astype(int)
            assert written.shape == (64, 64, 3)
            assert np.abs(written - result.naive.astype(int)).max() <= 1
            assert np.abs(written - np.asarray(Image.open(out / name)).astype(int)).max() > 20


def test_clashes_are_refused_before_any_work(bundle, photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_cli("invert", photos, "-m", bundle, "-o", out, "--naive", out) == 2
    assert "both would become" in error_line(capsys.readouterr().err)
    assert run_cli("invert", photos, "-m", bundle, "-o", out, "--naive", photos) == 2
    assert "is also an input" in error_line(capsys.readouterr().err)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "1.png").write_text("keep me")
    words = ("invert", photos, "-m", bundle, "-o", out, "--naive", tmp_path / "there")
    assert run_cli(*words) == 2 and "exists already" in error_line(capsys.readouterr().err)
    assert not out.exists() and (tmp_path / "there" / "1.png").read_text() == "keep me"
    assert run_cli(*words, "--overwrite") == 0 and len(list((tmp_path / "there").iterdir())) == 3
