"""The benchmark of bundles: whom it holds against whom, and the PSNR of every picture."""

import json

import numpy as np
import pytest
from cpu import needs_bf16
from tiny_bundle import write_tiny_bundle

import wagi_rt
from benchmarks import bundles, int8
from export.rows import psnr_db
from wagi_rt import probes
from wagi_rt.metrics import psnr


def test_bundles_take_turns(tmp_path, capsys):
    """One row for each; the second has another aligner's share, which the PSNR shows."""
    folders = [
        write_tiny_bundle(tmp_path / name, pipeline=True, default="pipeline", keep=keep)
        for name, keep in (("first", 0.75), ("same", 0.75), ("other", 0.7))
    ]
    words = [*map(str, folders), "--rounds", "2", "--threads", "1", "--out", str(tmp_path / "out.json")]
    assert bundles.main(words) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    typed = "python benchmarks/bundles.py first same other --backends onnx --batch 1 --rounds 2 --threads 1"
    assert report["command"] == typed
    rows = report["rows"]
    assert [row["bundle"] for row in rows] == ["first", "same", "other"] and rows[0]["ratio"] == 1
    assert rows[1]["psnr_db"] == 200 > rows[2]["psnr_db"] > 10
    assert capsys.readouterr().out.count("| onnx |") == 3
    assert "pictures_db" not in rows[0]
    write_tiny_bundle(tmp_path / "small", size=32, resolution=32)
    assert bundles.main([str(folders[0]), str(tmp_path / "small")]) == 2
    assert "differ in size" in capsys.readouterr().err


def test_edits_take_turns(tmp_path):
    """The PSNR is the edits' own."""
    folders = [write_tiny_bundle(tmp_path / str(keep), keep=keep) for keep in (0.75, 0.7)]
    words = [*map(str, folders), "--edits", "--rounds", "2", "--threads", "1"]
    assert bundles.main([*words, "--out", str(tmp_path / "out.json")]) == 0
    report = json.loads((tmp_path / "out.json").read_text())
    assert "0.75 0.7 --edits --backends" in report["command"]
    made = []
    for folder in folders:
        with wagi_rt.load(folder) as session:
            kept = session.encode(probes.images(64, 20, 1))
            made.append(session.edit(kept, probes.edited(kept["ws"])).image)
    assert report["rows"][1]["psnr_db"] == pytest.approx(psnr_db(made[1], made[0]), abs=0.01)


@needs_bf16
def test_bundles_have_a_psnr_for_every_picture(tmp_path, capsys):
    """Of inversions and edits, as one finds it by hand; bf16 is held against the same engine in FP32."""
    folders = [str(write_tiny_bundle(tmp_path / str(keep), keep=keep)) for keep in (0.75, 0.7)]
    words = [*folders, "--backends", "onnx,openvino,openvino:bf16", "--data", "portraits:3:2",
             "--rounds", "1", "--threads", "1", "--out", str(tmp_path / "out.json")]  # fmt: skip
    assert bundles.main(words) == 0
    rows = json.loads((tmp_path / "out.json").read_text())["rows"]
    found = {(row["backend"], row["bundle"]): row["pictures_db"] for row in rows}
    assert found["onnx", "0.75"] == {"inversions": [200, 200], "edits": [200, 200]}
    assert found["openvino", "0.75"] == found["onnx", "0.75"]
    pictures = next(int8.batches("portraits:3:2", 64))
    made = []
    for folder in folders:
        with wagi_rt.load(folder) as session:
            kept = session.encode(pictures)
            edited = session.edit(kept, probes.edited(kept["ws"]))
            made.append((session.restore(pictures).image, edited.image))
    for k, name in enumerate(("inversions", "edits")):
        np.testing.assert_allclose(found["onnx", "0.7"][name], psnr(made[1][k], made[0][k]), atol=0.01)
    assert all(30 < value < 100 for value in found["openvino:bf16", "0.75"]["inversions"])
    assert "| edits: least, mean dB |" in capsys.readouterr().out
