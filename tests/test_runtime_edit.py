"""A face is opened once and edited often: the result is the model's, and nothing is encoded again."""

import threading

import numpy as np
import pytest
from tiny_bundle import BLUR, CODE, GENERATOR, N_LATENT, STYLE_DIM, edit_manifest, write_tiny_bundle

import wagi_rt
from wagi_rt.directions import Direction
from wagi_rt.errors import UserError
from wagi_rt.probes import images

SIZE = 64


def brighter(amount: float = 0.25) -> np.ndarray:  # [N_LATENT, STYLE_DIM]: of the tiny model's 8 x 8 image
    flat = np.zeros(N_LATENT * STYLE_DIM, np.float32)
    flat[: CODE * CODE] = amount  # the first channel: red
    return flat.reshape(N_LATENT, STYLE_DIM)


RED = Direction("red", brighter(), unit="quarters", range=(-1.0, 1.0), effect=0.9, generator=GENERATOR)
EVEN = Direction("even", np.full(STYLE_DIM, 0.01, np.float32), generator=GENERATOR)


@pytest.fixture(params=["ada", "flow"])
def bundle(request, tmp_path):
    return write_tiny_bundle(tmp_path / "b", schema=3, aligner=request.param, directions=(RED, EVEN))


@pytest.fixture
def image():
    return images(SIZE, 3, batch=1)[0] / 2


def test_editing_nothing_is_the_inversion(bundle, image):
    with wagi_rt.load(bundle, threads=1) as session:
        inverted = session.invert(image)[0]
        face = session.open(image)
        assert np.array_equal(face.image, inverted.image) and np.array_equal(face.ws, inverted.ws)
        assert np.array_equal(face.naive_r, inverted.naive_r)
        kept = session.encode(image[None])
        assert np.array_equal(session.edit(kept, kept["ws"]).image, session.run(image[None]).image)


def test_latents_of_ones_own_keep_the_detail(bundle, image):
    """At the encoder's latents `hold` is the inversion; at others the residual takes up the difference."""
    with wagi_rt.load(bundle, threads=1) as session:
        kept = session.encode(image[None])
        same = session.hold(image[None], kept["ws"])
        assert np.array_equal(same["result"], session.run(image[None]).image)
        assert all(np.array_equal(same[name], kept[name]) for name in kept)
        other = session.hold(image[None], kept["ws"] + brighter(0.1))
        residuals = [image[None] - one["naive_r"] for one in (kept, other)]
        assert np.abs(residuals[1] - residuals[0]).mean() > 0.01
        np.testing.assert_allclose(other["result"] - other["naive_r"], 0.75 * residuals[1], atol=1e-5)
        unchanged = session.edit(other, other["ws"])
        np.testing.assert_allclose(unchanged.image, other["result"], atol=1e-6)


def test_an_edit_moves_the_latents_and_the_naive_image(bundle, image):
    with wagi_rt.load(bundle, threads=1, naive=True) as session:
        face = session.open(image)
        edited = face.edit({"red": 1}, even=-2)
        step = brighter() - 2 * np.full(STYLE_DIM, 0.01, np.float32)
        np.testing.assert_allclose(edited.ws, face.ws + step, atol=1e-6)
        wanted = session.edit(face.kept, edited.ws[None])
        assert np.array_equal(edited.image, wanted_pixels(wanted.image))
        assert np.array_equal(edited.naive, wanted_pixels(wanted.naive))
        change = edited.image.astype(int) - face.image
        assert change[..., 0].mean() > 10 > change[..., 1].mean()
        assert np.array_equal(edited.input, session.invert(image)[0].input)


def wanted_pixels(found: np.ndarray) -> np.ndarray:
    return wagi_rt.session.pictures.to_uint8(found)[0]


def test_further_edits_run_neither_encoder_nor_naive_source(bundle, image, monkeypatch):
    with wagi_rt.load(bundle, threads=1) as session:
        face, ran = session.open(image), []
        run = session.engine._run
        monkeypatch.setattr(session.engine, "_run", lambda name, *rest: ran.append(name) or run(name, *rest))
        face.edit(red=0.5)
    aligner = "move" if "move" in session.manifest.graphs else "align"
    assert ran == ["prefix", "naive", aligner, "decode"]


def test_strengths_outside_the_range_are_done_with_a_note(bundle, image):
    with wagi_rt.load(bundle, threads=1) as session:
        face = session.open(image)
        assert face.edit(red=1).notes == []
        (note,) = face.edit(red=-1.5, even=9).notes
        assert note == "red=-1.5: outside -1 to 1, where its effect was measured"


@pytest.mark.parametrize(
    "strengths, said",
    [
        ({"rad": 1}, "direction 'rad' is unknown; did you mean red?"),
        ({"smile": 1}, "there are even, red"),
        ({"red": "much"}, "red=much: the strength must be a number"),
        ({"red": True}, "must be a number"),
        ({"red": float("nan")}, "must be finite"),
        ({Direction("d", np.ones(7, np.float32)): 1}, "its vector is [7], this model takes [32] or [8, 32]"),
        (
            {Direction("d", np.ones(STYLE_DIM, np.float32), generator="b" * 64): 1},
            "was found in another generator's latents",
        ),
    ],
)
def test_what_cannot_be_is_one_line(bundle, image, strengths, said):
    with wagi_rt.load(bundle, threads=1) as session, pytest.raises(UserError) as caught:
        session.open(image).edit(strengths)
    assert said in str(caught.value) and "\n" not in str(caught.value) and caught.value.status == 2


def test_latents_of_your_own(bundle, image):
    with wagi_rt.load(bundle, threads=1) as session:
        face = session.open(image)
        assert np.array_equal(face.render(face.ws + brighter()).image, face.edit(red=1).image)
        with pytest.raises(UserError, match=r"latents must be \[8, 32\], these are \[32\]"):
            face.render(face.ws[0])


def test_threads_share_a_face(bundle, image):
    with wagi_rt.load(bundle, threads=1) as session:
        face = session.open(image)
        wanted = [face.edit(red=k / 4).image for k in range(4)]
        found = [None] * 4

        def work(k: int) -> None:
            for _ in range(5):
                found[k] = face.edit(red=k / 4).image

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(np.array_equal(*pair) for pair in zip(found, wanted, strict=True))


def test_a_naive_inversion_far_from_the_picture_is_said_once(bundle, image):
    errors = {"count": 3, "mean": 1e-4, "quantiles": {"0.5": 1e-4, "0.99": 2e-4}}
    edit_manifest(bundle, naive_errors=errors)
    with wagi_rt.load(bundle, threads=1) as session:
        face = session.open(image)
        (note,) = face.notes
        assert "is the face aligned?" in note and "at most 0.0002" in note
        assert face.edit(red=1).notes == [note]
        assert session.open(np.zeros((3, SIZE, SIZE), np.float32)).notes == []


def test_a_bundle_of_schema_2_is_edited_too(tmp_path, image):
    """With directions from files: it has none of its own, and no name of its generator to compare."""
    folder = write_tiny_bundle(tmp_path / "old", pipeline=True, default="pipeline")
    with wagi_rt.load(folder, threads=1) as session:
        face = session.open(image)
        assert face.edit({RED: 1}).image[..., 0].mean() > face.image[..., 0].mean() + 10
        with pytest.raises(UserError, match="this model holds none; use --direction"):
            face.edit(red=1)


def test_the_tiny_model_keeps_its_promise():
    assert N_LATENT * STYLE_DIM >= BLUR == 3 * CODE * CODE
