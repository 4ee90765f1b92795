"""Who may import whom: the runtime works without torch, and every forbidden arrow is found in the sources."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import ROOT
from PIL import Image
from tiny_bundle import write_tiny_bundle

RUNTIME = ROOT / "runtime" / "wagi_rt"
FORBIDDEN_IN_RUNTIME = ("torch", "wagi", "export")
# Part -> modules of this project that it may import (decision 53).
ALLOWED = {
    "wagi": {"wagi", "wagi_rt"},
    "runtime/wagi_rt": {"wagi_rt"},
    "export": {"wagi", "wagi_rt", "export"},
    "benchmarks": {"wagi", "wagi_rt", "export", "benchmarks"},
}
# What of the runtime wagi may import: modules that need numpy and Pillow only.
_SHARED = "colours decoding directions errors faces files haar metrics pictures texts".split()
SHARED = {f"wagi_rt.{name}" for name in _SHARED}
OURS = {"wagi", "wagi_rt", "export", "tests", "benchmarks"}
# What the runtime may import besides the standard library; the engines only inside functions.
RUNTIME_LIBRARIES = {"numpy", "PIL"}
RUNTIME_ENGINES = {"onnxruntime", "openvino", "tensorrt", "tensorrt_lean", "cuda"}
# What one module needs for what the user asks for by name; only inside functions.
RUNTIME_TOOLS = {
    "faces/conversion.py": {"onnx", "tflite"},
    "bulk/cluster.py": {"ray"},
    "bulk/table.py": {"pyarrow"},
    "videos/clips.py": {"av"},
    "videos/writing.py": {"av"},
}

BLOCKER = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FORBIDDEN_IN_RUNTIME!r}:
            raise ImportError("forbidden in the runtime: " + name)
sys.meta_path.insert(0, Blocker())
"""


def modules(folder: Path) -> list[str]:
    names = (path.relative_to(folder.parent).with_suffix("") for path in sorted(folder.rglob("*.py")))
    return [".".join(name.parts).removesuffix(".__init__") for name in names if name.name != "__main__"]


def run(code: str, path: Path = ROOT / "runtime") -> subprocess.CompletedProcess:
    """Python code in a fresh process where torch, wagi and export cannot be imported."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", BLOCKER + code], capture_output=True, text=True, env=env, timeout=60
    )


@pytest.mark.parametrize("name", FORBIDDEN_IN_RUNTIME)
def test_the_blocker_blocks(name):
    assert "forbidden in the runtime" in run(f"import {name}").stderr


def test_every_runtime_module_imports_without_torch():
    found = modules(RUNTIME)
    assert {"wagi_rt", "wagi_rt.cli", "wagi_rt.session", "wagi_rt.commands.bench"} <= set(found)
    done = run("import " + ", ".join(found))
    assert done.returncode == 0, done.stderr


def test_an_inversion_without_torch(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    Image.new("RGB", (80, 80), "red").save(tmp_path / "in.png")
    arguments = [
        "invert",
        str(tmp_path / "in.png"),
        "-m",
        str(bundle),
        "-o",
        str(tmp_path / "out.png"),
        "--json",
    ]
    arguments += ["--compare", str(tmp_path / "sheet.png")]
    done = run(f"from wagi_rt.cli import main; sys.exit(main({arguments!r}))")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.png").exists() and (tmp_path / "sheet.png").exists()


STARTUP = {"numpy", "PIL", "onnxruntime", "wagi_rt"}  # what an inversion may load, and the standard library


def test_a_cold_inversion_loads_nothing_but_its_engine(tmp_path):
    """The cold start is imports and model; everything else that comes along is paid for by every call.

    Judged by what was loaded, not by time. numpy loads only itself and the standard library.
    """
    bundle = write_tiny_bundle(tmp_path / "bundle")
    Image.new("RGB", (80, 80), "red").save(tmp_path / "in.jpg")
    arguments = ["invert", str(tmp_path / "in.jpg"), "-m", str(bundle), "-o", str(tmp_path / "out.png"), "-q"]
    code = f"""
before = set(sys.modules)
from wagi_rt.cli import main
assert main({arguments!r}) == 0
import importlib.machinery
new = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print(sorted(new - set(sys.stdlib_module_names)))
print(sorted(m for m in sys.modules if m.startswith("wagi_rt.")))
heavy = {{"concurrent.futures", "asyncio", "inspect", "multiprocessing", "unittest"}}
print(sorted(heavy & set(sys.modules)))
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    outside, ours, heavy = (ast.literal_eval(line) for line in done.stdout.splitlines())
    assert {name for name in outside if not name.startswith("_")} <= STARTUP, outside
    rare = {f"engines.{name}" for name in ("ov", "ov_graph", "trt")} | {"metrics", "latents", "face", "faces"}
    rare |= {f"commands.{name}" for name in ("compare", "bench", "info", "edit", "whole", "faces")}
    assert not {f"wagi_rt.{name}" for name in rare} & set(ours)
    assert heavy == []  # one image needs no threads; dataclasses need inspect


def test_importing_the_package_is_light():
    heavy = {"numpy", "PIL", "onnxruntime", "openvino"}
    done = run(f"import wagi_rt; wagi_rt.load; print({heavy} & set(sys.modules))")
    assert done.stdout == "set()\n", done.stderr


def imports(source: str, top_level: bool = False) -> set[str]:
    """Packages that a source imports, wherever the statement stands (or only outside functions)."""
    tree = ast.parse(source)
    inner = {
        n
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef)
        for n in ast.walk(f)
    }
    found = set()
    for node in ast.walk(tree):
        if top_level and node in inner:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func) and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                found.add(name.value.partition(".")[0])
    return found


def test_the_scan_sees_every_form_of_import():
    source = "import a.b as c\nfrom d.e import f\nfrom . import g\ndef h():\n  import i\n"
    source += "importlib.import_module('j.k')"
    assert imports(source) == {"a", "d", "i", "j"}
    assert imports(source, top_level=True) == {"a", "d", "j"}


@pytest.mark.parametrize("part", ALLOWED)
def test_no_forbidden_arrow(part):
    sources = sorted((ROOT / part).rglob("*.py"))
    assert sources or part == "benchmarks"
    wrong = {
        str(path.relative_to(ROOT)): (imports(path.read_text()) & OURS) - ALLOWED[part] for path in sources
    }
    assert not {path: names for path, names in wrong.items() if names}


def test_wagi_takes_from_the_runtime_only_what_needs_no_engine():
    for path in sorted((ROOT / "wagi").rglob("*.py")):
        modules = [
            alias.name if isinstance(node, ast.Import) else f"{node.module}.{alias.name}"
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        ]
        taken = {".".join(name.split(".")[:2]) for name in modules if name.split(".")[0] == "wagi_rt"}
        assert taken <= SHARED, f"{path}: {taken - SHARED}"


def test_what_is_shared_needs_numpy_and_pillow_only():
    done = run(
        "import sys; before = set(sys.modules)\n"
        f"for name in {sorted(SHARED)!r}: __import__(name)\n"
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    assert done.returncode == 0, done.stderr
    found = {name for name in ast.literal_eval(done.stdout) if not name.startswith("_")}
    assert found <= {"numpy", "PIL", "wagi_rt"}


def test_the_runtime_imports_only_what_its_base_install_has():
    for path in sorted(RUNTIME.rglob("*.py")):
        outside = imports(path.read_text()) - set(sys.stdlib_module_names) - {"wagi_rt"}
        inside = RUNTIME_ENGINES | RUNTIME_TOOLS.get(path.relative_to(RUNTIME).as_posix(), set())
        assert outside <= RUNTIME_LIBRARIES | inside, path
        assert not imports(path.read_text(), top_level=True) & inside, f"{path}: import these in functions"
