"""export/to_triton.py: its repository gives what wagi-rt gives, or one line says why there is none.

The files are run by a stand-in (fake_triton.py) with ONNX Runtime; TensorRT's engines are fakes, of which
only the place is looked at.
"""

import io
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from export_models import CONFIG, randomised
from fake_gpu import GPU
from fake_triton import FakeTriton, parse
from PIL import Image
from tiny_bundle import GENERATOR, N_LATENT, STYLE_DIM, edit_manifest, error_line, write_tiny_bundle
from trt_helpers import build

import wagi_rt
from export.bundle import export_model
from export.to_triton import main
from wagi.model import WaGI
from wagi.networks.build import PARTS, build_part
from wagi_rt import manifest as manifests
from wagi_rt.directions import Direction
from wagi_rt.engines import trt_plans

NAMES = ("age", "smile")
MIXED = [(0.0, 0.0), (0.5, 0.0), (0.0, -1.5), (0.0, 0.0), (1.0, 1.0)]


def directions() -> tuple[Direction, ...]:
    rng = np.random.default_rng(5)
    vectors = rng.normal(0, 0.2, (N_LATENT, STYLE_DIM)), rng.normal(0, 0.2, STYLE_DIM)
    return tuple(
        Direction(name, vector.astype(np.float32), generator=GENERATOR)
        for name, vector in zip(NAMES, vectors, strict=True)
    )


def bundle_at(folder, **options):
    external = options.get("aligner") != "flow"
    return write_tiny_bundle(folder, schema=3, directions=directions(), external=external, **options)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return bundle_at(tmp_path_factory.mktemp("bundle") / "tiny")


def photo_of(seed: int) -> bytes:
    small = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8))
    file = io.BytesIO()
    small.resize((90, 70)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    return [photo_of(seed) for seed in range(len(MIXED))]


def run(bundle, out, *options) -> int:
    return main([str(bundle), "-o", str(out), "--threads", "1", *map(str, options)])


def strings(*items: bytes) -> np.ndarray:
    return np.array(items, np.object_)[:, None]


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file))).astype(int)


def alone(bundle, photos, strengths) -> list[np.ndarray]:
    """What wagi_rt gives for each by itself."""
    with wagi_rt.load(bundle, threads=1) as session:
        return [
            session.open(photo).edit(dict(zip(NAMES, row, strict=True))).image
            if any(row) else session.invert(photo)[0].image
            for photo, row in zip(photos, strengths, strict=True)
        ]  # fmt: skip


# ------------------------------------------------------------------------------------ what the models compute


@pytest.mark.parametrize("platform", ["python", "onnxruntime"])
@pytest.mark.parametrize("way", ["ada graphs", "ada pipeline", "flow graphs"])
def test_mixed_requests_together_give_what_each_gives_alone(tmp_path, photos, platform, way):
    aligner, default = way.split()
    bundle = bundle_at(tmp_path / "b", aligner=aligner, pipeline=default == "pipeline", default=default)
    assert run(bundle, tmp_path / "r", "--platform", platform) == 0
    requests = [
        {"PHOTO": strings(photo), "STRENGTHS": np.array([row], np.float32)}
        for photo, row in zip(photos, MIXED, strict=True)
    ]
    requests.append({"PHOTO": strings(*photos[:2]), "STRENGTHS": np.array(MIXED[1:3], np.float32)})
    requests.append({"PHOTO": strings(photos[4])})  # no strengths: an inversion
    answers = FakeTriton(tmp_path / "r").infer(requests)
    found = [pixels(file) for answer in answers for file in answer.ravel()]
    expected = alone(bundle, [*photos, *photos[:2], photos[4]], [*MIXED, *MIXED[1:3], (0, 0)])
    assert max(np.abs(a - b).max() for a, b in zip(found, expected, strict=True)) <= 1, "a level of 255"
    assert np.abs(found[1] - found[0]).max() > 9, "edits are seen"


@pytest.mark.parametrize("platform", ["python", "onnxruntime"])
def test_the_embedded_bundle(tmp_path, platform):
    """Its edits are one graph, which reads what its flow aligner needs."""
    bundle = manifests.embedded()
    assert run(bundle, tmp_path / "r", "--platform", platform) == 0
    triton, photo = FakeTriton(tmp_path / "r"), (bundle / "samples" / "portrait-07.png").read_bytes()
    wanted = {"pitch": -1, "smile": 2}
    strengths = np.zeros((2, len(manifests.read(bundle).directions)), np.float32)
    for column, name in enumerate(manifests.read(bundle).directions):
        strengths[0, column] = wanted.get(name, 0)
    (answer,) = triton.infer([{"PHOTO": strings(photo, photo), "STRENGTHS": strengths}])
    with wagi_rt.load(threads=1) as session:
        face = session.open(photo)
        for file, image in zip(answer.ravel(), (face.edit(**wanted).image, face.image), strict=True):
            assert np.abs(pixels(file) - image).max() <= 1


@pytest.mark.slow
def test_full_detail_above_the_residuals_resolution(tmp_path):
    """An exported model whose edits read the photo, too."""
    torch.manual_seed(5)
    settings = replace(CONFIG, size=64, residual_resolution=32, aligner="flow", full_detail=True)
    model = randomised(WaGI(*(build_part(settings, part) for part in PARTS), full_detail=True).eval())
    vector = np.full(model.generator.style_dim, 0.3, np.float32)
    export_model(model, tmp_path / "b", "detail", directions={"up": Direction("up", vector)})
    photo, strengths = photo_of(7), np.array([[0], [1]], np.float32)
    assert run(tmp_path / "b", tmp_path / "r", "--platform", "onnxruntime") == 0
    request = {"PHOTO": strings(photo, photo), "STRENGTHS": strengths}
    (answer,) = FakeTriton(tmp_path / "r").infer([request])
    with wagi_rt.load(tmp_path / "b", threads=1) as session:
        assert session.manifest.full_detail
        face = session.open(photo)
        for file, image in zip(answer.ravel(), (face.image, face.edit(up=1).image), strict=True):
            assert np.abs(pixels(file) - image).max() <= 1


@pytest.mark.parametrize("platform", ["python", "onnxruntime"])
def test_a_bundle_without_directions_inverts(tmp_path, photos, platform):
    bundle = write_tiny_bundle(tmp_path / "b", pipeline=True, default="pipeline", resolution=32)
    assert run(bundle, tmp_path / "r", "--platform", platform) == 0
    triton = FakeTriton(tmp_path / "r")
    assert "STRENGTHS" not in triton.ensemble.inputs and "FORMAT" in triton.ensemble.inputs
    answers = triton.infer([{"PHOTO": strings(photo)} for photo in photos[:3]])
    expected = alone(bundle, photos[:3], [()] * 3)
    for answer, image in zip(answers, expected, strict=True):
        assert np.abs(pixels(answer[0, 0]) - image).max() <= 1


def test_files_are_of_the_format_that_is_asked_for(tmp_path, bundle, photos):
    assert run(bundle, tmp_path / "r") == 0
    request = {"PHOTO": strings(*photos[:3]), "FORMAT": strings(b"png", b"JPG", b"webp")}
    (answer,) = FakeTriton(tmp_path / "r").infer([request])
    assert [Image.open(io.BytesIO(file)).format for file in answer.ravel()] == ["PNG", "JPEG", "WEBP"]


@pytest.mark.parametrize("platform", ["python", "onnxruntime"])
def test_a_mistake_costs_its_own_request_one_line(tmp_path, bundle, photos, platform):
    assert run(bundle, tmp_path / "r", "--platform", platform) == 0
    good = {"PHOTO": strings(photos[0])}
    wrong = {
        "photo: not an image": {"PHOTO": strings(b"garbage")},
        "photo 2: damaged or truncated image": {"PHOTO": strings(photos[0], photos[1][:90])},
        "photo: the file is empty": {"PHOTO": strings(b"")},
        "STRENGTHS (age, smile): must be finite": {**good, "STRENGTHS": np.array([[np.inf, 1]], np.float32)},
        "FORMAT: must be one of png, jpg, jpeg, webp": {**good, "FORMAT": strings(b"\xffgif")},
    }
    answers = FakeTriton(tmp_path / "r").infer([good, *wrong.values(), good])
    assert pixels(answers[0][0, 0]).shape == (64, 64, 3) and (answers[0] == answers[-1]).all()
    for answer, line in zip(answers[1:-1], wrong, strict=True):
        assert answer.message.startswith(line) and answer.code == "400"
        assert answer.message.isprintable()


def test_numbers_that_are_none_are_no_picture(tmp_path, photos):
    bundle = bundle_at(tmp_path / "b", keep=float("nan"))
    for platform in ("python", "onnxruntime"):
        assert run(bundle, tmp_path / platform, "--platform", platform) == 0
        (answer,) = FakeTriton(tmp_path / platform).infer([{"PHOTO": strings(photos[0])}])
        assert "values that are not numbers" in answer.message


# ----------------------------------------------------------------------------------------- what is written


def tree(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_settings_stand_in_the_configurations(tmp_path, bundle, capsys):
    options = ["--name", "face", "--max-batch", 3, "--queue-delay", 250, "--instances", 2, "--workers", 4]
    assert run(bundle, tmp_path / "r", *options) == 0
    said = capsys.readouterr().out
    assert "face_photo -> face_model -> face_picture" in said and "STRENGTHS  age, smile" in said
    configs = {path.parent.name: parse(path.read_text()) for path in tmp_path.glob("r/*/config.pbtxt")}
    assert {config["max_batch_size"][0] for config in configs.values()} == {3}
    parts = {name: config for name, config in configs.items() if name != "face"}
    counts = {name: config["instance_group"][0]["count"] for name, config in parts.items()}
    assert counts == {"face_photo": [4], "face_model": [2], "face_picture": [4]}
    batching = configs["face_model"]["dynamic_batching"][0]
    assert batching["max_queue_delay_microseconds"] == [250]
    assert "dynamic_batching" not in configs["face_photo"]
    warm = configs["face_model"]["model_warmup"]
    assert sorted(sample["batch_size"][0] for sample in warm) == [1, 1, 3, 3]


def test_weights_exist_once(tmp_path, bundle):
    assert run(bundle, tmp_path / "r", "--platform", "onnxruntime") == 0
    files = list(tmp_path.glob("r/*/1/weights.bin"))
    assert len(files) > 2 and len({os.stat(path).st_ino for path in files}) == 1


def test_versions_stand_side_by_side(tmp_path, bundle, capsys):
    out = tmp_path / "r"
    (out / "other" / "1").mkdir(parents=True)
    (out / "other" / "config.pbtxt").write_text("mine")
    assert run(bundle, out) == 0
    first = tree(out)
    other = bundle_at(tmp_path / "b2", keep=0.5)
    assert run(other, out) == 2
    assert "holds version 1 of" in error_line(capsys.readouterr().err) and tree(out) == first
    assert run(other, out, "--version", 2) == 0
    both = tree(out)
    assert {name: both[name] for name in first} == first and "wagi_model/2/bundle/decode.onnx" in both
    assert FakeTriton(out).parts["wagi_model"].version.name == "2"
    assert run(bundle, out, "--version", 3, "--max-batch", 2) == 2
    assert "of other settings" in error_line(capsys.readouterr().err) and tree(out) == both
    assert run(bundle, out, "--platform", "onnxruntime", "--overwrite") == 0
    left = tree(out)
    assert left["other/config.pbtxt"] == b"mine" and not any("wagi_model" in name for name in left)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b2", "r"], "nothing is left behind"


def test_mistakes_cost_one_line_and_write_nothing(tmp_path, bundle, capsys):
    out, file = tmp_path / "r", tmp_path / "file"
    file.touch()
    for words, status, options in (
        ("bundle not found", 1, [tmp_path / "none", "-o", out]),
        ("exists and is not a folder", 2, [bundle, "-o", file]),
        ("cannot be written", 1, [bundle, "-o", file / "r"]),
        ("--name a/b", 2, [bundle, "-o", out, "--name", "a/b"]),
        ("--device cpu", 2, [bundle, "-o", out, "--platform", "tensorrt", "--device", "cpu"]),
        ("--backend", 2, [bundle, "-o", out, "--platform", "onnxruntime", "--backend", "openvino"]),
        ("--gpu", 2, [bundle, "-o", out, "--gpu", "H200"]),
    ):
        assert main([str(option) for option in options]) == status
        assert words in error_line(capsys.readouterr().err)
    assert not out.exists() and [path.name for path in tmp_path.iterdir()] == ["file"]


# ----------------------------------------------------------------------------------------- TensorRT's engines


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    return trt_plans.cache()


def test_engines_take_the_place_of_graphs(tmp_path, bundle, cache, capsys):
    folder = build(bundle, tmp_path)
    assert run(bundle, tmp_path / "r", "--platform", "tensorrt") == 0
    assert "LD_PRELOAD=libwagi_trt.so" in capsys.readouterr().out
    assert run(bundle, tmp_path / "o", "--platform", "onnxruntime", "--max-batch", 3) == 0
    models = [path.parent.name for path in tmp_path.glob("o/*/config.pbtxt")]
    assert len(models) > 8
    for model in models:
        made, onnx = (parse((tmp_path / r / model / "config.pbtxt").read_text()) for r in "ro")
        if made.get("backend") == ["tensorrt"]:
            plan = (tmp_path / "r" / model / "1" / "model.plan").read_bytes()
            assert plan == (folder / f"{model.removeprefix('wagi_')}.plan").read_bytes()
            assert made.pop("default_model_filename") == ["model.plan"]
            assert made.pop("instance_group")[0]["kind"] == ["KIND_GPU"]
            for key in ("default_model_filename", "instance_group"):
                onnx.pop(key)
            made["backend"], onnx["parameters"] = ["onnxruntime"], made.get("parameters", [])
            onnx = {key: value for key, value in onnx.items() if value}
        assert made == onnx, "else the same"
    assert run(bundle, tmp_path / "q", "--platform", "tensorrt", "--max-batch", 4) == 2
    assert "the engines were built for at most 3" in error_line(capsys.readouterr().err)


def test_engines_that_are_missing_are_named(tmp_path, cache, capsys):
    bundle = bundle_at(tmp_path / "b")

    def refused(*options) -> str:
        assert run(bundle, tmp_path / "r", "--platform", "tensorrt", *options)
        return error_line(capsys.readouterr().err)

    assert "holds no engines of this model; build them on the GPU" in refused()
    build(bundle, tmp_path, names=["shrink"])
    assert "no engine 'encoder' of this model" in refused()
    build(bundle, tmp_path)
    build(bundle, tmp_path, gpu="Other GPU")
    assert GPU in refused() and "Other GPU" in refused() and "no engines" in refused("--gpu", "H900")
    assert run(bundle, tmp_path / "r", "--platform", "tensorrt", "--gpu", GPU) == 0
    edit_manifest(bundle, created="2026-01-02T00:00:00+00:00")  # changes no engine
    assert run(bundle, tmp_path / "s", "--platform", "tensorrt", "--gpu", GPU) == 0
    build(bundle, tmp_path, batch={"min": 2, "opt": 2, "max": 3})
    assert "take batches from 2 on" in refused("--gpu", GPU)
