"""The two readings of a clip: all frames looked at, then all frames edited.

The first finds cuts, faces and their latents; quads and latents are smoothed over time. In the second each
frame is inverted at its smoothed latents, so that the residual holds whatever the frame has besides, edited
from there, and only the difference is put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from wagi_rt import pictures, videos
from wagi_rt.chain import encoding
from wagi_rt.commands.overlap import overlap
from wagi_rt.commands.progress import Progress
from wagi_rt.errors import UserError
from wagi_rt.faces.alignment import Alignment, paste
from wagi_rt.videos import steady

if TYPE_CHECKING:
    from wagi_rt.session import Session

Find = Callable[[int, Image.Image], list[np.ndarray]]  # (number, frame) => quads, each [4, 2] px


@dataclass(eq=False)
class Frame:
    """A frame on its way; an entry of each list for each of its faces.

    squares: [3, S, S] float32 in [-1, 1]; latents: [n_latent, style_dim]; before, after: [S, S, 3] uint8.
    """

    number: int
    image: Image.Image
    places: list[Alignment] = field(default_factory=list)
    squares: list[np.ndarray] = field(default_factory=list)
    latents: list[np.ndarray] = field(default_factory=list)
    before: list[np.ndarray] = field(default_factory=list)
    after: list[np.ndarray] = field(default_factory=list)

    def cut(self, quads: list[np.ndarray], size: int) -> None:
        """Fill in places and squares."""
        for quad in quads:
            try:
                place = Alignment(quad, size)
                square = np.asarray(place.cut(self.image))
            except UserError as error:
                raise UserError(f"frame {self.number}: {error}") from None
            self.places.append(place)
            self.squares.append(pictures.to_float(square[None])[0])

    def edited(self, difference: bool = True) -> Image.Image:
        """The frame with its squares put back, or only what the edit changes of them."""
        if not self.places:
            return self.image
        pixels = np.array(self.image)
        paste(pixels, self.places, self.after, self.before if difference else None)
        return Image.fromarray(pixels)


class Passes:
    """Both readings of the frames `numbers` of a clip, `batch` faces at a time.

    weight: of a frame in its averages; most: faces in a frame. Known after `look` - damaged: frames for
    which the last good one stands; cuts: the first frames of new scenes; tracks: the faces, smoothed.
    """

    def __init__(
        self, session: Session, source: videos.Frames, numbers: range, batch: int = 1,
        weight: float = steady.WEIGHT, most: int | None = None, quiet: bool = False,
    ) -> None:  # fmt: skip
        self.session, self.source, self.numbers = session, source, numbers
        self.batch, self.weight, self.most, self.quiet = batch, weight, most, quiet
        self.damaged: list[int] = []
        self.cuts: list[int] = []
        self.tracks: list[steady.Track] = []

    def faces(self, number: int) -> list[steady.Track]:
        """The tracks that a frame shows, the largest first."""
        return steady.present(self.tracks, number, self.most)

    def look(self, find: Find) -> None:
        """The first reading. UserError where no frame has a face."""
        changes, seen = [], []
        last: np.ndarray | None = None
        decoded = self._reader()

        def read(numbers: range) -> list[Frame]:
            frames = decoded(numbers)
            for frame in frames:
                frame.cut(find(frame.number, frame.image), self.session.size)
            return frames

        progress = Progress(len(self.numbers), "faces", "frames", self.quiet)
        for frames in overlap(self._batches(), read, self._encode, lambda frames: frames):
            for frame in frames:
                small = steady.thumbnail(frame.image)
                changes.append(0.0 if last is None else float(np.abs(small - last).mean()))
                quads = [place.quad for place in frame.places]
                seen.append(list(zip(quads, frame.latents, strict=True)))
                last = small
            progress.add(len(frames))
        if not any(seen):
            raise UserError(f"{self.source.name}: no face found; name its quads with --quads")
        self.cuts = [self.numbers[cut] for cut in steady.cuts(changes)]
        found = steady.tracks(seen, self.cuts, self.numbers.start)
        self.tracks = [track.smoothed(self.weight) for track in found]

    def edit(self, shift: np.ndarray, put: Callable[[Frame], None]) -> None:
        """The second reading; shift: the step in the latents [n_latent, style_dim]; put: takes each frame."""
        decoded = self._reader()

        def read(numbers: range) -> list[Frame]:
            frames = decoded(numbers)
            for frame in frames:
                tracks = self.faces(frame.number)
                frame.cut([track.quad(frame.number) for track in tracks], self.session.size)
                frame.latents = [track.ws[frame.number - track.start] for track in tracks]
            return frames

        def write(frames: list[Frame]) -> int:
            for frame in frames:
                put(frame)
            return len(frames)

        progress = Progress(len(self.numbers), "edit", "frames", self.quiet)
        for count in overlap(self._batches(), read, lambda frames: self._render(frames, shift), write):
            progress.add(count)

    def _reader(self) -> Callable[[range], list[Frame]]:
        """A stage that takes the numbers of the next frames; a damaged frame is the last good one again."""
        frames = videos.mended(self.source.read(self.numbers.start, self.numbers.stop))
        self.damaged = []

        def read(numbers: range) -> list[Frame]:
            found = []
            for number, (image, good) in zip(numbers, frames, strict=False):
                self.damaged += [] if good else [number]
                found.append(Frame(number, image))
            return found

        return read

    def _batches(self) -> list[range]:
        return [self.numbers[start : start + self.batch] for start in range(0, len(self.numbers), self.batch)]

    def _encode(self, frames: list[Frame]) -> list[Frame]:
        for some in self._chunks(frames):
            images = np.stack([frame.squares[face] for frame, face in some])
            chain = encoding(self.session.manifest.pil)
            latents = self.session.engine.run_chain(chain, {"image": images})["ws"]
            for (frame, _), ws in zip(some, latents, strict=True):
                frame.latents.append(ws)
        return frames

    def _render(self, frames: list[Frame], shift: np.ndarray) -> list[Frame]:
        for some in self._chunks(frames):
            images = np.stack([frame.squares[face] for frame, face in some])
            ws = np.stack([frame.latents[face] for frame, face in some])
            kept = self.session.hold(images, ws)
            inverted = kept.pop("result")
            edited = self.session.edit(kept, ws + shift).image
            both = pictures.to_uint8(inverted), pictures.to_uint8(edited)
            for (frame, _), before, after in zip(some, *both, strict=True):
                frame.before.append(before)
                frame.after.append(after)
        return frames

    def _chunks(self, frames: list[Frame]) -> Iterator[list[tuple[Frame, int]]]:
        """(frame, face) of all faces, as many as run together."""
        every = [(frame, face) for frame in frames for face in range(len(frame.squares))]
        for start in range(0, len(every), self.batch):
            yield every[start : start + self.batch]
