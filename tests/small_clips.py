"""Small clips for tests: frames of the test's own as H.264 with a sine, and what a file holds."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs PyAV (the extra `video`)")

SOUND = 48_000  # samples per second


def write_clip(
    path: Path,
    frames: np.ndarray,  # [n, H, W, 3] uint8
    rate: int = 25,
    seconds: float = 0,  # of sound
    rotation: int = 0,  # degrees counterclockwise, by which players turn it
    every: int = 12,  # frames from key frame to key frame
    colours: int = 5,  # as H.264 numbers them: 1 is BT.709, 5 BT.601
    times: list[int] | None = None,  # of the frames, in 1 / rate seconds
) -> Path:
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=rate, options={"crf": "4", "g": str(every)})
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt, video.codec_context.colorspace = "yuv420p", colours
        if rotation:
            video.set_display_rotation(rotation)
        sound = output.add_stream("aac", rate=SOUND, layout="mono") if seconds else None
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels)).reformat(
                format="yuv420p", dst_colorspace=colours
            )
            frame.pts, frame.time_base = times[number] if times else number, Fraction(1, rate)
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if sound is not None:
            wave = 0.3 * np.sin(2 * math.pi * 440 / SOUND * np.arange(int(SOUND * seconds), dtype=np.float32))
            for start in range(0, len(wave), 1024):
                part = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], "fltp", "mono")
                part.sample_rate, part.pts, part.time_base = SOUND, start, Fraction(1, SOUND)
                output.mux(sound.encode(part))
            output.mux(sound.encode(None))
    return path


class Held(NamedTuple):
    """What a clip holds, read by PyAV alone: pixels [n, H, W, 3], the frames' seconds, packets of sound."""

    frames: np.ndarray
    seconds: list[float]
    length: float
    rate: Any
    sound: list[bytes]


def held(path: Path) -> Held:
    with av.open(str(path)) as clip:
        stream = clip.streams.video[0]
        length, rate = float(stream.duration * stream.time_base), stream.average_rate
        decoded = list(clip.decode(video=0))
        frames = np.stack([frame.to_ndarray(format="rgb24", interpolation=0x46004) for frame in decoded])
        seconds = [float(frame.pts * frame.time_base) for frame in decoded]
    sound = []
    with av.open(str(path)) as clip:
        if clip.streams.audio:
            sound = [bytes(packet) for packet in clip.demux(audio=0) if packet.dts is not None]
    return Held(frames, seconds, length, rate, sound)
