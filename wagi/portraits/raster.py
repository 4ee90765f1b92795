"""A z-buffer in numpy: grid meshes and thick polylines become fragments, the nearest fragment wins its pixel.

Everything is vectorised over fragments, with no drawing library, so pictures are the same on every machine.
World axes: x to the right, y up, z towards the viewer.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Paint = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | int]]


@dataclass
class Mesh:
    """A surface over a grid. points [R,C,3] in world space; chart [R,C,3] is what `paint` sees per pixel.

    `paint(chart [n,3]) -> (albedo [n,3], label [n] or int)`. Columns close on themselves when `closed`
    (the last column repeats the first). Only `two_sided` meshes show their inside.
    """

    points: np.ndarray
    chart: np.ndarray
    paint: Paint
    closed: bool = False
    two_sided: bool = False
    skin: bool = False
    gloss: float = 0.0
    alpha: float = 1.0


@dataclass
class Strands:
    """Polylines: nodes [S,T,3] in world space, shaded colours [S,T,3], width in world units."""

    nodes: np.ndarray
    colours: np.ndarray
    width: float
    label: int


@dataclass
class Camera:
    """Weak perspective with the world's origin pinned at `centre` (pixels); `unit` pixels per world unit."""

    size: int
    unit: float
    centre: tuple[float, float]

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World [...,3] -> x, y in pixels and depth (larger is nearer)."""
        scale = self.unit / (1 - 0.07 * np.clip(points[..., 2], -4, 4))
        return (
            self.centre[0] + scale * points[..., 0],
            self.centre[1] - scale * points[..., 1],
            points[..., 2],
        )


@functools.lru_cache(maxsize=64)
def _grid_faces(rows: int, columns: int) -> np.ndarray:
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b = index[:-1, :-1].ravel(), index[:-1, 1:].ravel()
    c, d = index[1:, :-1].ravel(), index[1:, 1:].ravel()
    return np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])


def grid_normals(mesh: Mesh) -> np.ndarray:
    """Unit normals [R,C,3] by central differences; outward for closed surfaces."""
    points = mesh.points
    if mesh.closed:
        ring = np.concatenate([points[:, -2:-1], points, points[:, 1:2]], axis=1)
        across = ring[:, 2:] - ring[:, :-2]
    else:
        across = np.gradient(points, axis=1)
    down = np.gradient(points, axis=0)
    normals = np.cross(across, down)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9
    outward = (normals * (points - points.mean(axis=(0, 1)))).sum()
    return (normals if outward >= 0 else -normals).astype(np.float32)


@dataclass
class Vertices:
    """All meshes together: x, y, depth [V], normals and charts [V,3]; faces [F,3], their mesh [F]."""

    x: np.ndarray
    y: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    charts: np.ndarray
    faces: np.ndarray
    owner: np.ndarray


def gather(meshes: list[Mesh], camera: Camera) -> Vertices:
    """Put all meshes into one list of vertices and of the faces that may show."""
    columns: tuple[list[np.ndarray], ...] = ([], [], [], [], [], [], [])
    offset = 0
    for number, mesh in enumerate(meshes):
        x, y, depth = (v.ravel() for v in camera.project(mesh.points))
        normals = grid_normals(mesh).reshape(-1, 3)
        faces = _grid_faces(*mesh.points.shape[:2])
        if not mesh.two_sided:
            toward = (normals[:, 2] > -0.15)[faces]
            faces = faces[toward[:, 0] | toward[:, 1] | toward[:, 2]]
        floats = [v.astype(np.float32) for v in (x, y, depth, normals, mesh.chart.reshape(-1, 3))]
        owner = np.full(len(faces), number, np.int32)
        for column, value in zip(columns, [*floats, faces + offset, owner], strict=True):
            column.append(value)
        offset += len(x)
    return Vertices(*map(np.concatenate, columns))


@dataclass
class Fragments:
    """Covered pixels, and by what: flat index, depth and source (face and barycentrics, or segment and t)."""

    pixel: list[np.ndarray] = field(default_factory=list)
    depth: list[np.ndarray] = field(default_factory=list)
    source: list[np.ndarray] = field(default_factory=list)
    first: list[np.ndarray] = field(default_factory=list)
    second: list[np.ndarray] = field(default_factory=list)

    def add(self, *batch: np.ndarray) -> None:
        """Append one batch: pixel, depth, source, first, second."""
        stores = (self.pixel, self.depth, self.source, self.first, self.second)
        for store, values in zip(stores, batch, strict=True):
            store.append(values)


def _pixel_span(corners: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """First pixel centre and number of pixel centres between the extremes of corners [F,3]."""
    first, second, third = corners[:, 0], corners[:, 1], corners[:, 2]
    low = np.minimum(np.minimum(first, second), third) - np.float32(0.5)
    high = np.maximum(np.maximum(first, second), third) - np.float32(0.5)
    start = np.maximum(np.ceil(low), 0).astype(np.int32)
    return start, np.minimum(np.floor(high), size - 1).astype(np.int32) - start + 1


def rasterise(fragments: Fragments, vertices: Vertices, size: int) -> None:
    """Add the pixels of all triangles of a picture of size x size."""
    faces = vertices.faces
    fx, fy, fz = vertices.x[faces], vertices.y[faces], vertices.depth[faces]
    area = (fx[:, 1] - fx[:, 0]) * (fy[:, 2] - fy[:, 0]) - (fx[:, 2] - fx[:, 0]) * (fy[:, 1] - fy[:, 0])
    left, width = _pixel_span(fx, size)
    top, height = _pixel_span(fy, size)
    keep = np.flatnonzero((width > 0) & (height > 0) & (np.abs(area) > 1e-9))
    fx, fy, fz, area, left, top, width = (v[keep] for v in (fx, fy, fz, area, left, top, width))
    count = width * height[keep]
    face = np.repeat(np.arange(len(keep)), count)
    local = np.arange(len(face)) - np.repeat(np.cumsum(count) - count, count)
    row = local // width[face]
    px = left[face] + local - row * width[face]
    py = top[face] + row
    ax, ay = fx[:, 0] - 0.5, fy[:, 0] - 0.5
    edge = (
        np.stack([fy[:, 2] - fy[:, 0], fx[:, 0] - fx[:, 2], fy[:, 0] - fy[:, 1], fx[:, 1] - fx[:, 0]], 1)
        / area[:, None]
    )
    dx, dy = px - ax[face], py - ay[face]
    e = edge[face]
    second = dx * e[:, 0] + dy * e[:, 1]
    third = dx * e[:, 2] + dy * e[:, 3]
    inside = np.flatnonzero((second >= -1e-5) & (third >= -1e-5) & (second + third <= 1 + 1e-5))
    face, second, third = face[inside], second[inside], third[inside]
    z = fz[face]
    nearness = z[:, 0] + second * (z[:, 1] - z[:, 0]) + third * (z[:, 2] - z[:, 0])
    fragments.add(py[inside] * size + px[inside], nearness, keep[face], second, third)


def rasterise_strands(fragments: Fragments, camera: Camera, strands: Strands, offset: int) -> None:
    """Add thick polylines: samples a pixel apart, widened across their main direction."""
    x, y, depth = (v.astype(np.float32) for v in camera.project(strands.nodes))
    dx, dy, dz = np.diff(x, axis=1), np.diff(y, axis=1), np.diff(depth, axis=1)
    length = np.maximum(np.abs(dx), np.abs(dy)).ravel()
    count = np.maximum(np.ceil(length).astype(np.int32), 1)
    segment = np.repeat(np.arange(count.size, dtype=np.int32), count)
    local = np.arange(segment.size) - np.repeat(np.cumsum(count) - count, count)
    t = ((local + 0.5) / count[segment]).astype(np.float32)
    flat = [v[:, :-1].ravel()[segment] + t * d.ravel()[segment] for v, d in ((x, dx), (y, dy), (depth, dz))]
    flatness = (np.abs(dx) > np.abs(dy)).ravel()[segment]
    wide = max(int(round(strands.width * camera.unit)), 1)
    for step in range(wide):
        shift = np.float32(step - 0.5 * (wide - 1))
        px = np.floor(flat[0] + np.where(flatness, 0, shift)).astype(np.int32)
        py = np.floor(flat[1] + np.where(flatness, shift, 0)).astype(np.int32)
        good = np.flatnonzero((px >= 0) & (py >= 0) & (px < camera.size) & (py < camera.size))
        pixel = py[good] * camera.size + px[good]
        bulge = np.float32(-0.002 * abs(shift))
        fragments.add(pixel, flat[2][good] + bulge, segment[good] + offset, t[good], t[good])


def resolve(fragments: Fragments, size: int) -> tuple[np.ndarray, ...]:
    """Nearest fragment of each covered pixel: pixel, depth, source, first, second."""
    pixel = np.concatenate(fragments.pixel)
    depth = np.concatenate(fragments.depth).astype(np.float64)
    key = (((depth + 16) * (1 << 20)).astype(np.int64) << 32) | np.arange(pixel.size)
    nearest = np.full(size * size, -1, np.int64)
    np.maximum.at(nearest, pixel, key)
    covered = np.flatnonzero(nearest >= 0)
    winner = nearest[covered] & 0xFFFFFFFF
    rest = (np.concatenate(v)[winner] for v in (fragments.source, fragments.first, fragments.second))
    return covered, depth[winner].astype(np.float32), *rest
