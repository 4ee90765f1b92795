"""Hair, beards and buns as 3D polylines that gravity, style and the skull shape."""

from dataclasses import dataclass

import numpy as np

from wagi.portraits.head import CHART, MOUTH, bump, hairline, step, surface
from wagi.portraits.parameters import Portrait
from wagi.portraits.streams import stream

SKULL = np.array([0.745, 1.0, 0.88], np.float32)
HAT_LINE = 0.36  # height of a hat's lower rim


@dataclass(frozen=True)
class Style:
    """Length and lift in head units; gravity and curl as strengths; strands and nodes are counts."""

    length: float
    lift: float
    gravity: float
    curl: float
    strands: int
    nodes: int
    width: float


STYLES = {
    "buzz": Style(0.05, 0.6, 0.0, 0.0, 900, 3, 0.02),
    "short": Style(0.26, 0.55, 0.5, 0.1, 900, 7, 0.02),
    "spiky": Style(0.34, 1.6, -0.25, 0.0, 420, 5, 0.03),
    "bob": Style(1.0, 0.5, 1.5, 0.15, 760, 14, 0.022),
    "long": Style(1.75, 0.45, 1.6, 0.25, 760, 18, 0.022),
    "curly": Style(1.05, 1.0, 1.1, 1.0, 620, 20, 0.022),
    "afro": Style(0.42, 2.0, 0.0, 0.8, 1000, 9, 0.024),
    "bun": Style(0.75, 0.1, -0.2, 0.05, 760, 11, 0.022),
}


@dataclass
class Locks:
    """Strand nodes [S,T,3] in head space, a tint per strand [S], their width."""

    nodes: np.ndarray
    tint: np.ndarray
    width: float
    beard: bool = False


def normalise(v: np.ndarray) -> np.ndarray:
    """Unit vectors along the last axis."""
    return v / (np.sqrt((v * v).sum(-1, keepdims=True)) + 1e-9)


def _roots(portrait: Portrait, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and elevation of `count` roots on the scalp, even over the sphere."""
    azimuth = rng.uniform(-np.pi, np.pi, 4 * count)
    height = rng.uniform(-0.5, 0.999, 4 * count)
    on_scalp = np.flatnonzero(height > hairline(portrait, azimuth))[:count]
    return azimuth[on_scalp], np.arcsin(height[on_scalp])


def _push_out(pos: np.ndarray, margin: np.ndarray, under_hat: bool, ceiling: float | None) -> np.ndarray:
    """Keep points out of the skull, off the face, and inside a hat."""
    radii = SKULL * np.where(pos[:, 1:2] < 0, np.array([0.93, 1.0, 0.95], np.float32), 1)
    reach = np.sqrt(((pos / radii) ** 2).sum(1))
    below = step(-0.75, -0.4, pos[:, 1])
    scale = np.maximum(reach, 1 + margin * below - 0.25 * (1 - below)) / np.maximum(reach, 1e-6)
    if under_hat:
        tight = step(HAT_LINE - 0.3, HAT_LINE, pos[:, 1])
        scale = np.where(
            tight > 0, np.minimum(scale, (1.02 + 0.9 * (1 - tight)) / np.maximum(reach, 1e-6)), scale
        )
    # Nothing towers over the crown but what is meant to stand up.
    if ceiling is not None:
        crown = step(0.3, 0.7, pos[:, 1])
        scale = np.minimum(scale, (ceiling + 9 * (1 - crown)) / np.maximum(reach, 1e-6))
    pos = pos * scale[:, None]
    azimuth = np.arctan2(pos[:, 0], pos[:, 2])
    limit = np.where(pos[:, 1] < 0.3, 1.12, 0.0) * step(-1.3, -0.8, pos[:, 1])
    radius = np.hypot(pos[:, 0], pos[:, 2])
    turned = np.where(azimuth < 0, -1, 1) * np.maximum(np.abs(azimuth), limit)
    return np.stack([radius * np.sin(turned), pos[:, 1], radius * np.cos(turned)], 1)


def _comb(portrait: Portrait, root: np.ndarray, front: np.ndarray, fringed: np.ndarray) -> np.ndarray:
    """The direction in which a style lays its hair, [S,3]."""
    p = portrait
    if p.hair_style == "bun":
        return np.array([0.0, 1.0, -0.9]) - root * np.array([0.9, 0.6, 0.6])
    aside = np.where(root[:, 0] > 0.3 * p.part, 1.0, -1.0)
    comb = np.stack([aside * (0.9 - 0.5 * fringed), np.full(len(root), -0.5), 0.9 * fringed - 0.3 * front], 1)
    if p.hair_style == "short":
        comb[:, 0] = 0.7 * p.part + 0.2 * aside
        comb[:, 2] = np.where(root[:, 1] > 0.5, 0.8 if p.fringe > 0.5 else 0.1, -0.5)
        comb = np.where(root[:, 1:2] < 0.45, np.array([0.0, -1.3, -0.5]), comb)
    if p.hair_style == "spiky":
        comb = np.stack([0.2 * aside, np.full(len(root), 0.9), 0.1 + 0 * aside], 1)
    return comb


def grow(portrait: Portrait) -> Locks | None:
    """The hair of a portrait, or None for bald heads."""
    p = portrait
    if p.hair_style == "bald":
        return None
    style = STYLES[p.hair_style]
    rng = stream(p.seed, "strands")
    under_hat = p.hat != "none"
    azimuth, elevation = _roots(p, rng, style.strands)
    count, nodes = len(azimuth), style.nodes
    root = surface(p, azimuth, elevation)
    normal = normalise(root / SKULL**2)
    front = step(0.9, 0.3, np.abs(azimuth)) * step(0.3, 0.6, root[:, 1])
    with_fringe = p.hair_style in ("bob", "long", "short") and p.fringe > 0.5
    fringed = front * (root[:, 2] > 0.25) * with_fringe
    noise = rng.normal(size=(count, 3))
    length = style.length * p.hair_length * rng.uniform(0.82, 1.08, count)
    short_fringe = 0.12 + 0.75 * np.maximum(root[:, 1] - 0.45, 0)
    length = np.where(fringed > 0.5, np.minimum(length, short_fringe), length)
    comb = _comb(p, root, front, fringed)
    lift = style.lift * (0.6 + 0.8 * p.hair_volume) * (0.25 if under_hat else 1.0)
    direction = normalise(lift * normal + 0.8 * comb + 0.18 * noise)
    margin = (0.03 + 0.1 * p.hair_volume * min(style.lift, 1.0)) * rng.uniform(0.2, 1.0, count)
    stands = p.hair_style in ("spiky", "afro")
    ceiling = None if stands else 1.14 + 0.14 * p.hair_volume * min(style.lift, 1.0)
    pos, path = root, [root]
    stride = (length / (nodes - 1))[:, None]
    for _ in range(nodes - 1):
        direction = normalise(direction + np.array([0, -style.gravity, 0]) * stride * 3)
        pos = _push_out(pos + stride * direction, margin, under_hat, ceiling)
        path.append(pos)
    strands = np.stack(path, 1).astype(np.float32)
    strands += _waves(p, style, rng, strands, under_hat)
    locks = Locks(strands, rng.uniform(-1, 1, count).astype(np.float32), style.width)
    if p.hair_style == "bun" and not under_hat:
        _add_bun(p, rng, locks)
    return locks


def _waves(
    p: Portrait, style: Style, rng: np.random.Generator, strands: np.ndarray, under_hat: bool
) -> np.ndarray:
    """Curls and waves: a helix around each strand whose radius grows away from the root."""
    count, nodes = strands.shape[:2]
    along = np.linspace(0, 1, nodes, dtype=np.float32)[None]
    turns = (2.2 + 3.0 * style.curl) * style.length
    clumps = rng.uniform(0, 2 * np.pi, 24)[rng.integers(24, size=count)] if style.curl < 0.5 else 0
    phase = clumps + rng.uniform(0, 1.5 if style.curl < 0.5 else 6.28, count)
    angle = 2 * np.pi * turns * along + np.asarray(phase)[:, None]
    size = 0.03 * p.hair_wave * style.curl * 2 + 0.05 * style.curl * (style.curl > 0.5)
    size = size * step(0.0, 0.3, along)
    if under_hat:
        size = size * step(HAT_LINE, HAT_LINE - 0.25, strands[..., 1])
    across, along = np.cos(angle), np.sin(angle)
    return np.stack([size * across, 0.3 * size * across, size * along], -1).astype(np.float32)


def _add_bun(p: Portrait, rng: np.random.Generator, locks: Locks) -> None:
    """A knot on the crown: rings of hair around a ball."""
    count, nodes = 160, locks.nodes.shape[1]
    angle = np.linspace(0, np.pi, nodes)[None] + rng.uniform(0, 6.28, (count, 1))
    tilt = rng.normal(0, 0.6, (count, 1))
    radius = 0.24 + 0.08 * p.hair_volume + rng.uniform(-0.05, 0.01, (count, 1))
    x = radius * np.cos(angle) * np.cos(tilt)
    y = radius * 0.85 * np.sin(angle)
    z = radius * np.cos(angle) * np.sin(tilt) + 0 * angle
    ring = np.stack([x, y, z], -1) + np.array([0, 1.12, -0.3])
    depth = np.sqrt(np.maximum(radius**2 - x**2 - (y / 0.85) ** 2, 0)) * np.where(
        rng.random((count, 1)) < 0.7, 1, -1
    )
    ring[..., 2] = -0.3 + depth
    locks.nodes = np.concatenate([locks.nodes, ring.astype(np.float32)])
    locks.tint = np.concatenate([locks.tint, rng.uniform(-1, 1, count).astype(np.float32)])


def beard_mask(portrait: Portrait, x: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Density in [0,1] of the beard at chart coordinates (CHART x azimuth, height)."""
    side = np.abs(x)
    moustache = bump(height, MOUTH + 0.13 - 0.25 * side**2, 0.055) * step(0.27, 0.2, side)
    chin = step(0.34, 0.22, side) * step(MOUTH - 0.13, MOUTH - 0.2, height)
    jaw = step(-0.3, -0.5, height + 0.25 * step(0.95, 0.5, side)) * step(0.2, 0.45, side)
    jaw = np.maximum(jaw, bump(side, 0.92, 0.12) * step(0.05, -0.1, height)) * step(1.12, 1.0, side)
    goatee = np.maximum(
        moustache, np.maximum(chin, bump(side, 0.27, 0.05) * bump(height, MOUTH - 0.05, 0.14))
    )
    if portrait.beard == "moustache":
        return moustache
    if portrait.beard == "goatee":
        return goatee
    return np.maximum(goatee, jaw)


def grow_beard(portrait: Portrait) -> Locks | None:
    """Moustache, goatee or full beard as short strands; stubble is painted, not grown."""
    if portrait.beard in ("none", "stubble"):
        return None
    rng = stream(portrait.seed, "beard")
    draws = 5000
    x, height = rng.uniform(-1.1, 1.1, draws), rng.uniform(-0.96, 0.05, draws)
    chosen = np.flatnonzero(beard_mask(portrait, x, height) > rng.uniform(0.25, 1, draws))[:620]
    x, height = x[chosen], height[chosen]
    root = surface(portrait, x / CHART, np.arcsin(height))
    outward = normalise(root * np.array([1.0, 0.3, 1.0]))
    over_lip = step(MOUTH - 0.02, MOUTH + 0.06, height) * step(0.3, 0.22, np.abs(x))
    down = np.stack([0.9 * np.sign(x) * over_lip, -1 + 0.75 * over_lip, 0 * x], 1)
    length = (0.1 + 0.12 * portrait.hair_length * step(-0.5, -0.85, height)) * (1 - 0.3 * over_lip)
    along = np.linspace(0, 1, 4)[None, :, None]
    drift = 0.25 * rng.normal(size=(len(x), 1, 3))
    path = root[:, None] + length[:, None, None] * along * (
        down[:, None] + drift + outward[:, None] * (0.7 - 0.3 * along)
    )
    return Locks(path.astype(np.float32), rng.uniform(-1, 1, len(x)).astype(np.float32), 0.02, beard=True)
