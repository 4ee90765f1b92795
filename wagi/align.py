"""Make a training folder: every face of a folder of photos as an upright square, cut out as FFHQ's were.

python -m wagi.align photos/ -o aligned/ --size 1024
python -m wagi.align photos/ -o aligned/ --size 256 --faces largest --workers 8
python -m wagi.align photos/ -o aligned/ --size 256 --quads landmarks.json

Stopped, it goes on when the same command is given again. aligned/report.jsonl has a line for each photo: its
faces, where they went, and what was left out and why.
"""

import argparse
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from wagi.errors import UserError, run_command
from wagi.files import write_json, write_png

REPORT, SETTINGS = "report.jsonl", "settings.json"
_EVERY = 5.0  # seconds between two lines of progress
_AHEAD = 4  # photos that wait for each worker
Record = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m wagi.align",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("photos", type=Path, help="folder of photos; its sub-folders are searched, too")
    p.add_argument("-o", "--out", type=Path, required=True, help="folder for the squares (made if needed)")
    p.add_argument("--size", type=_positive, default=1024, help="side of the squares in px (default 1024)")
    p.add_argument(
        "--faces", type=_faces, metavar="all|largest|N",
        help="which faces of a photo: all, the largest, or the N largest (default all)",
    )  # fmt: skip
    p.add_argument("--quads", type=Path, metavar="FILE", help="faces from this file instead of the detector")
    p.add_argument(
        "--keep", action="store_true", help="also faces that are small, cut off by the border, or profiles"
    )
    p.add_argument("--workers", type=_positive, default=1, metavar="N", help="processes (default 1)")
    return p


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not '{text}'")
    return int(text)


def _faces(text: str) -> int | None:
    from wagi_rt.faces import limit

    try:
        return limit(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


# ----------------------------------------------------------------------------------------------- a photo

_FINDER: Any = None  # of this process: the models are opened once


def _open_finder(quads: Path | None, most: int | None) -> None:
    from wagi_rt.faces.quads import Finder

    global _FINDER
    _FINDER = Finder(quads, most, threads=1)


def _open_worker(quads: Path | None, most: int | None) -> None:
    """In a process of its own, which Ctrl-C reaches as it does the first one; that one tidies up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _open_finder(quads, most)


def _align(root: Path, out: Path, size: int, keep: bool, photo: str, stem: str) -> Record:
    """Cut out and write the faces of one photo => its line of the report."""
    import numpy as np

    from wagi_rt.faces import photos
    from wagi_rt.faces.alignment import Alignment

    record: Record = {"input": photo, "faces": [], "outputs": [], "left_out": []}
    try:
        opened = photos.read(root / photo, photo)
        for found in _FINDER.find(opened, photo):
            record["faces"].append(found.record())
            notes = found.notes()
            if notes and not keep:
                record["left_out"] += notes
                continue
            number = len(record["outputs"]) + 1
            name = f"{stem}.png" if number == 1 else f"{stem}-{number}.png"
            square = Alignment(found.quad, size).cut(opened.upright)
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            write_png(out / name, np.asarray(square))
            record["outputs"].append(name)
    except UserError as error:
        record["left_out"].append(str(error).removeprefix(f"{photo}: "))
    return record


# ------------------------------------------------------------------------------------------------ a folder


def _photos(root: Path, out: Path) -> list[tuple[str, str]]:
    """(photo, its square's name without .png) below their folders; whole names where stems are alike."""
    from wagi_rt.decoding import READ_SUFFIXES

    if not root.is_dir():
        raise UserError(f"{root}: no such folder", 2)
    ours = out.resolve()
    found = sorted(
        path.relative_to(root)
        for path in root.rglob("*")
        if path.suffix.lower() in READ_SUFFIXES and path.is_file() and ours not in path.resolve().parents
    )
    if not found:
        raise UserError(f"{root}: no photos in this folder", 2)
    count = Counter(path.with_suffix("") for path in found)
    named = ((path, path.with_suffix("") if count[path.with_suffix("")] == 1 else path) for path in found)
    return [(path.as_posix(), stem.as_posix()) for path, stem in named]


def _done(out: Path, settings: Record) -> list[Record]:
    """The report of an earlier run of the same command; a line that was left half-written is cut."""
    report, before = out / REPORT, out / SETTINGS
    if before.is_file() and json.loads(before.read_text()) != settings:
        raise UserError(f"-o {out}: made with other options; give those of {before}, or another folder", 2)
    out.mkdir(parents=True, exist_ok=True)
    write_json(before, settings)
    if not report.is_file():
        return []
    whole = report.read_bytes()
    whole = whole[: whole.rfind(b"\n") + 1]
    records = [json.loads(line) for line in whole.splitlines()]
    records = [record for record in records if all((out / name).is_file() for name in record["outputs"])]
    _write(report, "w", records)
    return records


def _write(report: Path, how: str, records: list[Record]) -> None:
    with open(report, how) as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)


def _run(
    work: Callable[..., Record], photos: list[tuple[str, str]], workers: int, opening: tuple[Any, ...]
) -> Iterator[Record]:
    """The records as they come, in this process or in several; only a few photos are under way."""
    _open_finder(*opening)  # also where workers open their own: what is wrong with it is one line here
    if workers == 1:
        yield from (work(*photo) for photo in photos)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _open_worker, opening) as pool:
        waiting: list[Future[Record]] = []
        try:
            for photo in photos:
                waiting.append(pool.submit(work, *photo))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        finally:
            pool.shutdown(cancel_futures=True)


def run(args: argparse.Namespace) -> int:
    """Status 1 when no face was written at all. Raises UserError."""
    settings = {"photos": str(args.photos.resolve()), "size": args.size, "faces": args.faces,
                "quads": str(args.quads.resolve()) if args.quads else None, "keep": args.keep}  # fmt: skip
    photos = _photos(args.photos, args.out)
    records = _done(args.out, settings)
    known = {record["input"] for record in records}
    left = [photo for photo in photos if photo[0] not in known]
    work = partial(_align, args.photos, args.out, args.size, args.keep)
    said = time.monotonic()
    try:
        for record in _run(work, left, min(args.workers, max(1, len(left))), (args.quads, args.faces)):
            _write(args.out / REPORT, "a", [record])
            records.append(record)
            if time.monotonic() > said + _EVERY:
                said = time.monotonic()
                print(f"[{len(records)}/{len(photos)}] {_summary(records)}", file=sys.stderr, flush=True)
    except UserError as error:
        raise UserError(f"--quads {error}" if args.quads else str(error), error.status) from None
    print(f"{args.out}: {_summary(records)}; {args.out / REPORT} has the details", file=sys.stderr)
    return 0 if any(record["outputs"] for record in records) else 1


def _summary(records: list[Record]) -> str:
    """Counts of photos and faces, and why others were left out."""
    faces = sum(len(record["outputs"]) for record in records)
    reasons = Counter(reason.split(",")[0].split(";")[0] for r in records for reason in r["left_out"])
    left_out = ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
    return f"{faces} faces of {len(records)} photos" + (f"; left out: {left_out}" if left_out else "")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 done, 1 no face was found, 2 wrong usage."""
    args = parser().parse_args(argv)
    return run_command(lambda: run(args), "; the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
