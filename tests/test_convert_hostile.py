"""Files that attack, lie or are damaged cost one line: nothing is executed, nothing is written."""

import os
import pickle
import pickletools
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from public_files import dnnlib_modules, generator, tf_variables, write_rosinality, write_tf

from wagi import convert
from wagi.conversion.machine import MAX_NESTING


class Call:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def nested(depth: int) -> bytes:
    return b"\x80\x04" + b")" + b"\x85" * depth + b"."


def lists(depth: int) -> bytes:
    return b"\x80\x04" + b"]" * depth + b"a" * (depth - 1) + b"."


def network_with(variable) -> bytes:
    with dnnlib_modules() as network:
        synthesis = network({"version": 4, "components": {}, "variables": [("4x4/Const/const", variable)]})
        return pickle.dumps(network({"variables": [], "components": {"synthesis": synthesis}}), protocol=4)


def huge_array() -> bytes:
    """An array that claims 2 GB and brings 16 bytes."""
    data = network_with(np.zeros((1, 1, 2, 2), np.float32))
    shape = b"K\x01K\x01K\x02K\x02t"
    assert data.count(shape) == 1
    return data.replace(shape, b"K\x01K\x01J\x00\x00\x00\x20K\x01t")


def executed(tmp_path):
    return tmp_path / "executed"


PICKLES = {
    "os.system": lambda t: (pickle.dumps(Call(os.system, f"touch {executed(t)}")), "system"),
    "eval": lambda t: (pickle.dumps(Call(eval, f"open({str(executed(t))!r}, 'w')")), "builtins.eval"),
    "in a variable": lambda t: (network_with(Call(os.system, f"touch {executed(t)}")), "system"),
    "getattr": lambda t: (pickle.dumps(Call(getattr, "x", "upper")), "builtins.getattr"),
    "object array": lambda t: (network_with(np.array([Call(os.system, "x")], dtype=object)), "refused"),
    "object scalar": lambda t: (network_with(np.array([{}, {}], dtype=object)), "'O8'"),
    "structured": lambda t: (network_with(np.zeros(2, dtype=[("a", "f4")])), "'V4'"),
    "numpy.load": lambda t: (b"\x80\x04cnumpy\nload\n(\x8c\x01xtR.", "numpy.load"),
    "ndarray claim": lambda t: (b"\x80\x04cnumpy\nndarray\n(J\x00\x00\x00\x7f\x85tR.", "numpy.ndarray"),
    "array claim": lambda t: (huge_array(), "claims shape"),
    "bytes claim": lambda t: (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 31) + b"abc.", "truncated"),
    "larger than memory": lambda t: (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc.", "truncated"),
    "deep tuples": lambda t: (nested(200_000), f"more than {MAX_NESTING} deep"),
    "deep lists": lambda t: (lists(200_000), f"more than {MAX_NESTING} deep"),
    "empty stack": lambda t: (b"\x80\x040.", "damaged"),
    "no end": lambda t: (b"\x80\x04]", "damaged or truncated"),
    "calls a string": lambda t: (b"\x80\x04\x8c\x01x)R.", "not a listed name"),
    "builds a dict": lambda t: (b"\x80\x04}}b.", "sets the state"),
    "instance": lambda t: (b"\x80\x02(ios\nsystem\n.", "operation INST"),
    "extension": lambda t: (b"\x80\x02\x82\x01.", "operation EXT1"),
    "plain data": lambda t: (pickle.dumps({"a": 1}), "not of TensorFlow networks"),
}


def refused(source, tmp_path, capsys) -> str:
    out = tmp_path / "out.pt"
    before = set(tmp_path.iterdir())
    assert convert.main([str(source), "-o", str(out)]) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1 and len(text) < 500, text
    assert set(tmp_path.iterdir()) == before, "something was written or executed"
    return text


@pytest.mark.parametrize("name", PICKLES)
def test_hostile_pickles(tmp_path, capsys, name):
    data, words = PICKLES[name](tmp_path)
    source = tmp_path / "x.pkl"
    source.write_bytes(data)
    assert words in refused(source, tmp_path, capsys)


def test_the_attack_is_real(tmp_path):
    """The same bytes do run in Python's own unpickler: the refusals above are not of harmless files."""
    data, _ = PICKLES["os.system"](tmp_path)
    pickle.loads(data)
    assert executed(tmp_path).exists()


def test_the_embedded_source_stays_text(tmp_path):
    source = write_tf(tmp_path / "swagan.pkl", tf_variables())
    strings = [
        argument for _, argument, _ in pickletools.genops(source.read_bytes()) if isinstance(argument, str)
    ]
    assert "raise SystemExit('executed')" in strings
    assert convert.main([str(source), "-o", str(tmp_path / "out.pt")]) == 0


# ------------------------------------------------------------------------------------------------ torch


def test_pytorch_files_cannot_call(tmp_path, capsys):
    for legacy in (False, True):
        source = tmp_path / "x.pt"
        content = {"g_ema": Call(os.system, f"touch {executed(tmp_path)}")}
        torch.save(content, source, _use_new_zipfile_serialization=not legacy)
        assert "system" in refused(source, tmp_path, capsys)


def test_a_deep_key_inside_a_torch_zip(tmp_path, capsys):
    """Hashing a deep tuple overflows the C stack of Python's (and torch's) unpicklers."""
    source = tmp_path / "x.pt"
    torch.save({"a": 1}, source)
    with zipfile.ZipFile(source) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    name = next(n for n in records if n.endswith("data.pkl"))
    records[name] = b"\x80\x02}(" + b")" + b"\x85" * 300_000 + b"K\x01u."
    with zipfile.ZipFile(source, "w") as archive:
        for key, value in records.items():
            archive.writestr(key, value)
    assert "deep" in refused(source, tmp_path, capsys)


def test_a_zip_that_is_not_torch(tmp_path, capsys):
    source = tmp_path / "x.pt"
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not a PyTorch checkpoint" in refused(source, tmp_path, capsys)


def test_a_zip_that_inflates(tmp_path, capsys):
    source = tmp_path / "x.pt"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}))
        archive.writestr("x/data/0", b"\0" * 10_000_000)
    assert "larger than the file" in refused(source, tmp_path, capsys)


def test_a_view_that_claims_gigabytes(tmp_path, capsys):
    state = generator().state_dict()
    state["input.input"] = torch.zeros(1).expand(1, 1 << 29, 4, 4)
    torch.save({"g_ema": state}, tmp_path / "x.pt")
    assert (tmp_path / "x.pt").stat().st_size < 1_000_000
    assert "claims shape" in refused(tmp_path / "x.pt", tmp_path, capsys)


@pytest.mark.parametrize("kind", ["torch", "legacy", "tf", "safetensors", "npy"])
def test_truncated_files(tmp_path, capsys, kind):
    model, source = generator(), tmp_path / "x.bin"
    if kind == "tf":
        write_tf(source, tf_variables())
    elif kind == "safetensors":
        write_rosinality(tmp_path / "g.pt", model, average=True)
        assert convert.main([str(tmp_path / "g.pt"), "-o", str(tmp_path / "x.safetensors")]) == 0
        (tmp_path / "x.safetensors").rename(source)
    elif kind == "npy":
        np.save(tmp_path / "x.npy", np.zeros((1, 512), np.float32))
        (tmp_path / "x.npy").rename(source)
    else:
        torch.save({"g_ema": model.state_dict()}, source, _use_new_zipfile_serialization=kind == "torch")
    data = source.read_bytes()
    capsys.readouterr()
    for part in (0.999, 0.5, 0.1):
        source.write_bytes(data[: int(len(data) * part)])
        refused(source, tmp_path, capsys)
    source.write_bytes(b"")
    assert "empty" in refused(source, tmp_path, capsys)


def test_npy_that_claims_two_gigabytes(tmp_path, capsys):
    source = tmp_path / "x.npy"
    np.save(source, np.zeros((1, 8), np.float32))
    source.write_bytes(source.read_bytes().replace(b"(1, 8), }          ", b"(1, 536870912), }  "))
    assert b"536870912" in source.read_bytes()
    refused(source, tmp_path, capsys)


def test_nan_weights(tmp_path, capsys):
    state = generator().state_dict()
    state["convs.1.conv.weight"][0, 0, 0] = float("nan")
    torch.save({"g_ema": state}, tmp_path / "x.pt")
    assert "convs.1.conv.weight" in (text := refused(tmp_path / "x.pt", tmp_path, capsys)) and "NaN" in text


@pytest.mark.parametrize(
    "content",
    [
        {"g_ema": {"to_rgb1.bias": 3}},
        {"g_ema": [1]},
        {"g_ema": {1: torch.zeros(1)}},
        {"g_ema": {"to_rgb1.bias": torch.zeros(12)}},
        {"state_dict": {3: 4}},
        {"mean": 1, "comp": 2, "std": 3},
        {"format": "wagi"},
        {"format": "wagi", "version": 1, "stage": "x", "config": {}, "weights": {}},
        {
            "format": "wagi",
            "version": 1,
            "stage": "x",
            "config": {"model": {"size": 31}},
            "weights": {"generator": {}},
        },
        [1, 2],
        torch.zeros(3, 3, 3),
        {"latent_avg": torch.zeros(2)},
        {},
    ],
)
def test_promises_that_the_content_does_not_keep(tmp_path, capsys, content):
    torch.save(content, tmp_path / "x.pt")
    refused(tmp_path / "x.pt", tmp_path, capsys)


def test_a_web_page_and_a_missing_file(tmp_path, capsys):
    (tmp_path / "x.pt").write_text("<!DOCTYPE html><html>sign in</html>")
    assert "web page" in refused(tmp_path / "x.pt", tmp_path, capsys)
    assert convert.main([str(tmp_path / "none.pt"), "--info"]) == 2


def test_usage(tmp_path, capsys):
    source = write_rosinality(tmp_path / "g.pt", generator(), average=True)
    (tmp_path / "there.pt").write_text("keep me")
    for arguments in (
        [source],
        [source, "-o", tmp_path / "x.bin"],
        [source, "-o", source],
        [source, "-o", tmp_path / "there.pt"],
        [source, "-o", tmp_path / "none" / "x.pt"],
        [source, source, "-o", tmp_path / "x.pt"],
        [source, "-o", tmp_path / "x.pt", "--kind", "swagan-tf"],
        [source, "-o", tmp_path / "x.pt", "--kind", "e4e"],
        [source, "-o", tmp_path / "x.pt", "--kind", "stylegan2"],
    ):
        assert convert.main([str(a) for a in arguments]) == 2, arguments
        assert capsys.readouterr().err.count("\n") == 1
    assert (tmp_path / "there.pt").read_text() == "keep me"


def test_the_command_prints_no_traceback(tmp_path):
    """As a process: exit status, one line, no module of torch's unpickler in sight."""
    (tmp_path / "x.pkl").write_bytes(PICKLES["os.system"](tmp_path)[0])
    done = subprocess.run(
        [sys.executable, "-m", "wagi.convert", str(tmp_path / "x.pkl"), "--info"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "nothing was executed" in done.stderr
