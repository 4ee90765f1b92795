"""A stand-in for Triton that runs a model repository as its files say: Python parts, ONNX graphs, ensemble.

Requests wait together as if dynamic batching had gathered all of them. What a real server does with them is
in test_triton_server.py.
"""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnxruntime

TYPES = {"TYPE_FP32": np.float32, "TYPE_STRING": np.object_}


def parse(text: str) -> dict:
    """config.pbtxt => {field: [values]}, a message being such a dict again."""
    tokens = iter(re.findall(r'"(?:[^"\\]|\\.)*"|[{}]|[\w.-]+|:', text))

    def message() -> dict:
        found: dict = {}
        for token in tokens:
            if token == "}":
                break
            mark = next(tokens)
            found.setdefault(token, []).append(message() if mark == "{" else value(next(tokens)))
        return found

    def value(token: str):
        return json.loads(token) if re.fullmatch(r'".*"|-?[\d.]+|true|false', token) else token

    return message()


def mapping(entries: list) -> dict:
    return {entry["key"][0]: entry["value"][0] for entry in entries}


class Tensor:
    def __init__(self, name, array):
        self._name, self._array = name, array

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array


class TritonError:
    INVALID_ARG = "400"

    def __init__(self, message, code=None):
        self.message, self.code = message, code


class Response:
    def __init__(self, output_tensors=(), error=None):
        self.tensors, self.error = {one.name(): one.as_numpy() for one in output_tensors}, error


def utilities() -> ModuleType:
    """The module that Triton puts before Python models."""
    module = ModuleType("triton_python_backend_utils")
    module.Tensor, module.TritonError, module.InferenceResponse = Tensor, TritonError, Response
    module.get_input_tensor_by_name = lambda request, name: (
        Tensor(name, request[name]) if name in request else None
    )
    return module


class Part:
    """A model of the repository, its newest version."""

    def __init__(self, folder: Path):
        self.config = parse((folder / "config.pbtxt").read_text())
        assert self.config["name"] == [folder.name]
        self.version = max((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
        self.inputs, self.outputs = ({t["name"][0]: t for t in self.config[k]} for k in ("input", "output"))

    def run(self, requests: list[dict]) -> list:
        """Arrays or an error of each request."""
        for request in requests:
            for name, tensor in self.inputs.items():
                assert name in request or tensor.get("optional") == [True], f"{name} is missing"
                self.check(request, tensor)
        found = self.execute(requests)
        assert len(found) == len(requests)
        for one in found:
            for tensor in self.outputs.values() if isinstance(one, dict) else ():
                assert tensor["name"][0] in one
                self.check(one, tensor)
        return found

    def check(self, arrays: dict, tensor: dict) -> None:
        """As Triton does: the type, and the shape behind the batch."""
        array = arrays.get(tensor["name"][0])
        if array is not None:
            assert array.dtype == TYPES[tensor["data_type"][0]], tensor
            assert list(array.shape[1:]) == tensor["dims"] and len(array) <= self.config["max_batch_size"][0]


class PythonPart(Part):
    def __init__(self, folder: Path):
        super().__init__(folder)
        sys.modules["triton_python_backend_utils"] = utilities()
        try:
            spec = importlib.util.spec_from_file_location(f"triton_{folder.name}", self.version / "model.py")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        finally:
            del sys.modules["triton_python_backend_utils"]
        parameters = {key: one["string_value"][0] for key, one in mapping(self.config["parameters"]).items()}
        config = {
            "parameters": {key: {"string_value": value} for key, value in parameters.items()},
            "output": [{"name": name, "dims": tensor["dims"]} for name, tensor in self.outputs.items()],
        }
        self.model = module.TritonPythonModel()
        self.model.initialize({
            "model_config": json.dumps(config), "model_repository": str(folder),
            "model_version": self.version.name,
        })  # fmt: skip

    def execute(self, requests):
        return [one.error or one.tensors for one in self.model.execute(requests)]


class OnnxPart(Part):
    def __init__(self, folder: Path):
        super().__init__(folder)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = self.version / self.config["default_model_filename"][0]
        self.session = onnxruntime.InferenceSession(str(path), options)
        for declared, real in (
            (self.inputs, self.session.get_inputs()),
            (self.outputs, self.session.get_outputs()),
        ):
            shapes = {name: tensor["dims"] for name, tensor in declared.items()}
            assert {one.name: list(one.shape[1:]) for one in real} == shapes

    def execute(self, requests):
        names = [*self.outputs]
        return [dict(zip(names, self.session.run(names, request), strict=True)) for request in requests]


class FakeTriton:
    """A repository with one ensemble, loaded."""

    def __init__(self, repository: Path, name: str = "wagi"):
        kinds = {"python": PythonPart, "onnxruntime": OnnxPart}
        self.ensemble = Part(repository / name)
        self.steps = self.ensemble.config["ensemble_scheduling"][0]["step"]
        models = {step["model_name"][0] for step in self.steps}
        configs = {model: parse((repository / model / "config.pbtxt").read_text()) for model in models}
        self.parts = {model: kinds[configs[model]["backend"][0]](repository / model) for model in models}

    def infer(self, requests: list[dict]) -> list:
        """PICTUREs or the error of each request; all pass each step together."""
        known: dict[int, dict] = {index: dict(request) for index, request in enumerate(requests)}
        errors = {}
        for step in self.steps:
            waiting = [index for index in known if index not in errors]
            reads, makes = mapping(step["input_map"]), mapping(step["output_map"])
            given = [
                {own: known[index][name] for own, name in reads.items() if name in known[index]}
                for index in waiting
            ]
            for index, found in zip(waiting, self.parts[step["model_name"][0]].run(given), strict=True):
                if isinstance(found, TritonError):
                    errors[index] = found
                else:
                    known[index] |= {name: found[own] for own, name in makes.items()}
        return [errors.get(index) or known[index]["PICTURE"] for index in known]
