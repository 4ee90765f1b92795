"""The doors by which `wagi-rt invert` enters each room are those that docs/architecture.md names."""

import re
import sys
from types import FrameType

from checkout import ROOT
from PIL import Image

from tests.tiny_bundle import write_tiny_bundle
from wagi_rt.cli import main

ROWS = re.compile(r"^\| (\w+) \| ((?:`\w+` ?)+)\|", re.M)
DOCUMENTED = {
    found[1]: set(re.findall(r"\w+", found[2]))
    for found in ROWS.finditer((ROOT / "docs" / "architecture.md").read_text())
}


def room(frame: FrameType | None) -> str:
    """`engines` of a frame in wagi_rt.engines.ort; "" outside the runtime."""
    module = frame.f_globals.get("__name__", "") if frame else ""
    return module.split(".")[1] if module.startswith("wagi_rt.") else ""


def door(frame: FrameType) -> str:
    """The function's name; of a constructor the name of the class."""
    name = frame.f_code.co_name
    return type(frame.f_locals["self"]).__name__ if name == "__init__" else name


def test_an_inversion_takes_the_documented_doors(tmp_path):
    bundle = write_tiny_bundle(tmp_path / "bundle")
    Image.new("RGB", (80, 60), "red").save(tmp_path / "in.png")
    words = ["invert", str(tmp_path / "in.png"), "-m", str(bundle), "-o", str(tmp_path / "out.png"), "-q"]
    assert main(words) == 0  # so that no import runs code of a module in what follows
    taken: dict[str, set[str]] = {name: set() for name in DOCUMENTED}

    def entered(frame: FrameType, event: str, argument: object) -> None:
        inside = room(frame)
        if event == "call" and inside in taken and room(frame.f_back) not in (inside, ""):
            if frame.f_code.co_name != "__exit__":  # the end of a `with`, which leads to `close`
                taken[inside].add(door(frame))

    sys.setprofile(entered)
    try:
        assert main([*words, "--overwrite"]) == 0
    finally:
        sys.setprofile(None)
    assert len(DOCUMENTED) == 6 and taken == DOCUMENTED
