"""The head: a star-shaped surface with Gaussian features, and ears. Unit: half the head's height."""

import functools

import numpy as np

from wagi.portraits.parameters import Portrait

Floats = float | np.ndarray
CHART = 0.7  # chart coordinate per radian of azimuth: about the x coordinate near the middle of the face
EYES = 0.1  # height of the eyes
MOUTH = -0.47
# Hairline: |azimuth| (radians) against height.
_HAIRLINE = (
    np.array([0.0, 0.6, 0.95, 1.15, 1.3, 1.45, 1.8, 2.0, 3.2]),
    np.array([0.66, 0.62, 0.42, 0.2, -0.02, 0.1, 0.05, -0.4, -0.5]),
)


def step(low: Floats, high: Floats, x: Floats) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high` (which may lie below `low`)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(x: Floats, centre: float, width: Floats) -> np.ndarray:
    """Gaussian with value 1 at `centre`."""
    return np.exp(-(((x - centre) / width) ** 2))


def hairline(portrait: Portrait, azimuth: np.ndarray) -> np.ndarray:
    """Height above which hair grows."""
    front = bump(azimuth, 0, 0.8)
    return np.interp(np.abs(azimuth), *_HAIRLINE) + front * (0.05 * portrait.hairline + 0.05)


def surface(portrait: Portrait, azimuth: np.ndarray, elevation: np.ndarray) -> np.ndarray:
    """Points [...,3] of the skin for given directions; azimuth 0 is the nose, elevation pi/2 the crown."""
    p = portrait
    ring = np.sign(np.cos(elevation)) * np.abs(np.cos(elevation)) ** np.where(elevation < 0, 0.8, 0.94)
    height = np.sin(elevation)
    front = np.cos(azimuth)
    low = step(0.05, -1.0, height)
    x = 0.74 * p.head_width * ring * np.sin(azimuth) * (1 - (0.3 - 0.09 * p.jaw) * low)
    z = ring * front * np.where(front > 0, 0.8, 0.92)
    back = step(0.35, -0.6, front)
    y = np.where(height < 0, height * (1 - 0.36 * back * step(0, -0.5, height)), height)
    y = y - 0.05 * p.chin * bump(height, -0.95, 0.35) * (front > 0) * front
    side = np.abs(x) / p.head_width
    face = step(0.0, 0.45, ring * front)
    tip = -0.17 - 0.05 * p.nose_length
    ridge = np.where(height > tip, step(0.3, tip, height), bump(height, tip, 0.085))
    wide = 0.075 + 0.015 * p.nose_width + 0.04 * step(0.1, tip, height)
    spread = 0.29 + 0.02 * p.eye_spacing
    smile = max(p.smile, 0)
    relief = (
        0.24 * ridge * bump(side, 0, wide)
        + 0.045 * bump(side, 0.105 + 0.02 * p.nose_width, 0.06) * bump(height, tip - 0.03, 0.07)
        - 0.1 * bump(height, EYES, 0.12) * bump(side, spread, 0.16)
        + 0.03 * bump(height, EYES, 0.07) * bump(side, spread, 0.1)
        + 0.05 * bump(height, 0.26 + 0.02 * p.brow_height, 0.08) * bump(side, 0.26, 0.24)
        + (0.045 + 0.02 * p.cheeks + 0.04 * smile) * bump(height, -0.17, 0.16) * bump(side, 0.4, 0.17)
        + 0.055 * bump(height, MOUTH, 0.17) * bump(side, 0, 0.27)
        + 0.04
        * p.lips
        * (bump(height, MOUTH + 0.05, 0.04) + bump(height, MOUTH - 0.06, 0.05))
        * bump(side, 0, 0.19)
        - 0.03 * bump(height, MOUTH - 0.15, 0.05) * bump(side, 0, 0.2)
        + (0.1 + 0.03 * p.chin) * bump(height, -0.82, 0.17) * bump(side, 0, 0.26)
        - 0.03 * smile * bump(side, 0.27, 0.06) * bump(height, MOUTH + 0.05, 0.12)
    )
    return np.stack([x, y, z + face * relief], -1).astype(np.float32)


@functools.lru_cache(maxsize=4)
def head_grid(columns: int = 96, rows: int = 84) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and elevation [rows, columns], denser in front, last column closing the ring."""
    t = np.linspace(-1, 1, columns)
    azimuth = np.pi * (0.55 * t + 0.45 * t**3)
    elevation = np.linspace(1.567, -1.567, rows)
    return np.broadcast_to(azimuth, (rows, columns)), np.broadcast_to(elevation[:, None], (rows, columns))


def rotation(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """3x3 matrix; positive yaw turns the nose to the right of the picture, positive pitch lifts it."""
    cy, sy, cp, sp, cr, sr = (
        np.cos(yaw),
        np.sin(yaw),
        np.cos(pitch),
        np.sin(pitch),
        np.cos(roll),
        np.sin(roll),
    )
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
    tilt = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return (tilt @ nod @ turn).astype(np.float32)


def sphere(centre, radii, rows: int = 10, columns: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """Ellipsoid grid points [rows, columns, 3] and chart (azimuth, elevation, 0)."""
    azimuth, elevation = np.meshgrid(np.linspace(-np.pi, np.pi, columns), np.linspace(1.56, -1.56, rows))
    ring = np.cos(elevation)
    unit = np.stack([ring * np.sin(azimuth), np.sin(elevation), ring * np.cos(azimuth)], -1)
    chart = np.stack([azimuth, elevation, 0 * ring], -1)
    return (unit * np.asarray(radii) + np.asarray(centre)).astype(np.float32), chart.astype(np.float32)


def tube(path: np.ndarray, radius: float, sides: int = 7) -> np.ndarray:
    """Grid points [T, sides, 3] of a round tube along path [T,3]."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    helper = np.array([0.31, 0.23, 0.92]) if abs(tangent[:, 2]).max() < 0.95 else np.array([0.9, 0.4, 0.1])
    first = np.cross(tangent, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-9
    second = np.cross(tangent, first)
    angle = np.linspace(0, 2 * np.pi, sides)[None, :, None]
    ring = np.cos(angle) * first[:, None] + np.sin(angle) * second[:, None]
    return (path[:, None] + radius * ring).astype(np.float32)


def ear(portrait: Portrait, side: int) -> np.ndarray:
    """A flattened, tilted ellipsoid with a hollow; side is -1 or 1."""
    points, chart = sphere((0, 0, 0), (0.07, 0.21, 0.14), 14, 17)
    hollow = bump(chart[..., 0], side * 1.2, 0.7) * bump(chart[..., 1], 0.1, 0.6)
    points[..., 0] -= side * 0.07 * hollow
    points[..., 2] -= 0.25 * points[..., 1]
    points[..., 2] *= np.where(points[..., 1] < -0.1, 0.8, 1.0)
    points[..., 0] -= side * 0.35 * points[..., 2]
    return points + np.array([side * 0.735 * portrait.head_width, 0.0, -0.06], np.float32)


def lobe(portrait: Portrait, side: int) -> np.ndarray:
    """The place of an earring, [3]."""
    return np.array([side * 0.75 * portrait.head_width, -0.2, 0.02], np.float32)
