"""Whatever lies in a folder of pictures: results or one line each. The folder is $WAGI_IMAGE_CORPUS.

Pillow's own Tests/images (in its source distribution) has a thousand, many of them damaged on purpose.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkout import ROOT
from PIL import Image
from tiny_bundle import write_tiny_bundle

CORPUS = os.environ.get("WAGI_IMAGE_CORPUS", "")
SECONDS = 60  # for the slowest; all but a few take milliseconds
ENV = {**os.environ, "PYTHONPATH": str(ROOT / "runtime"), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
@pytest.mark.skipif(not CORPUS, reason="WAGI_IMAGE_CORPUS names no folder")
def test_every_file_gives_a_picture_or_one_line(tmp_path):
    """No traceback, no hang, no partial file, nothing on stderr but our lines, in one run over all files."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    files = sorted(str(path) for path in Path(CORPUS).rglob("*") if path.is_file())
    assert len(files) > 100
    folder = tmp_path / "in"
    folder.mkdir()
    names = {str(folder / f"{index:05d}{Path(file).suffix}"): file for index, file in enumerate(files)}
    for link, file in names.items():  # corpora repeat names
        os.symlink(Path(file).resolve(), link)
    command = [sys.executable, "-m", "wagi_rt", "invert", *names, "-m", str(bundle), "-o", "out", "--json"]
    errors = open(tmp_path / "stderr", "w")
    with subprocess.Popen(
        command, cwd=tmp_path, env=ENV, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:
        assert process.stdout
        records, last = [], time.monotonic()
        for line in process.stdout:
            records.append(json.loads(line))
            took, last = time.monotonic() - last, time.monotonic()
            assert took < SECONDS, names[records[-1]["input"]]
    said = (tmp_path / "stderr").read_text().splitlines()
    ours = re.compile(r"(error|note): |\[\d+/\d+\] |tiny \(|\d+ of \d+ images failed")
    assert [line for line in said if not ours.match(line) or "Traceback" in line] == []
    assert process.returncode in (0, 1) and {record["input"] for record in records} == set(names)
    written = sorted(record["output"] for record in records if "output" in record)
    assert sorted(f"out/{name}" for name in os.listdir(tmp_path / "out")) == written
    for name in written:
        with Image.open(tmp_path / name) as image:
            image.load()
            assert image.size == (64, 64)
    print(f"{len(written)} of {len(records)} pictures inverted")
