"""A clip out: H.264 with the times of another clip, and that clip's sound packet by packet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from wagi_rt.errors import UserError
from wagi_rt.files import beside
from wagi_rt.videos import WRITTEN
from wagi_rt.videos.clips import EXACT, Clip, import_av, opened

_QUALITY = {"crf": "16", "preset": "veryfast"}  # of libx264: the picture is hard to tell from what goes in
_BT601, _BT709, _LIMITED = 5, 1, 1
# The numbers of H.264 for the step from RGB to YUV, and swscale's for them; any other is taken as BT.601.
_SWSCALE = {1: 1, 4: 4, 5: _BT601, 6: _BT601, 7: 7, 9: 9}
_OURS = {"colorspace": _BT709, "color_primaries": _BT709, "color_trc": _BT709, "color_range": _LIMITED}


class Timing(NamedTuple):
    """When frames are shown: ascending times and the length of the last one, in units of `base` seconds.

    window: the seconds of the clip that they are a part of, which begin anew at 0; None: all of it.
    """

    times: list[int]
    last: int
    base: Fraction
    rate: Fraction
    window: tuple[Fraction, Fraction] | None = None

    @classmethod
    def even(cls, count: int, rate: Fraction) -> Timing:
        return cls(list(range(count)), 1, 1 / rate, rate)

    @classmethod
    def of(cls, clip: Clip, start: int, stop: int) -> Timing:
        """The clip's own times of the frames from `start` up to `stop`."""
        if (start, stop) == (0, clip.count):
            return cls(clip.times, clip.last, clip.base, clip.rate)
        times = clip.times[start:stop]
        end = clip.times[stop] if stop < clip.count else times[-1] + clip.last
        window = times[0] * clip.base, end * clip.base
        return cls([time - times[0] for time in times], end - times[-1], clip.base, clip.rate, window)

    def after(self, number: int) -> int:
        """The time at which a frame ends."""
        return self.times[number + 1] if number + 1 < len(self.times) else self.times[number] + self.last


@contextmanager
def clip_writer(
    path: Path, size: tuple[int, int], timing: Timing, clip: Clip | None = None
) -> Iterator[Writer]:
    """A clip of upright frames, there as a whole at the end or not at all.

    clip: the one that the frames come from, for its colours, its pixels' aspect and its sound.
    """
    av = import_av()
    try:
        with ExitStack() as stack:
            part = stack.enter_context(beside(path))
            output = stack.enter_context(av.open(str(part), "w", format=WRITTEN[path.suffix.lower()]))
            source = stack.enter_context(opened(clip.name)) if clip else None
            writer = Writer(output, size, timing, clip)
            if source is not None:
                writer.sound = Sound(output, source, timing.window)
            yield writer
            writer.end()
    except av.FFmpegError as error:
        detail = error.strerror or error
        raise UserError(f"{path}: cannot be written ({detail}); try another -o, such as a .mkv") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}); choose another -o") from None


class Writer:
    """An open output; `put` takes frame after frame. Errors are PyAV's."""

    sound: Sound | None = None

    def __init__(self, output: Any, size: tuple[int, int], timing: Timing, clip: Clip | None = None) -> None:
        self._output, self._timing, self._count = output, timing, 0
        self._colours = clip.colours if clip else _OURS
        self._stream = output.add_stream("libx264", rate=timing.rate, options=dict(_QUALITY))
        context = self._stream.codec_context
        context.width, context.height = (side + side % 2 for side in size)  # 4:2:0 has no odd sides
        context.pix_fmt, context.time_base = "yuv420p", timing.base
        self._stream.time_base = timing.base
        for name, value in self._colours.items():
            setattr(context, name, value)
        if clip and clip.aspect != 1:
            context.sample_aspect_ratio = clip.aspect

    def put(self, image: Image.Image) -> None:
        """The next frame, and the sound up to its end."""
        from av import VideoFrame

        pixels = np.asarray(image)
        odd = [(0, side % 2) for side in pixels.shape[:2]]
        frame = VideoFrame.from_ndarray(np.pad(pixels, (*odd, (0, 0)), "edge"))
        frame = frame.reformat(
            format="yuv420p", interpolation=EXACT, dst_color_range=self._colours["color_range"],
            dst_colorspace=_SWSCALE.get(self._colours["colorspace"], _BT601),
        )  # fmt: skip
        frame.pts, frame.time_base = self._timing.times[self._count], self._timing.base
        end = self._timing.after(self._count)
        frame.duration = end - frame.pts
        self._output.mux(self._stream.encode(frame))
        if self.sound:
            self.sound.copy(end * self._timing.base)
        self._count += 1

    def end(self) -> None:
        """The frames that the encoder still holds, and the rest of the sound."""
        self._output.mux(self._stream.encode(None))
        if self.sound:
            self.sound.copy()


class Sound:
    """The audio packets of a clip on their way into another, as they are."""

    def __init__(self, output: Any, source: Any, window: tuple[Fraction, Fraction] | None) -> None:
        """window: the seconds that are copied; the first one becomes 0."""
        self._output, self._window = output, window
        self._streams = {one.index: output.add_stream_from_template(one) for one in source.streams.audio}
        self._packets = self._wanted(source) if self._streams else iter(())
        self._waiting: tuple[Fraction, Any] | None = next(self._packets, None)

    def copy(self, until: Fraction | None = None) -> None:
        """All packets that begin before a second of the output; None: all."""
        while self._waiting is not None and (until is None or self._waiting[0] < until):
            self._output.mux(self._waiting[1])
            self._waiting = next(self._packets, None)

    def _wanted(self, source: Any) -> Iterator[tuple[Fraction, Any]]:
        """(second of the output, packet for it)."""
        for packet in source.demux(*source.streams.audio):
            if packet.dts is None:  # the end's mark, which no muxer takes
                continue
            begins, offset = packet.dts * packet.time_base, 0
            if self._window is not None:
                if not self._window[0] <= begins < self._window[1]:
                    continue
                offset = round(self._window[0] / packet.time_base)
            packet.dts -= offset
            if packet.pts is not None:
                packet.pts -= offset
            packet.stream = self._streams[packet.stream.index]
            yield packet.dts * packet.time_base, packet
