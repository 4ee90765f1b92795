"""The photo beside the embedded model is what its command renders, and the README shows it edited."""

import json
import subprocess
import sys

import numpy as np
import pytest
from checkout import ROOT
from PIL import Image
from tiny_bundle import run_cli

PHOTO = ROOT / "runtime" / "wagi_rt" / "demo" / "photo" / "prints.jpg"
EDITED = ROOT / "docs" / "prints-edited.jpg"


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(float)


def rendered(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wagi.portraits.prints", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_photo_is_what_the_command_renders(tmp_path):
    done = rendered(tmp_path / "new" / "prints.jpg")
    assert done.returncode == 0, done.stderr
    assert np.abs(pixels(tmp_path / "new" / "prints.jpg") - pixels(PHOTO)).mean() < 0.2
    made = json.loads((tmp_path / "new" / "prints.json").read_text())
    assert made == json.loads(PHOTO.with_suffix(".json").read_text())


def test_the_readme_shows_what_its_command_gives(tmp_path):
    lines = (ROOT / "README.md").read_text().splitlines()
    (line,) = [line for line in lines if "prints-edited.jpg --overwrite" in line]
    words = line.replace("$P", str(PHOTO.with_suffix(""))).split()[1:]
    words[words.index("docs/prints-edited.jpg")] = tmp_path / "edited.jpg"
    assert run_cli(*words) == 0
    assert np.abs(pixels(tmp_path / "edited.jpg") - pixels(EDITED)).mean() < 0.2
    change = np.abs(pixels(EDITED) - pixels(PHOTO)).max(-1)
    assert change.max() > 60 and (change > 6).mean() < 0.3 and change[:30].max() <= 6  # the wall at the top


@pytest.mark.parametrize(
    ("words", "line"), [(("a.gif",), "a.gif: must end in"), (("a.jpg", "--width", 9), "--width 9: must be")]
)
def test_wrong_usage(tmp_path, words, line):
    done = rendered(tmp_path / words[0], *words[1:])
    assert done.returncode == 2 and line in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())
