"""`export/trt_check.py` judges builds by their plugin layers and says what is missing (a fake TensorRT)."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_bundle import error_line, write_tiny_bundle

from export import trt_check, trt_graphs
from export.trt_check import LIBRARIES, Tools, check, main
from wagi_rt import manifest

# Answers as wagi_trt_check does: arguments are two libraries, graph, batch and perhaps the plugin library.
DRIVER = """#!/bin/sh
test -e "$LD_LIBRARY_PATH/$1" || {{ echo "error: cannot load: $1" >&2; exit 1; }}
test $# -eq 5 && plugins={loaded} || plugins={without}
{more}
echo "layers 9 plugins $plugins bytes 1000000"
"""


@pytest.fixture
def tools(tmp_path):
    """Make a fake driver; its arguments say what it answers."""

    def make(loaded: int, without: int = 0, more: str = "") -> Tools:
        driver = tmp_path / "driver"
        driver.write_text(DRIVER.format(loaded=loaded, without=without, more=more))
        driver.chmod(0o755)
        (tmp_path / LIBRARIES[0]).touch()
        return Tools(driver, tmp_path / "libwagi_trt.so", tmp_path)

    return make


def graph(name: str, tools: Tools) -> trt_check.Row:
    """The row of one graph of the embedded bundle."""
    return check(name, manifest.embedded() / f"{name}.onnx", tools, 4)


def test_one_plugin_layer_per_node(tools):
    nodes = graph("decode", tools(0)).nodes
    assert nodes > 0
    assert graph("decode", tools(nodes)).error == ""
    assert graph("decode", tools(nodes - 1)).error == (
        f"with the plugin library: {nodes - 1} plugin layers, not {nodes}"
    )
    assert "without the plugin library: 1 plugin layers, not 0" == graph("decode", tools(nodes, 1)).error


def test_a_refused_graph_and_a_crash_are_results(tools):
    refused = "echo 'warning: x' >&2; echo 'error: node 3 Add (Add): types differ' >&2; exit 1"
    assert "status 1, error: node 3 Add (Add): types differ" in graph("move", tools(0, 0, refused)).error
    assert "status -6, no message" in graph("move", tools(0, 0, "kill -ABRT $$")).error


@pytest.mark.parametrize("plugins, status", [(0, 0), (1, 1)])
def test_the_table_and_the_exit_status(tools, tmp_path, monkeypatch, capsys, plugins, status):
    monkeypatch.setattr(trt_check, "prepare", lambda args, scratch: tools(plugins))
    bundle = write_tiny_bundle(tmp_path / "tiny")
    assert main([str(bundle)]) == status
    lines = capsys.readouterr().out.splitlines()
    rows = [text for text in lines if text.startswith("tiny/")]
    assert len(rows) == len(manifest.read(bundle).graphs)
    assert all(("pass" if status == 0 else "FAIL with the plugin library") in text for text in rows)
    assert lines[-1].startswith("every graph" if status == 0 else f"{len(rows)} graphs failed")


def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    """Status 2 and one line: no TensorRT-RTX, no headers, no CMake, a batch that cannot be."""
    assert main(["--rtx", str(tmp_path / "none")]) == 2
    assert "libtensorrt_rtx.so" in (line := error_line(capsys.readouterr().err)) and "trt-check" in line
    for name in LIBRARIES:
        (tmp_path / f"{name}.1.7.1").touch()
    rtx = ["--rtx", str(tmp_path)]
    skipped = "-- wagi: no NvInfer.h found (set X): the TensorRT plugins are skipped\n"
    with monkeypatch.context() as patch:
        patch.setattr(trt_check, "_cmake", lambda *words: skipped)
        assert main(rtx) == 2
        assert "no NvInfer.h found" in (line := error_line(capsys.readouterr().err)) and "--headers" in line
    assert main([*rtx, "--max-batch", "0"]) == 2
    assert "--max-batch 0" in error_line(capsys.readouterr().err)
    monkeypatch.setattr(trt_check.sys, "executable", str(Path(tmp_path / "bin" / "python")))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(rtx) == 2
    assert "cmake is not installed" in error_line(capsys.readouterr().err)


@pytest.fixture
def exported(monkeypatch):
    """(size, precision, form of the skip path) of each default export; the large models are stand-ins."""
    made = []

    def export(model, precision, folder, skip):
        made.append((model.generator.size, precision, skip))
        return [folder / "pipeline.onnx"]

    large = SimpleNamespace(generator=SimpleNamespace(size=1024))
    monkeypatch.setattr(trt_graphs, "random_model", lambda preset: large)
    monkeypatch.setattr(trt_graphs, "export_graphs", export)
    return made


def test_what_is_checked_when_nothing_is_named(tmp_path, exported):
    """The embedded graphs as they are shipped, their checkpoint in FP16, presets at 1024 px."""
    labels = [label for label, _ in trt_graphs.default_graphs(tmp_path, trt_graphs.chosen(None))]
    embedded = manifest.read()
    assert labels[: len(embedded.graphs)] == [f"demo/{name}" for name in embedded.graphs]
    large = [
        f"{name}-{kind}" for name in ("ffhq1024", "ffhq1024-fast") for kind in ("fp32", "fp16", "fp16-plugin")
    ]
    small = ["embedded-fp16", "embedded-fp16-wavelet", "embedded-fp16-plugin"]
    assert labels[len(embedded.graphs) :] == [f"{name}/pipeline" for name in small + large]
    assert exported == [
        *((embedded.size, "fp16", skip) for skip in ("folded", "wavelet", "plugin")),
        *((1024, *kind) for kind in (("fp32", "folded"), ("fp16", "folded"), ("fp16", "plugin"))),
        *((1024, *kind) for kind in (("fp32", "folded"), ("fp16", "folded"), ("fp16", "plugin"))),
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_chosen_case_alone_is_exported(tmp_path, exported, capsys):
    names = trt_graphs.chosen("embedded-fp16-plugin")
    assert [label for label, _ in trt_graphs.default_graphs(tmp_path, names)] == [
        "embedded-fp16-plugin/pipeline"
    ]
    assert [skip for *_, skip in exported] == ["plugin"]
    assert main(["--only", "demo,large"]) == 2
    assert "--only large: choose from demo, embedded-fp16, " in error_line(capsys.readouterr().err)
    assert main(["--only", "demo", str(tmp_path)]) == 2
    assert "--only" in error_line(capsys.readouterr().err)


def test_the_table_as_json_keeps_other_graphs(tools, tmp_path, monkeypatch, capsys):
    """Rows of an earlier run stay, but those of graphs that were built again."""
    out, bundle = tmp_path / "report.json", write_tiny_bundle(tmp_path / "tiny")
    old = {"graph": "demo/decode"}
    out.write_text(json.dumps({"rows": [old, {"graph": "tiny/decode", "nodes": -1}]}))
    driver = tools(0)
    (driver.libraries / LIBRARIES[0]).rename(tmp_path / f"{LIBRARIES[0]}.1.7.1")
    (driver.libraries / LIBRARIES[0]).symlink_to(tmp_path / f"{LIBRARIES[0]}.1.7.1")
    monkeypatch.setattr(trt_check, "prepare", lambda args, scratch: driver)
    assert main([str(bundle), "--out", str(out), "--max-batch", "2"]) == 0
    report = json.loads(out.read_text())
    assert report["tensorrt_rtx"] == "1.7.1" and report["command"].endswith("trt_check.py --max-batch 2")
    rows = {row["graph"]: row for row in report["rows"]}
    assert rows.pop("demo/decode") == old
    assert set(rows) == {f"tiny/{name}" for name in manifest.read(bundle).graphs}
    built = {"layers": 9, "plugins": 0, "bytes": 1000000}
    assert rows["tiny/decode"] == {
        "graph": "tiny/decode", "nodes": 0, "without": built, "with": built, "error": ""
    }  # fmt: skip
    out.write_text("[]")
    assert main([str(bundle), "--out", str(out)]) == 2
    assert f"--out {out}" in error_line(capsys.readouterr().err)
