"""Flicker of an edited clip: a rendered head that turns, edited frame by frame and smoothed over time.

python -m wagi.evaluate flicker --model BUNDLE --out OUT

The head turns at an even speed, and so does the true edit: the renderings of the same head, turned further.
The runtime edits the clip along the bundle's `yaw` with quads that are off by as much as a detector's.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from wagi.errors import UserError
from wagi.evaluation.inverters import run_runtime
from wagi.experiments.comparison import write_picture
from wagi.experiments.tables import write_report
from wagi.portraits import dataset, edit, render

UNIT = 0.3  # rad of strength 1 of the direction `yaw`
START, RATE = 0.05, 25  # yaw of the first frame in rad; frames per second
# Standard deviations of a detector's quads, in sides (the angle in degrees): of some hundred frames the
# farthest moves the edge of a crop of 1024 px by 4.5 px, and the side by 0.88 %.
CENTRE, SIDE, ANGLE = 0.0015, 0.003, 0.17
SMOOTHING = 0.2  # the runtime's own
COLUMNS = ("method", "flicker", "roughness added", "error")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.evaluate flicker",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = p.add_argument
    add("--model", required=True, type=Path, metavar="BUNDLE", help="bundle with the direction yaw")
    add("--out", required=True, type=Path, metavar="OUT", help="folder of the table and a strip of frames")
    add("--clips", type=int, default=2, metavar="N", help="portraits, a clip of each (default 2)")
    add("--frames", type=int, default=60, metavar="N", help="of a clip (default 60: 2.4 s)")
    add("--speed", type=float, default=0.1, metavar="V", help="of the turn in rad per second (default 0.1)")
    add("--size", type=int, default=128, metavar="S", help="of a frame in pixels (default 128)")
    add("--strength", type=float, default=-1.0, metavar="X", help="of the edit along yaw (default -1)")
    add("--seed", type=int, default=9501, metavar="K", help="of portraits and quads (default 9501)")
    return p


def roughness(frames: np.ndarray) -> float:  # [n, H, W, 3]
    """Mean absolute second difference over time, in levels of 255: 0 for what changes evenly."""
    return float(np.abs(np.diff(frames.astype(np.float32), n=2, axis=0)).mean())


def flicker(frames: np.ndarray, truth: np.ndarray) -> float:
    """The roughness of the error, in levels of 255: what stays, or changes evenly, does not flicker."""
    return roughness(frames.astype(np.float32) - truth)


def clip(seed: int, index: int, yaws: np.ndarray, size: int, turned: float) -> tuple[np.ndarray, np.ndarray]:
    """A head with each yaw, and with `turned` rad more: [n, size, size, 3] uint8 each."""
    portrait = dataset.portrait(seed, index)
    both = [[render(edit(portrait, yaw=float(yaw + more)), size) for yaw in yaws] for more in (0.0, turned)]
    return np.stack(both[0]), np.stack(both[1])


def detected(count: int, size: int, rng: np.random.Generator) -> list[list[dict[str, object]]]:
    """The quad of the whole frame as a detector finds it, a list of faces for each frame."""
    faces = []
    for _ in range(count):
        middle = size * (0.5 + CENTRE * rng.standard_normal(2))
        half = size / 2 * (1 + SIDE * rng.standard_normal())
        angle = np.radians(ANGLE * rng.standard_normal())
        right = half * np.array([np.cos(angle), np.sin(angle)])
        below = np.array([-right[1], right[0]])
        corners = [middle - right - below, middle - right + below, middle + right + below,
                   middle + right - below]  # fmt: skip
        faces.append([{"quad": np.round(corners, 3).tolist()}])
    return faces


def edited(model: Path, frames: np.ndarray, faces: list, strength: float, smoothing: float) -> np.ndarray:
    """The clip as `wagi-rt edit` gives it, as pictures without loss."""
    with tempfile.TemporaryDirectory(prefix="wagi-flicker-") as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(folder / "in" / f"{number:04d}.png", compress_level=1)
        (folder / "quads.json").write_text(json.dumps({"%04d.png": faces}))
        run_runtime(
            model, "edit", str(folder / "in" / "%04d.png"), "-o", str(folder / "out" / "%04d.png"),
            "--fit", "face", "--quads", str(folder / "quads.json"), "--set", f"yaw={strength}",
            "--smoothing", str(smoothing), "-q",
        )  # fmt: skip
        return np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "out").iterdir())])


def run(args: argparse.Namespace) -> None:
    if args.frames < 3 or args.clips < 1:
        raise UserError("--frames: at least 3, --clips: at least 1", 2)
    rows: dict[str, list[np.ndarray]] = {}
    yaws = START + args.speed / RATE * np.arange(args.frames)
    strips = []
    for index in range(args.clips):
        frames, truth = clip(args.seed, index, yaws, args.size, UNIT * args.strength)
        found = detected(args.frames, args.size, np.random.default_rng([args.seed, index]))
        exact = [{"quad": [[0, 0], [0, args.size], [args.size, args.size], [args.size, 0]]}]
        results = {
            name: edited(args.model, frames, faces, args.strength, smoothing)
            for name, faces, smoothing in (
                ("exact quads, frame by frame", exact, 1),
                ("detected quads, frame by frame", found, 1),
                ("detected quads, smoothed", found, SMOOTHING),
            )
        }
        for name, result in results.items():
            added = roughness(result) - roughness(truth)
            error = float(np.abs(result.astype(np.float32) - truth).mean())
            row = [flicker(result, truth), added, error]
            rows.setdefault(name, []).append(np.array(row))
        chosen = np.linspace(0, args.frames - 1, 6).round().astype(int)
        strips += [np.concatenate(list(part[chosen]), 1) for part in (frames, truth, *results.values())]
    write_picture(args.out / "flicker.jpg", np.concatenate(strips))
    table: list[dict[str, Any]] = [
        dict(zip(COLUMNS, [name, *map(float, np.mean(values, 0))], strict=True))
        for name, values in rows.items()
    ]
    by_frame, smoothed = (float(row["flicker"]) for row in table[1:])
    meta = {
        "title": "Flicker of an edited clip",
        "model": args.model.name,
        "clips": f"{args.clips} of {args.frames} frames of {args.size} px, seed {args.seed}",
        "turn": f"{yaws[0]:.3g} to {yaws[-1]:.3g} rad, edited by {UNIT * args.strength:+g} rad",
        "flicker frame by frame over smoothed": round(by_frame / smoothed, 2),
        "notes": [
            "In levels of 255. Flicker: mean absolute second difference over time of result minus truth; "
            "roughness added: that of the result less that of the truth; error: mean absolute difference. "
            "Exact quads: what remains moves with the head. In the strip, from above: frames, truth, and the "
            "methods in the order of the table.",
        ],
    }
    print(write_report(args.out, "flicker", table, COLUMNS, meta))
