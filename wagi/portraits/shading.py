"""Light on surfaces and on hair."""

import numpy as np

from wagi.portraits.hair import SKULL, Locks, normalise
from wagi.portraits.head import step
from wagi.portraits.parameters import Portrait
from wagi.portraits.raster import Mesh, Vertices


class Light:
    """Key light, sky and ground, with a warm or cold tint."""

    def __init__(self, p: Portrait) -> None:
        azimuth, elevation = p.light_azimuth, p.light_elevation
        self.key = np.array(
            [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)],
            np.float32,
        )
        self.tint = np.array([1 + 0.06 * p.light_warmth, 1.0, 1 - 0.08 * p.light_warmth], np.float32)
        self.strength = np.float32(0.55 + 0.38 * p.light_contrast)
        self.ambient = np.float32(0.64 - 0.3 * p.light_contrast)
        half = self.key + np.array([0, 0, 1], np.float32)
        self.half = half / np.linalg.norm(half)

    def shade(
        self, albedo: np.ndarray, normals: np.ndarray, skin: np.ndarray, gloss: np.ndarray
    ) -> np.ndarray:
        """Colours [n,3]. Skin wraps its light, red furthest, as scattering below the surface does."""
        facing = normals @ self.key
        wrap = np.where(skin[:, None], np.array([0.55, 0.36, 0.3], np.float32), np.float32(0.2))
        diffuse = np.clip((facing[:, None] + wrap) / (1 + wrap), 0, 1)
        sky = 0.8 + 0.2 * normals[:, 1:2]
        colour = albedo * (self.strength * self.tint * diffuse + self.ambient * sky + 0.08)
        shine = np.clip(normals @ self.half, 0, 1)
        colour += (gloss * shine**40 + np.where(skin, 0.07 * shine**9, 0.0))[:, None]
        edge = (1 - np.clip(normals[:, 2], 0, 1)) ** 3
        colour *= 1 - 0.22 * edge[:, None] * skin[:, None]
        # A soft shoulder: highlights roll off towards white without clipping flat.
        over = np.maximum(colour - 0.78, 0)
        return colour - over + 0.22 * (1 - np.exp(-over / 0.22))


def shade_locks(p: Portrait, locks: Locks, world: np.ndarray, turn: np.ndarray, light: Light) -> np.ndarray:
    """Colours [S,T,3] of hair with nodes at world [S,T,3] (light across a strand: Kajiya and Kay 1989)."""
    nodes = locks.nodes
    outward = normalise(nodes * np.array([1.0, 0.8, 1.0], np.float32)) @ turn.T
    tangent = normalise(np.gradient(world, axis=1))
    along = tangent @ light.key
    across = np.sqrt(np.clip(1 - along**2, 0, 1))
    shine = np.sqrt(np.clip(1 - (tangent @ light.half) ** 2, 0, 1)) ** 40
    facing = np.clip((outward @ light.key + 0.45) / 1.45, 0, 1)
    reach = np.sqrt(((nodes / SKULL) ** 2).sum(-1))
    depth = 0.5 + 0.5 * step(0.98, 1.2, reach)
    if p.hair_style in ("buzz", "short") or locks.beard:
        depth = 0.75 + 0.25 * depth
    base = np.array(p.hair_colour, np.float32) * (1 + 0.28 * locks.tint[:, None, None])
    glow = (0.45 + 0.55 * across) * facing * light.strength * 1.25 + light.ambient * 0.9
    colours = base * (glow * depth)[..., None] * light.tint
    colours += (0.16 * shine * facing * depth)[..., None] * (0.5 + 0.5 * base)
    return np.clip(colours, 0, 1).astype(np.float32)


def shade_meshes(
    meshes: list[Mesh],
    light: Light,
    vertices: Vertices,
    source: np.ndarray,
    second: np.ndarray,
    third: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Colours [n,3] and labels [n] of visible pixels, given the face and barycentrics of each."""
    corner = vertices.faces[source]
    second, third = second[:, None].astype(np.float32), third[:, None].astype(np.float32)
    mix = [
        values[corner[:, 0]] * (1 - second - third)
        + values[corner[:, 1]] * second
        + values[corner[:, 2]] * third
        for values in (vertices.normals, vertices.charts)
    ]
    normal = normalise(mix[0])
    normal = np.where(normal[:, 2:] < 0, -normal, normal)
    owners = vertices.owner[source]
    albedo, labels = np.empty((len(source), 3), np.float32), np.empty(len(source), np.uint8)
    for number in np.unique(owners):
        chosen = np.flatnonzero(owners == number)
        albedo[chosen], labels[chosen] = meshes[number].paint(mix[1][chosen])
    skin = np.array([m.skin for m in meshes])[owners]
    gloss = np.array([m.gloss for m in meshes], np.float32)[owners]
    return light.shade(albedo, normal.astype(np.float32), skin, gloss), labels
