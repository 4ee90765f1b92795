"""CelebA-HQ's official split, from files in the public layouts: counts, order, what is not there."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.training_helpers import save_tiny_model
from wagi import evaluate
from wagi.data import open_dataset
from wagi.errors import UserError

# Number in CelebA-HQ -> number in CelebA, whose list has training 1 to 4, validation 5 to 6, test 7 to 9.
ORIGINALS = {0: 9, 1: 2, 2: 7, 3: 5, 4: 8, 5: 1}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "CelebAMask-HQ"
    (root / "CelebA-HQ-img").mkdir(parents=True)
    parts = [(n, 0 if n < 5 else 1 if n < 7 else 2) for n in range(1, 10)]
    (root / "list_eval_partition.txt").write_text("".join(f"{n:06d}.jpg {part}\n" for n, part in parts))
    lines = [f"{hq}          {n - 1}     {n:06d}.jpg\n" for hq, n in ORIGINALS.items()]
    mapping = root / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text("idx         orig_idx     orig_file\n" + "".join(lines))
    for number in ORIGINALS:
        pixels = np.full((64, 64, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(root / "CelebA-HQ-img" / f"{number}.jpg", quality=100)
    return root


@pytest.mark.parametrize(("part", "numbers"), [("", [0, 2, 4]), (":val", [3]), (":train", [1, 5])])
def test_the_parts(folder, part, numbers, capsys):
    data = open_dataset(f"celeba-hq:{folder}{part}", 32)
    found = [round(float((data.get(k, False)["image"].mean() + 1) * 127.5 / 40)) for k in range(len(data))]
    assert found == numbers
    assert f"{part[1:] or 'test'}: {len(numbers)} pictures by the official lists, all there" in (
        capsys.readouterr().err
    )


def test_evaluate_counts_and_names_what_is_not_there(folder, tmp_path, capsys):
    (folder / "CelebA-HQ-img" / "2.jpg").unlink()
    model = save_tiny_model(tmp_path / "model.pt")
    words = ["--model", str(model), "--data", f"celeba-hq:{folder}", "--protocol", "portraits", "-q"]
    assert evaluate.main([*words, "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert report["data"]["count"] == 2 and report["data"]["skipped"] == {}
    line = "CelebA-HQ, test: 3 pictures by the official lists, 1 of them not there: 2.jpg"
    assert report["notes"][0] == line
    said = capsys.readouterr()
    assert said.err.splitlines().count(line) == 1 and f"note: {line}" in said.out


def test_other_names_of_the_pictures(folder):
    """Zeros in front and PNG are the same pictures; numbers from 1 on are others, and refused."""
    images = folder / "CelebA-HQ-img"
    for number in ORIGINALS:
        Image.open(images / f"{number}.jpg").save(images / f"{number:05d}.png")
        (images / f"{number}.jpg").unlink()
    data = open_dataset(f"celeba-hq:{folder}", 32)
    assert [file.name for file in data.files] == ["00000.png", "00002.png", "00004.png"]
    (images / "00000.png").rename(images / "00006.png")
    with pytest.raises(UserError, match="numbered from 1"):
        open_dataset(f"celeba-hq:{folder}", 32)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("list_eval_partition.txt", None, "list_eval_partition.txt: cannot be read (No such file"),
        ("list_eval_partition.txt", "000001.jpg 3\n", "line 1: not a file name and 0, 1 or 2"),
        ("CelebA-HQ-to-CelebA-mapping.txt", "a b c\n0 1\n", "line 2: not a number, a number and a file"),
        ("CelebA-HQ-to-CelebA-mapping.txt", "a b c\n0 98 000099.jpg\n", "line 2: not a number, a number"),
        ("CelebA-HQ-to-CelebA-mapping.txt", "a b c\n9 8 000009.jpg\n", "none of the 1 pictures of this part"),
    ],
)
def test_mistakes_cost_one_line(folder, file, text, message, tmp_path, capsys):
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    model = save_tiny_model(tmp_path / "model.pt")
    words = ["--model", str(model), "--data", f"celeba-hq:{folder}", "--protocol", "portraits"]
    assert evaluate.main(words) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: --data ") and message in said and "\n" not in said


def test_another_folder(tmp_path):
    with pytest.raises(UserError, match="no folder .*CelebA-HQ-img; write celeba-hq:FOLDER"):
        open_dataset(f"celeba-hq:{tmp_path}:tset", 32)
