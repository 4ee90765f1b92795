"""Backgrounds: two moderate colours, a gradient, a tiled or blurred pattern. Independent of the head."""

import numpy as np

from wagi.portraits.head import step
from wagi.portraits.parameters import Portrait
from wagi.portraits.streams import stream


def pattern(kind: str, x: np.ndarray, y: np.ndarray, scale: float) -> np.ndarray:
    """Soft weight in [0,1] of the second colour for tiled patterns; x, y in units of the picture."""
    u, v = x * scale, y * scale
    if kind == "stripes":
        return step(-0.25, 0.25, np.sin(2 * np.pi * (u * 0.6 + v * 0.8)))
    if kind == "plaid":
        across = step(0.1, 0.5, np.sin(2 * np.pi * u) + 0 * v)
        down = step(0.1, 0.5, np.sin(2 * np.pi * v) + 0 * u)
        return 0.55 * across + 0.45 * down
    if kind == "dots":
        row = np.floor(v)
        du, dv = (u + 0.5 * (row % 2)) % 1 - 0.5, v % 1 - 0.5
        return step(0.32, 0.24, np.hypot(du, dv))
    return np.zeros(np.broadcast(x, y).shape, np.float32)


def _blobs(p: Portrait, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Leaves or discs of blurred light, each drawn in its own window."""
    size = image.shape[0]
    leaves = p.background == "leaves"
    for _ in range(46 if leaves else 18):
        cx, cy, angle = rng.random(), rng.random(), rng.uniform(0, np.pi)
        radius = rng.uniform(0.035, 0.06) if leaves else rng.uniform(0.03, 0.11)
        tint = np.array(p.background_colour2) * rng.uniform(0.65, 1.15)
        strength = 0.85 if leaves else rng.uniform(0.25, 0.6)
        x0, x1 = max(int((cx - radius) * size), 0), min(int((cx + radius) * size) + 2, size)
        y0, y1 = max(int((cy - radius) * size), 0), min(int((cy + radius) * size) + 2, size)
        if x1 <= x0 or y1 <= y0:
            continue
        dx = ((np.arange(x0, x1) + 0.5) / size - cx)[None, :]
        dy = ((np.arange(y0, y1) + 0.5) / size - cy)[:, None]
        if leaves:
            along = dx * np.cos(angle) + dy * np.sin(angle)
            across = -dx * np.sin(angle) + dy * np.cos(angle)
            distance = np.abs(along) / radius + (np.abs(across) / (0.4 * radius)) ** 1.5
            weight = strength * step(1.0, 0.85, distance) * (1 - 0.25 * (np.abs(across) < 0.06 * radius))
        else:
            weight = strength * step(1.0, 0.8, np.hypot(dx, dy) / radius)
        window = image[y0:y1, x0:x1]
        window += weight[..., None] * (tint - window)
    return image


def background(portrait: Portrait, size: int) -> np.ndarray:
    """Float32 [size,size,3] in [0,1]."""
    p = portrait
    rng = stream(p.seed, "background")
    axis = ((np.arange(size) + 0.5) / size).astype(np.float32)
    x, y = axis[None, :], axis[:, None]
    first, second = np.array(p.background_colour, np.float32), np.array(p.background_colour2, np.float32)
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 0.45)
    ramp = 0.5 + (x - 0.5) * np.cos(angle) + (y - 0.5) * np.sin(angle)
    base = first + (reach * ramp)[..., None] * (second - first)
    scale, phase = rng.uniform(5, 11), rng.random(2)
    if p.background in ("leaves", "bokeh"):
        base = _blobs(p, base.astype(np.float32), rng)
    elif p.background != "plain":
        weight = pattern(p.background, x + phase[0], y + phase[1], scale)
        base = base + (0.45 * weight)[..., None] * (second - base)
    vignette = 1.03 - 0.35 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    return np.clip(base * vignette[..., None], 0, 1).astype(np.float32)
