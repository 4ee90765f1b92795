"""The motion between two views of a portrait: the renderer's true flow."""

from dataclasses import replace

import numpy as np

from wagi.portraits import hair, raster
from wagi.portraits.parameters import Portrait
from wagi.portraits.raster import Camera, Fragments, Strands, Vertices
from wagi.portraits.scene import FRAME, HAIR, UNIT, Placement, _body, _head_meshes

_TEXTURE = 16  # pixels of the paint, which nobody sees
_NEAR = 0.08  # world units by which a point may lie behind what is drawn and still be seen


class _View:
    """One view's geometry: vertices of the opaque meshes, strands, and what is nearest in each pixel."""

    def __init__(self, p: Portrait, locks: list[hair.Locks], size: int) -> None:
        place = Placement(p)
        self.camera = Camera(size, UNIT * size, (FRAME[0] * size, FRAME[1] * size))
        meshes = [m for m in _head_meshes(p, place, _TEXTURE) + _body(p, place) if m.alpha == 1]
        self.vertices: Vertices = raster.gather(meshes, self.camera)
        self.strands = [
            Strands(world, world, one.width, HAIR)
            for one in locks
            for world in [place.head(one.nodes).astype(np.float32)]
        ]
        fragments = Fragments()
        raster.rasterise(fragments, self.vertices, size)
        self.starts = [len(self.vertices.faces)]
        for strands in self.strands:
            raster.rasterise_strands(fragments, self.camera, strands, self.starts[-1])
            self.starts.append(self.starts[-1] + strands.nodes.shape[0] * (strands.nodes.shape[1] - 1))
        self.pixel, depth, self.source, self.second, self.third = raster.resolve(fragments, size)
        self.nearest = np.full(size * size, -np.inf, np.float32)
        self.nearest[self.pixel] = depth


def motion(after: Portrait, before: Portrait, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The motion from `before` to `after`: flow float32 [2, size, size], seen bool [size, size].

    Pixel p of `after` shows what lies at p + flow(p), (x, y) in pixels, when the same person has the yaw,
    pitch and roll of `before`; seen: nothing hides it there. Glasses' lenses and other clear things are left
    out. The background stays where it is.
    """
    turned = replace(after, yaw=before.yaw, pitch=before.pitch, roll=before.roll)
    locks = [one for one in (hair.grow(after), hair.grow_beard(after)) if one is not None]
    here, there = (_View(p, locks, size) for p in (after, turned))
    y, x = (v.ravel().astype(np.float32) + 0.5 for v in np.mgrid[0:size, 0:size])
    place = np.stack([x, y, np.full(size * size, -np.inf, np.float32)])
    solid = np.flatnonzero(here.source < here.starts[0])
    corners = here.vertices.faces[here.source[solid]]
    vertices = np.stack([there.vertices.x, there.vertices.y, there.vertices.depth])
    a, b, c = (vertices[:, corners[:, k]] for k in range(3))
    place[:, here.pixel[solid]] = a + here.second[solid] * (b - a) + here.third[solid] * (c - a)
    for number, strands in enumerate(there.strands):
        chosen = np.flatnonzero(
            (here.source >= here.starts[number]) & (here.source < here.starts[number + 1])
        )
        nodes = np.stack(there.camera.project(strands.nodes))
        first, last = nodes[:, :, :-1].reshape(3, -1), nodes[:, :, 1:].reshape(3, -1)
        segment = here.source[chosen] - here.starts[number]
        place[:, here.pixel[chosen]] = first[:, segment] + here.second[chosen] * (last - first)[:, segment]
    column, row = np.floor(place[:2]).astype(np.int64)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    nearest = there.nearest[np.where(inside, row * size + column, 0)]
    seen = inside & ((place[2] >= nearest - _NEAR) | ~np.isfinite(nearest))
    flow = np.stack([place[0] - x, place[1] - y]).reshape(2, size, size).astype(np.float32)
    return flow, seen.reshape(size, size)
