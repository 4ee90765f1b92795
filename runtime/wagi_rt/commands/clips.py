"""`wagi-rt edit` for a clip or numbered pictures: what is read and written, and the report."""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from wagi_rt import face, faces, pictures, videos
from wagi_rt.commands.invert import announce, measure_later, open_session, require_precision
from wagi_rt.commands.jobs import Plan, make_places, refuse_existing
from wagi_rt.commands.passes import Find, Frame, Passes
from wagi_rt.commands.preview import Preview
from wagi_rt.console import put, say, unwind_on_signals
from wagi_rt.errors import UserError
from wagi_rt.videos import sequences, steady
from wagi_rt.videos.clips import Clip

if TYPE_CHECKING:
    from wagi_rt.face import Wanted
    from wagi_rt.videos.writing import Writer

# Options of `edit` that mean nothing here.
_NOT_HERE = (
    "kept",
    "sweep",
    "compare",
    "naive",
    "faces_out",
    "format",
    "strip",
    "recursive",
    "skip_existing",
    "warm",
    "verbose",
)
_RATE = 25.0  # frames per second of pictures
_MOST_NAMED = 8  # frames in one note
_DIGITS = 3  # of a px


def edit_clip(args: Namespace, wanted: Wanted) -> int:
    """The command. Returns 0; what fails is an error of the whole clip."""
    _check(args)
    source: Clip | sequences.Sequence
    source = Clip(args.inputs[0]) if videos.is_clip(args.inputs[0]) else sequences.Sequence(args.inputs[0])
    numbers = _range(args.frames, source.count)
    targets = _targets(args, source, numbers)
    preview = Preview(args.preview, len(numbers)) if args.preview else None
    find = _finder(args, source.name)
    with open_session(args, editing=True) as session:
        require_precision(session, args.half)
        unwind_on_signals()
        make_places(_places(args, targets))
        if not args.quiet:
            announce(session)
        began = time.monotonic()
        weight = steady.WEIGHT if args.smoothing is None else args.smoothing
        most = faces.limit(args.faces or "all")
        passes = Passes(session, source, numbers, args.batch, weight, most, args.quiet)
        passes.look(find)
        with _writer(args, targets, source, numbers) as writer:

            def write(frame: Frame) -> None:
                edited = frame.edited(difference=args.paste != "replace")
                writer.put(edited)
                if preview:
                    preview.add(frame.number - numbers.start, frame.image, edited)

            passes.edit(face.shift(session.manifest, wanted), write)
        if preview:
            preview.write()
    measure_later(session, args.quiet)
    _report(args, passes, args.output or targets[0], face.range_notes(wanted), time.monotonic() - began)
    return 0


def _check(args: Namespace) -> None:
    """UserError (status 2) for what does not go together."""
    if len(args.inputs) != 1:
        raise UserError(f"{args.inputs[0]}: a clip is edited alone; name one INPUT", status=2)
    (name,) = args.inputs
    if args.fit != "face":
        raise UserError(f"{name}: a clip needs --fit face", status=2)
    for option in _NOT_HERE:
        if getattr(args, option):
            shown = {"kept": "from"}.get(option, option).replace("_", "-")
            raise UserError(f"--{shown}: goes with pictures, {name} is a clip; leave it out", status=2)
    if args.fps and videos.is_clip(name):
        raise UserError(f"--fps: {name} has a rate of its own; leave it out", status=2)


def _range(text: str | None, count: int) -> range:
    """--frames A:B, as Python slices."""
    if text is None:
        return range(count)
    first, colon, last = text.partition(":")
    try:
        chosen = range(count)[slice(int(first) if first else None, int(last) if last else None)]
    except ValueError:
        colon, chosen = "", range(0)
    if not colon:
        raise UserError(f"--frames {text}: must be like 50:100, :100 or 50:", status=2)
    if not chosen:
        raise UserError(f"--frames {text}: holds none of the {count} frames", status=2)
    return chosen


def _targets(args: Namespace, source: Clip | sequences.Sequence, numbers: range) -> list[str]:
    """The clip, or the pictures, to write; refuses what is there, is an input or cannot be written."""
    name = args.inputs[0]
    if args.output is None and not isinstance(source, Clip):
        raise UserError(f"{name}: name the result with -o: a clip, a folder or a pattern", status=2)
    output = args.output or str(Path(name).with_name(f"{Path(name).stem}-wagi.mp4"))
    suffix, written = Path(output).suffix.lower(), list(videos.WRITTEN)
    if videos.is_clip(output):
        targets = [output]
    else:
        targets = sequences.named(output, numbers, None if isinstance(source, Clip) else source.files)
        suffix, written = Path(targets[0]).suffix.lower(), list(pictures.WRITTEN)
    if suffix not in written:
        raise UserError(f"-o {output}: must end in {', '.join(written)}", status=2)
    inputs = {os.path.realpath(path) for path in (getattr(source, "files", None) or [name])}
    for target in targets:
        if os.path.realpath(target) in inputs:
            raise UserError(f"{target}: is also an input; choose another -o", status=2)
    if not args.overwrite:
        refuse_existing([*targets, *([args.preview] if args.preview else [])])
    return targets


def _places(args: Namespace, targets: list[str]) -> Plan:
    """The folders that are written to."""
    places = {f"-o {args.output or targets[0]}": {Path(target).parent for target in targets}}
    if args.preview:
        places[f"--preview {args.preview}"] = {Path(args.preview).parent}
    return Plan([], [], [], None, places)


@contextmanager
def _writer(
    args: Namespace, targets: list[str], source: Clip | sequences.Sequence, numbers: range
) -> Iterator[Writer | sequences.PictureWriter]:
    if not videos.is_clip(targets[0]):
        yield sequences.PictureWriter(targets)
        return
    from wagi_rt.videos.writing import Timing, clip_writer

    path = Path(targets[0])
    if isinstance(source, Clip):
        with clip_writer(path, source.size, Timing.of(source, numbers.start, numbers.stop), source) as writer:
            yield writer
    else:
        rate = Fraction(args.fps or _RATE).limit_denominator(1001)
        with clip_writer(path, source.size, Timing.even(len(numbers), rate)) as writer:
            yield writer


def _finder(args: Namespace, name: str) -> Find:
    """The finder of the faces of frames: those of a file, or the detector."""
    if args.quads:
        from wagi_rt.videos.quads import ClipQuads

        known = ClipQuads(args.quads, name)
        return lambda number, image: known.at(number)
    from wagi_rt.faces.detection import Detector

    detector = Detector(args.threads)
    return lambda number, image: [found.landmarks.quad() for found in detector.find(image)]


def _report(args: Namespace, passes: Passes, target: str, notes: list[str], seconds: float) -> None:
    """Notes and a line, or an object in JSON whose faces `--quads` reads."""
    numbers, source = passes.numbers, passes.source
    bare = [number for number in numbers if not passes.faces(number)]
    notes = [*source.notes, *notes]
    if passes.damaged:
        notes.append(f"{_named(passes.damaged)} cannot be decoded, the last good one stands there")
    if bare:
        notes.append(f"{_named(bare)} without a face")
    rate = len(numbers) / seconds
    if args.json:
        quads = {
            str(number): [{"quad": np.round(track.quad(number), _DIGITS).tolist()} for track in found]
            for number in numbers
            for found in [passes.faces(number)]
        }
        record: dict[str, Any] = {"input": source.name, "output": target, "frames": len(numbers)}
        record |= {"cuts": passes.cuts, "damaged": passes.damaged, "faces": quads}
        put(json.dumps(record | {"ms": round(1000 / rate, 3)} | ({"notes": notes} if notes else {})))
    if not args.quiet:
        for note in notes:
            say(f"note: {source.name}: {note}")
        say(f"{source.name} -> {target} ({len(numbers)} frames, {rate:.3g} frames/s)")


def _named(numbers: list[int]) -> str:
    """1 frame (7), 12 frames (7, 8, ...)."""
    some = ", ".join(map(str, numbers[:_MOST_NAMED])) + (", ..." if len(numbers) > _MOST_NAMED else "")
    return f"{len(numbers)} frame{'s' * (len(numbers) != 1)} ({some})"
