"""Training data: every format in, damaged files reported, order a pure function of seed and step."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training_helpers import write_portraits
from wagi.data import ImageFolder, PortraitMemmap, PortraitStream, open_dataset
from wagi.errors import UserError
from wagi.loader import Loader, Order
from wagi_rt import decoding, pictures


def picture(width: int = 40, height: int = 30, mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def decoded_by_the_runtime(path, size: int) -> np.ndarray:
    return pictures.prepare(decoding.decode(path, size=size), size).image


# ------------------------------------------------------------------------------------------------ folders


def test_folder_reads_every_kind_of_image(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    picture().save(tmp_path / "a.png")
    picture(mode="L").save(tmp_path / "deep" / "grey.jpg")
    picture(mode="CMYK").save(tmp_path / "deep" / "cmyk.jpg")
    picture(mode="RGBA").save(tmp_path / "deep" / "er" / "alpha.webp")
    picture(mode="P").save(tmp_path / "palette.gif")
    picture(1, 1).save(tmp_path / "one.bmp")
    Image.fromarray(np.full((30, 40), 51400, np.uint16)).save(tmp_path / "sixteen.png")
    (tmp_path / "notes.txt").write_text("not an image, not mentioned")
    data = ImageFolder(tmp_path, 32)
    assert len(data) == 7 and data.skipped == 0
    for i in range(len(data)):
        image = data.get(i, False)["image"]
        assert image.shape == (3, 32, 32) and image.dtype == torch.float32 and image.abs().max() <= 1
    sixteen = data.get([f.name for f in data.files].index("sixteen.png"), False)["image"]
    assert torch.allclose(sixteen, torch.full_like(sixteen, 200 / 127.5 - 1))


def test_folder_reads_as_the_runtime_does_and_mirrors(tmp_path):
    picture(96, 96).save(tmp_path / "a.png")
    data = ImageFolder(tmp_path, 32)
    expected = np.asarray(picture(96, 96).resize((32, 32), Image.Resampling.LANCZOS), np.float32)
    image = data.get(0, False)["image"]
    np.testing.assert_allclose(image.numpy(), decoded_by_the_runtime(tmp_path / "a.png", 32), atol=1e-6)
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected / 127.5 - 1, atol=1e-6)
    assert torch.equal(data.get(0, True)["image"], image.flip(2))


def test_folder_applies_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # rotate by 90 degrees to show
    picture(40, 40).save(tmp_path / "turned.jpg", exif=exif, quality=100, subsampling=0)
    image = ImageFolder(tmp_path, 40).get(0, False)["image"]
    upright = np.asarray(picture(40, 40).transpose(Image.Transpose.ROTATE_270), np.float32) / 127.5 - 1
    assert np.abs(image.permute(1, 2, 0).numpy() - upright).mean() < 0.05


def test_damaged_files_are_reported_counted_and_skipped(tmp_path, capsys):
    picture().save(tmp_path / "good.png")
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.jpg").touch()
    picture(200, 200).save(tmp_path / "cut.jpg")
    cut = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(cut[: len(cut) // 2])
    data = ImageFolder(tmp_path, 32)
    good = data.get(data.files.index(tmp_path / "good.png"), False)["image"]
    assert all(torch.equal(data.get(i, False)["image"], good) for i in range(len(data)))
    assert data.skipped == 3
    reported = capsys.readouterr().err
    assert [reported.count(f"{name} (") for name in ("text.png", "empty.jpg", "cut.jpg", "good.png")] == [
        1,
        1,
        1,
        0,
    ]


@pytest.mark.parametrize(
    "content, message", [(None, "no such folder"), ({}, "no image"), ({"a.png": b"x"}, "no readable")]
)
def test_folder_errors(tmp_path, content, message, capsys):
    folder = tmp_path / "data"
    if content is not None:
        folder.mkdir()
        for name, data in content.items():
            (folder / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as error:
        open_dataset(folder, 32)
    assert str(error.value).startswith(f"{folder}: ") and "\n" not in str(error.value)


# ---------------------------------------------------------------------------------------------- portraits


def test_memmap_at_its_size_and_as_area_mean(tmp_path):
    folder = write_portraits(tmp_path / "p", count=3, size=64)
    stored = np.load(folder / "images.npy")
    full, half = PortraitMemmap(folder, 64).get(1), PortraitMemmap(folder, 32).get(1)
    np.testing.assert_allclose(full["image"].permute(1, 2, 0), stored[1] / 127.5 - 1, atol=1e-6)
    blocks = stored[1].astype(np.float64).reshape(32, 2, 32, 2, 3).mean((1, 3))
    np.testing.assert_allclose(half["image"].permute(1, 2, 0), blocks / 127.5 - 1, atol=1e-6)
    assert half["mask"].shape == (32, 32) and half["mask"].dtype == torch.uint8
    np.testing.assert_array_equal(full["params"], np.load(folder / "parameters.npy")[1])


def test_memmap_uses_only_the_rendered_part(tmp_path):
    assert len(PortraitMemmap(write_portraits(tmp_path / "a", count=9, done=4), 32)) == 4
    with pytest.raises(UserError, match="nothing rendered"):
        PortraitMemmap(write_portraits(tmp_path / "b", done=0), 32)


@pytest.mark.parametrize("size", [64, 20])
def test_memmap_of_a_wrong_size(tmp_path, size):
    with pytest.raises(UserError, match=f"32 px, size={size}"):
        PortraitMemmap(write_portraits(tmp_path / "p"), size)


def test_damaged_memmap(tmp_path):
    folder = write_portraits(tmp_path / "p")
    (folder / "regions.npy").unlink()
    with pytest.raises(UserError, match="not readable"):
        open_dataset(folder, 32)


def test_stream_equals_a_rendered_folder(tmp_path):
    from wagi.portraits import dataset

    dataset.generate(tmp_path / "p", dataset.Settings(count=2, size=32, seed=5, memmap=True), progress=False)
    stored, live = PortraitMemmap(tmp_path / "p", 32), open_dataset("portraits:5:2", 32)
    assert len(live) == 2 and live.param_dim == stored.param_dim
    for key, value in stored.get(1).items():
        assert torch.equal(value, live.get(1, False)[key]), key


@pytest.mark.parametrize(
    "spec", ["portraits:", "portraits:1", "portraits:a:b", "portraits:1:0", "portraits:-1:3"]
)
def test_stream_errors(spec):
    with pytest.raises(UserError, match="^portraits:"):
        PortraitStream(spec, 32)


# -------------------------------------------------------------------------------------------------- order


def test_every_epoch_visits_every_image_once():
    order = Order(count=10, batch=4, seed=3, first=5)
    seen = [i for step in range(5) for i, _ in order(step)]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(5, 15))
    assert seen[:10] != seen[10:]


def test_order_depends_on_seed_and_step_only():
    order, other = Order(100, 8, seed=1, flip=True), Order(100, 8, seed=1, flip=True)
    forward = [order(s) for s in range(40)]
    assert [other(s) for s in reversed(range(40))] == forward[::-1]
    assert Order(100, 8, seed=2)(0) != order(0)
    flips = [flip for step in forward for _, flip in step]
    assert 0.35 < np.mean(flips) < 0.65
    assert not any(flip for s in range(40) for _, flip in Order(100, 8, 1)(s))


class Numbers:
    """Images that hold their index."""

    param_dim = 0

    def __len__(self):
        return 50

    def get(self, index, flip):
        return {"image": torch.full((1,), float(index))}


@pytest.mark.parametrize("accumulate, world, workers", [(1, 1, 0), (1, 1, 3), (2, 1, 0), (2, 2, 2)])
def test_processes_and_micro_batches_share_one_batch(accumulate, world, workers):
    order = Order(50, 8, seed=0)
    found = []
    for rank in range(world):
        loader = Loader(Numbers(), order, accumulate, rank, world, workers)
        for step, micros in zip(range(3), loader.steps(4), strict=False):
            assert len(micros) == accumulate and all(
                len(m["image"]) == 8 // accumulate // world for m in micros
            )
            found += [(step, int(v)) for m in micros for v in m["image"].flatten()]
        loader.close()
    assert sorted(found) == sorted((s, i) for s in range(3) for i, _ in order(s + 4))
