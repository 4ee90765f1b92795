"""A broken, incomplete or changed bundle is one clear line before anything runs."""

import json

import pytest
from PIL import Image
from tiny_bundle import edit_manifest, error_line, run_cli, sha256, write_tiny_bundle

from wagi_rt.manifest import read


@pytest.fixture
def bundle(tmp_path):
    return write_tiny_bundle(tmp_path / "bundle", external=True)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.new("RGB", (64, 64), "blue").save(path)
    return path


def refusal(bundle, photo, capsys) -> str:
    """The error of `invert` with this bundle; nothing may have been written."""
    out = photo.parent / "out"
    assert run_cli("invert", photo, "-m", bundle, "-o", out / "x.png") == 1
    assert not out.exists()
    return error_line(capsys.readouterr().err)


def change(bundle, edit) -> None:
    """Edit the manifest's JSON in place."""
    data = json.loads((bundle / "manifest.json").read_text())
    edit(data)
    (bundle / "manifest.json").write_text(json.dumps(data))


def test_the_valid_bundle_is_read(bundle):
    manifest = read(bundle)
    assert (manifest.size, manifest.resolution, manifest.precision) == (64, 64, "fp32")
    assert manifest.graphs["prefix"].outputs == {"feature": (4, 16, 16), "skip": (12, 8, 8)}
    assert manifest.sha256 == sha256(bundle / "manifest.json")
    assert read(bundle / "manifest.json") == manifest


def test_missing_folder(tmp_path, photo, capsys):
    assert "bundle not found" in refusal(tmp_path / "nowhere", photo, capsys)


def test_a_file_instead_of_a_folder(photo, capsys):
    assert "not a bundle" in refusal(photo, photo, capsys)


def test_a_folder_without_manifest(tmp_path, photo, capsys):
    (tmp_path / "empty").mkdir()
    assert "manifest.json is missing" in refusal(tmp_path / "empty", photo, capsys)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_manifest_that_is_not_a_json_object(text, bundle, photo, capsys):
    (bundle / "manifest.json").write_bytes(text)
    assert "manifest.json" in refusal(bundle, photo, capsys)


@pytest.mark.parametrize("file", ["encoder.onnx", "decode.onnx", "weights.bin"])
def test_incomplete(file, bundle, photo, capsys):
    (bundle / file).unlink()
    line = refusal(bundle, photo, capsys)
    assert file in line and "missing" in line


@pytest.mark.parametrize("file", ["encoder.onnx", "decode.onnx", "weights.bin"])
def test_wrong_sha256_of_graphs_and_external_data(file, bundle, photo, capsys):
    content = bytearray((bundle / file).read_bytes())
    content[-1] ^= 1
    (bundle / file).write_bytes(content)
    line = refusal(bundle, photo, capsys)
    assert file in line and "sha256 differs" in line


def test_unknown_schema_names_both_versions(bundle, photo, capsys):
    edit_manifest(bundle, schema=99)
    line = refusal(bundle, photo, capsys)
    assert "schema 99 is unknown" in line and "reads schemas 2 to 4" in line


KEYS = ["schema", "name", "size", "resolution", "n_latent", "style_dim", "precision", "graphs", "tolerance"]


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named(key, bundle, photo, capsys):
    edit_manifest(bundle, **{key: None})
    assert f"'{key}' is missing" in refusal(bundle, photo, capsys)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": "64"},
        {"size": True},
        {"size": 48},
        {"size": 0},
        {"resolution": 128},
        {"n_latent": -8},
        {"n_latent": 9},
        {"precision": "int4"},
        {"graphs": []},
        {"graphs": {}},
        {"files": ["weights.bin"]},
        {"files": {"weights.bin": "abc"}},
        {"tolerance": float("inf")},
        {"name": 7},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(changes, bundle, photo, capsys):
    edit_manifest(bundle, **changes)
    assert "manifest.json: " in refusal(bundle, photo, capsys)


NAMES = ["../secret.onnx", "/etc/passwd", "a/../../b.onnx", "..\\b.onnx", "C:b.onnx", "", "a\0b"]


@pytest.mark.parametrize("name", NAMES)
def test_file_names_cannot_leave_the_bundle(name, bundle, photo, capsys):
    change(bundle, lambda data: data["graphs"]["encoder"].update(file=name))
    assert "not a file inside the bundle" in refusal(bundle, photo, capsys)


@pytest.mark.parametrize("name", NAMES)
def test_external_file_names_cannot_leave_the_bundle(name, bundle, photo, capsys):
    edit_manifest(bundle, files={name: "0" * 64})
    assert "not a file inside the bundle" in refusal(bundle, photo, capsys)


@pytest.mark.parametrize(
    "edit",
    [
        lambda graphs: graphs.pop("align"),
        lambda graphs: graphs.update(align=3),
        lambda graphs: graphs["align"].pop("file"),
        lambda graphs: graphs["align"].update(sha256="xyz"),
        lambda graphs: graphs["align"]["inputs"].pop("residual"),
        lambda graphs: graphs["align"]["inputs"].update(more={"shape": ["N", 3], "dtype": "float32"}),
        lambda graphs: graphs["align"]["outputs"]["aligned"].update(dtype="float16"),
        lambda graphs: graphs["align"]["outputs"]["aligned"].update(shape=["N", 3, 32, 32]),
        lambda graphs: graphs["align"]["outputs"]["aligned"].update(shape=[1, 3, 64, 64]),
        lambda graphs: graphs["align"]["outputs"]["aligned"].update(shape=["N", 3, "H", 64]),
        lambda graphs: graphs["naive"]["inputs"]["feature"].update(shape=["N", 5, 16, 16]),
    ],
)
def test_a_wrong_graph_entry_is_named(edit, bundle, photo, capsys):
    change(bundle, lambda data: edit(data["graphs"]))
    line = refusal(bundle, photo, capsys)
    assert "align" in line or "naive" in line


def rehash(bundle, graph: str) -> None:
    digest = sha256(bundle / f"{graph}.onnx")
    change(bundle, lambda data: data["graphs"][graph].update(sha256=digest))


def test_a_graph_that_is_not_onnx(bundle, photo, capsys):
    (bundle / "naive.onnx").write_bytes(b"not a graph")
    rehash(bundle, "naive")
    assert "ONNX Runtime cannot load it" in refusal(bundle, photo, capsys)


def test_a_graph_with_other_tensors_than_the_manifest_says(bundle, photo, capsys):
    (bundle / "naive.onnx").write_bytes((bundle / "decode.onnx").read_bytes())
    rehash(bundle, "naive")
    assert "not those of the manifest" in refusal(bundle, photo, capsys)


def test_info_refuses_a_changed_bundle_too(bundle, capsys):
    (bundle / "weights.bin").write_bytes(b"")
    assert run_cli("info", "-m", bundle) == 1
    assert "sha256 differs" in error_line(capsys.readouterr().err)


# Files that a graph uses


@pytest.mark.parametrize("spelling", ["weights.bin", "./weights.bin", "sub/" + "w" * 200])
def test_a_file_that_the_manifest_does_not_list_is_refused(bundle, photo, capsys, spelling):
    """ONNX writes the names; onnx's own library is the authority for how."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(bundle / "align.onnx", load_external_data=False)
    (entry,) = (e for t in model.graph.initializer for e in t.external_data if e.key == "location")
    entry.value = spelling
    (bundle / "align.onnx").write_bytes(model.SerializeToString())
    rehash(bundle, "align")
    if spelling == "./weights.bin":
        assert read(bundle).files  # the same file under another spelling
    edit_manifest(bundle, files={})
    line = refusal(bundle, photo, capsys)
    name = spelling.removeprefix("./")[:80]
    assert f"align.onnx: uses {name}" in line and "the manifest does not list" in line
    assert run_cli("info", "-m", bundle) == 1
    assert "does not list" in error_line(capsys.readouterr().err)


def test_a_large_graph_is_searched_once_and_again_with_another_list(bundle, monkeypatch, tmp_path):
    """What is remembered about a file holds for the list of files that it was compared with."""
    from wagi_rt import errors, files

    monkeypatch.setenv("WAGI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(files, "READ_AGAIN", 10)
    read(bundle)
    edit_manifest(bundle, files={})
    for _ in range(2):
        with pytest.raises(errors.UserError, match="does not list"):
            read(bundle)


# Numbers

HUGE = "9" * 400


@pytest.mark.parametrize("number", [HUGE, "1e999", "NaN", "-Infinity", "-" + HUGE, "9" * 5000])
@pytest.mark.parametrize(
    "key", ["tolerance", "limit_psnr_db", "max_activation", "size", "shape", "parity", "source"]
)
def test_numbers_that_no_export_writes(bundle, photo, capsys, key, number):
    """One line, whatever the number is; where it means nothing (a source's note) `info` stays valid JSON."""
    path = bundle / "manifest.json"
    data = json.loads(path.read_text())
    align = data["graphs"]["align"]
    if key == "shape":
        align["inputs"]["residual"]["shape"][1] = "MARK"
    elif key == "parity":
        align["parity"] = {"max_abs": "MARK"}
    elif key == "source":
        data["source"]["note"] = "MARK"
    else:
        (data if key == "size" else align)[key] = "MARK"
    path.write_text(json.dumps(data).replace('"MARK"', number))
    if key == "source" and number.strip("-") == HUGE:
        assert run_cli("info", "-m", bundle, "--json") == 0
        json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
        return
    line = refusal(bundle, photo, capsys)
    assert "manifest.json: " in line and len(line) < 400


GOOD = {"decode": {"image": [0.5] * 64}}


@pytest.mark.parametrize(
    "stored",
    [
        None, 7, [], {"seed": 1}, {"seed": 1, "values": []},
        *({"seed": seed, "values": GOOD} for seed in (-1, 10**30, 1.5, "1", True)),
        *({"seed": 1, "values": {"decode": {"image": values}}} for values in (
            [], [1.0] * 3, [1.0] * 65, ["a"] * 64, [[1.0]] * 64, [None] * 64, [10**400] * 64, "x")),
    ],
)  # fmt: skip
def test_probes_that_no_export_writes(bundle, stored):
    """Reference values that cannot be used are none: reduced precision is refused in one line."""
    from wagi_rt import probes

    edit_manifest(bundle, source={"probes": stored})
    found = probes.stored(read(bundle))
    assert found is None or "decode" not in found.values


def test_probes_as_an_export_writes_them(bundle):
    from wagi_rt import probes

    edit_manifest(bundle, source={"probes": {"seed": 3, "values": GOOD}})
    assert probes.stored(read(bundle)).values["decode"]["image"].shape == (64,)
