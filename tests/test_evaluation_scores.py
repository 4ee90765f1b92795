"""Scores of an evaluation against scikit-image, PyWavelets, scipy and numpy; every picture counts once."""

import numpy as np
import pytest
import pywt
import scipy.linalg
import skimage.data
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

from wagi.evaluation.extractors import Extractors
from wagi.evaluation.inverters import Inverted
from wagi.evaluation.measure import evaluate
from wagi.evaluation.protocols import Protocol, find
from wagi.evaluation.scores import FrechetDistance, Scores, resized, statistics
from wagi.features import FeatureFiles

PHOTO = skimage.data.astronaut()
PIXELS = Protocol("pixels", "for this test", 0, "area", ("l2", "l_wave", "psnr", "ssim", "ms_ssim"))


def pictures(count, size=64, seed=0):
    """Parts of a photo, uint8 [S, S, 3]."""
    corners = np.random.default_rng(seed).integers(0, 512 - size, (count, 2))
    return [PHOTO[row : row + size, column : column + size] for row, column in corners]


def noisy(picture, strength, seed=0):
    noise = np.random.default_rng(seed).normal(0, strength, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def scored(inputs, results, protocol=PIXELS):
    size = len(inputs[0])
    scores = Scores(protocol, size, Extractors(protocol, size, FeatureFiles(), "cpu"), "cpu")
    scores.add([str(k) for k in range(len(inputs))], inputs, results)
    return scores


def centred(picture):
    return picture.astype(np.float64) / 127.5 - 1


def some(count=3, size=64):
    inputs = pictures(count, size)
    return inputs, [Inverted(noisy(x, 40, k), noisy(x, 5 + k, k)) for k, x in enumerate(inputs)]


def test_pixel_metrics_equal_skimage():
    inputs, results = some()
    rows = scored(inputs, results).rows()
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 2}
    for row, x, result in zip(rows, inputs, results, strict=True):
        for side in ("naive", "final"):
            a, b = centred(x), centred(getattr(result, side))
            assert row[f"l2_{side}"] == pytest.approx(mean_squared_error(a, b), rel=1e-4)
            assert row[f"psnr_{side}"] == pytest.approx(peak_signal_noise_ratio(a, b, data_range=2), rel=1e-4)
            expected = structural_similarity(a, b, data_range=2, **options)
            assert row[f"ssim_{side}"] == pytest.approx(expected, rel=1e-3)


def test_ms_ssim_agrees_with_torchmetrics():
    """Not to the last digit: torchmetrics also counts windows that hang over the border."""
    inputs, results = some(2, 192)
    rows = scored(inputs, results).rows()
    for row, x, result in zip(rows, inputs, results, strict=True):
        a, b = (torch.tensor(centred(p)).permute(2, 0, 1)[None].float() for p in (x, result.final))
        expected = multiscale_structural_similarity_index_measure(b, a, data_range=2.0)
        assert row["ms_ssim_final"] == pytest.approx(expected.item(), abs=0.01)


def test_bands_and_levels_equal_pywavelets():
    inputs, results = some()
    found = scored(inputs, results).results()
    for side in ("naive", "final"):
        differences = [centred(getattr(r, side)) - centred(x) for x, r in zip(inputs, results, strict=True)]
        low, total = np.stack(differences), 0.0
        for level in found["bands"][side]:
            low, high = pywt.dwt2(low, "haar", axes=(1, 2))
            expected = {"LL": low, "LH": high[0], "HL": high[1], "HH": high[2]}
            for name, coefficients in expected.items():
                assert level[name] == pytest.approx(np.square(coefficients).mean(), rel=1e-4), name
            assert level["l_wave"] == pytest.approx(sum(level[name] for name in ("LH", "HL", "HH")))
            total += level["l_wave"]
        assert found["results"]["l_wave"][side]["mean"] == pytest.approx(total, rel=1e-5)
        finest = found["bands"][side][0]
        four = sum(finest[name] for name in ("LL", "LH", "HL", "HH"))
        assert four == pytest.approx(4 * found["results"]["l2"][side]["mean"], rel=1e-5)


def scipy_fid(a, b):
    """Heusel et al. 2017, eq. (6)."""
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    return np.square(a.mean(0) - b.mean(0)).sum() + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root)


def test_fid_equals_scipy():
    rng = np.random.default_rng(0)
    inputs, naive, final = (rng.normal(shift, 1 + shift, (60, 7)) for shift in (0.0, 0.8, 0.1))
    distance = FrechetDistance(7)
    for part in (slice(0, 25), slice(25, 60)):
        inputs_, naive_, final_ = (torch.tensor(x[part]) for x in (inputs, naive, final))
        distance.add(inputs_, {"naive": naive_, "final": final_})
    assert distance.count == 60
    assert distance.compute("naive") == pytest.approx(scipy_fid(inputs, naive), rel=1e-6)
    assert distance.compute("final") == pytest.approx(scipy_fid(inputs, final), rel=1e-6)


def test_statistics():
    values = [1.0, 2.0, 4.0, 9.0]
    found = statistics(values)
    assert found == pytest.approx({"mean": 4, "std": np.std(values, ddof=1), "median": 3})
    assert statistics([5.0]) == {"mean": 5, "std": None, "median": 5}
    assert statistics([1.0, np.inf, np.inf])["mean"] is None


def test_equal_pictures_have_no_finite_psnr():
    inputs = pictures(2)
    found = scored(inputs, [Inverted(x, x) for x in inputs]).results()["results"]
    assert found["l2"]["final"]["mean"] == 0 and found["ssim"]["naive"]["mean"] == pytest.approx(1)
    assert found["psnr"]["final"] == {"mean": None, "std": None, "median": None}


def test_resizing():
    picture = pictures(1)[0]
    halves = picture.reshape(32, 2, 32, 2, 3).mean((1, 3))
    np.testing.assert_allclose(resized(picture, 32, "area").permute(1, 2, 0), halves / 127.5 - 1, atol=1e-6)
    for how in ("area", "bilinear"):
        exact = resized(picture, 64, how).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(exact, centred(picture), atol=1e-6)
        with pytest.raises(ValueError, match="64 px cannot be measured at 128 px"):
            resized(picture, 128, how)
    eight_bit = (resized(picture, 24, "bilinear") + 1) * 127.5
    torch.testing.assert_close(eight_bit, eight_bit.round(), atol=1e-4, rtol=0)


class Brighter:
    """An "inverter" of 16 px whose error is known: final one step brighter, naive eight; fails where told."""

    size, facts = 16, {"kind": "test"}

    def __init__(self, chunk, failing=()):
        self.chunk, self.failing, self.seen, self.calls = chunk, failing, 0, []

    def invert(self, pictures):
        self.calls.append(len(pictures))
        for picture in pictures:
            self.seen += 1
            half = picture // 2
            yield "no result" if self.seen - 1 in self.failing else Inverted(half + 8, half + 1)


@pytest.mark.parametrize("chunk, batch", [(2, 3), (4, 2), (100, 3), (1, 1)])
def test_every_picture_counts_whatever_the_batches(tmp_path, chunk, batch):
    from PIL import Image

    for k, picture in enumerate(pictures(7, 16)):
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
    inverter = Brighter(chunk)
    report, rows = evaluate(inverter, str(tmp_path), PIXELS, batch=batch)
    assert report["data"]["count"] == 7 == inverter.seen
    assert [row["image"] for row in rows] == [f"{k}.png" for k in range(7)]
    reference, _ = evaluate(Brighter(7), str(tmp_path), PIXELS, batch=7)
    assert report["results"]["l2"]["final"] == pytest.approx(reference["results"]["l2"]["final"])
    mean = np.mean([row["l2_final"] for row in rows])
    assert report["results"]["l2"]["final"]["mean"] == pytest.approx(mean)


def test_what_was_not_inverted_or_read_is_counted_and_named(tmp_path, capsys):
    from PIL import Image

    for k, picture in enumerate(pictures(5, 16)):
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "3.jpg").write_text("not a picture")
    report, rows = evaluate(Brighter(2, failing=(3,)), str(tmp_path), PIXELS, batch=2)
    assert report["data"]["count"] == 3 and [row["image"] for row in rows] == ["0.png", "1.png", "3.png"]
    assert set(report["data"]["skipped"]) == {"2.png", "3.jpg", "4.png"}
    assert report["data"]["skipped"]["4.png"] == "no result"
    assert capsys.readouterr().err.count("skipped") == 3


def test_sizes_of_protocols():
    wagi, editor = find("wagi"), find("stylefeatureeditor")
    assert wagi.size_of("l2", 1024) == 256
    assert [editor.size_of(name, 512) for name in ("lpips", "ms_ssim", "fid")] == [256, 1024, 512]
    assert find("portraits").size_of("ssim", 64) == 64
    missing = Extractors(editor, 512, FeatureFiles(), "cpu").missing
    assert missing["ms_ssim"] == "needs a model of 1024 px or more, this one has 512"
    assert "--lpips-trunk FILE" in missing["lpips"] and "--fid-network FILE" in missing["fid"]
    assert set(missing) == {"lpips", "ms_ssim", "curricularface", "fid"}
