"""An error names the option that was given and the file as it is, whichever library noticed."""

import zipfile

import pytest
import torch
from public_files import generator, write_rosinality

from export import to_onnx
from tests.training_helpers import run, save_tiny_model
from wagi import checkpoint, convert, evaluate


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "model.pt")


def said(capsys) -> str:
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    return error.removeprefix("error: ")


def test_the_option_that_was_given(model, tmp_path, capsys):
    common = ["--model", str(model), "--out", str(tmp_path / "o.png")]
    cases = [
        (evaluate, ["figure9", "--out", str(tmp_path), "--data", "nowhere"], "--data nowhere: no such"),
        (evaluate, ["edit", *common, "--edits", "nonsense"], "--edits nonsense: write NAME+AMOUNT"),
        (evaluate, ["sheet", *common, "--kind", "edit", "--edit", "nonsense"], "--edit nonsense: write NAME"),
        (to_onnx, ["--checkpoint", str(model), "-o", str(tmp_path / "b"), "--calibrate", "nowhere"],
         "--calibrate nowhere: no such folder"),
    ]  # fmt: skip
    for command, words, message in cases:
        assert command.main(words) == 2, words
        assert said(capsys).startswith(message)
    assert not list(tmp_path.iterdir())


def test_an_archive_is_no_folder(tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("a.png", b"")
    assert run("generator", tmp_path / "faces.zip", tmp_path / "run") == 2
    assert said(capsys) == f"--data {tmp_path / 'faces.zip'}: a file, not a folder; unpack it first"


@pytest.mark.parametrize("average", [True, False], ids=["plain", "with a Namespace"])
def test_a_public_file_given_as_a_checkpoint(tmp_path, capsys, average):
    """Its kind and the command that converts it, and that command works."""
    public = write_rosinality(tmp_path / "550000.pt", generator(), average)
    remedy = f"python -m wagi.convert {public} -o NAME.pt"
    words = ["--checkpoint", str(public), "-o", str(tmp_path / "b")]
    evaluation = ["--model", str(public), "--data", "portraits:1:1", "--protocol", "portraits"]
    for command in (
        lambda: run("encoder", "portraits:1:9", tmp_path / "run", "--generator", str(public)),
        lambda: to_onnx.main(words),
        lambda: evaluate.main(evaluation),
    ):
        status, error = command(), said(capsys)
        assert status == 1 and f"{public}: a public file of kind swagan, not a WaGI checkpoint" in error
        assert remedy in error and "\x1b" not in error
    assert convert.main([*remedy.replace("NAME.pt", str(tmp_path / "own.pt")).split()[3:]]) == 0
    checkpoint.load_generator(tmp_path / "own.pt")


def test_a_file_of_no_kind_given_as_a_checkpoint(tmp_path, capsys):
    torch.save({"layer.weight": torch.zeros(3, 3)}, tmp_path / "x.pt")
    assert to_onnx.main(["--checkpoint", str(tmp_path / "x.pt"), "-o", str(tmp_path / "b")]) == 1
    assert said(capsys).startswith(f"{tmp_path / 'x.pt'}: no public layout")


def test_a_damaged_checkpoint(tmp_path, capsys):
    whole = save_tiny_model(tmp_path / "model.pt")
    for name, content in (("cut.pt", whole.read_bytes()[:-9000]), ("empty.pt", b"")):
        (tmp_path / name).write_bytes(content)
        assert to_onnx.main(["--checkpoint", str(tmp_path / name), "-o", str(tmp_path / "b")]) == 1
        assert said(capsys).startswith(f"{tmp_path / name}: truncated or damaged; put another copy")
