"""From parameters to pixels: places everything in the world, rasterises once, shades what is visible."""

import numpy as np

from wagi.portraits import accessories, hair, head, raster, texture
from wagi.portraits.background import background, pattern
from wagi.portraits.head import bump, step
from wagi.portraits.parameters import Portrait
from wagi.portraits.raster import Camera, Fragments, Mesh, Strands
from wagi.portraits.shading import Light, shade_locks, shade_meshes
from wagi.portraits.streams import stream

LABELS = ("background", "clothes and neck", "face", "eyes", "mouth", "hair", "hat", "letters", "accessory")
CLOTHES, SKIN, HAIR = 1, 2, 5
# Pinned in the picture: behind the eye-mouth centre, so that a turned head stays inside the frame.
PIN = np.array([0.0, -0.18, 0.42], np.float32)
FRAME = (0.5, 0.57)
UNIT = 0.33


class Placement:
    """Turns head space and body space into the world."""

    def __init__(self, p: Portrait) -> None:
        self.turn = head.rotation(p.yaw, p.pitch, p.roll)
        self.base = (np.array([0, -0.6, -0.18], np.float32) - PIN) @ self.turn.T
        self.body_turn = head.rotation(0.35 * p.yaw, 0, 0)

    def head(self, points: np.ndarray) -> np.ndarray:
        """Head space to world."""
        return (points - PIN) @ self.turn.T

    def body(self, points: np.ndarray) -> np.ndarray:
        """Body space (origin at the base of the skull) to world."""
        return points @ self.body_turn.T + self.base


def _head_paint(p: Portrait, size: int):
    """Painted face, hairline and shadows; chart = (CHART x azimuth, height, 0)."""
    albedo, labels = texture.face_texture(p, size)
    tone = texture.skin_tone(p).astype(np.float32)
    scalp = 0.55 * np.array(p.hair_colour, np.float32)
    grain = stream(p.seed, "scalp").uniform(0.8, 1.15, 512).astype(np.float32)
    cover = {"bald": 0.0, "buzz": 0.8}.get(p.hair_style, 0.93)

    def paint(chart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, y = chart[:, 0], chart[:, 1]
        column = (x + texture.EXTENT) / (2 * texture.EXTENT) * (size - 1)
        row = (texture.EXTENT - y) / (2 * texture.EXTENT) * (size - 1)
        inside = (np.abs(x) < texture.EXTENT * 0.99)[:, None]
        colour = np.where(inside, accessories.bilinear(albedo, column, row), tone)
        nearest = np.clip(np.stack([row, column]) + 0.5, 0, size - 1).astype(np.int32)
        label = np.where(inside[:, 0], labels[nearest[0], nearest[1]], SKIN).astype(np.uint8)
        azimuth = x / head.CHART
        line = head.hairline(p, azimuth)
        if p.hat != "none":
            under = 0.42 * step(0.02, 0.34, y) * step(2.2, 1.2, np.abs(azimuth))
            colour = colour * (1 - under[:, None])
        elif cover:
            colour = colour * (1 - 0.2 * step(line - 0.16, line, y))[:, None]
        colour = colour * (1 - 0.35 * step(-0.8, -1.0, y))[:, None]
        strands = grain[(np.abs(azimuth * 70).astype(np.int32) * 7) % 512]
        weight = cover * step(line - 0.03, line + 0.05, y)
        colour = colour + weight[:, None] * (scalp * strands[:, None] - colour)
        label[weight > 0.5] = HAIR
        return colour, label

    return paint


def _neck_paint(p: Portrait):
    """Skin in the shade of the chin; chart = (azimuth, 0 at the jaw .. 1 at the collar, 0)."""
    tone = texture.skin_tone(p).astype(np.float32)

    def paint(chart: np.ndarray) -> tuple[np.ndarray, int]:
        shade = 1 - 0.42 * step(0.85, 0.2, chart[:, 1]) * step(2.4, 0.6, np.abs(chart[:, 0]))
        throat = 1 - 0.08 * bump(np.abs(chart[:, 0]), 0.35, 0.12) * step(0.3, 0.8, chart[:, 1])
        return tone * (shade * throat)[:, None] * np.array([1.0, 0.95, 0.93], np.float32), CLOTHES

    return paint


def _clothes_paint(p: Portrait):
    """Cloth with a pattern; chart = body space (x, y) and the distance from the collar."""
    first, second = (np.array(c, np.float32) for c in (p.clothes_colour, p.clothes_colour2))

    def paint(chart: np.ndarray) -> tuple[np.ndarray, int]:
        x, y = chart[:, 0], chart[:, 1]
        turned = (0.8 * y, y) if p.clothes == "stripes" else (x, y)
        weight = pattern(p.clothes, turned[0], turned[1], 5.0)
        weight = np.maximum(weight, step(0.06, 0.04, chart[:, 2]))
        fold = 1 - 0.1 * bump(np.abs(x), 0.62, 0.1) * step(0.2, 0.5, chart[:, 2])
        return (first + weight[:, None] * (second - first)) * fold[:, None], CLOTHES

    return paint


def _body(p: Portrait, place: Placement) -> list[Mesh]:
    """Neck (a cylinder that starts inside the head) and shoulders, in body space."""
    azimuth = np.linspace(-np.pi, np.pi, 41)[None, :]
    t = np.linspace(0, 1, 14)[:, None]
    thick = p.head_width * (0.4 + 0.03 * p.jaw) * (1 + 0.28 * (2 * t - 1) ** 4 * (t > 0.5))
    neck = np.stack(
        [
            thick * np.sin(azimuth),
            0.12 - 0.95 * t + 0 * azimuth,
            -0.05 - 0.1 * t + 0.95 * thick * np.cos(azimuth),
        ],
        -1,
    )
    chart = np.stack([azimuth + 0 * t, t + 0 * azimuth, 0 * t * azimuth], -1)
    meshes = [
        Mesh(
            place.body(neck.astype(np.float32)),
            chart.astype(np.float32),
            _neck_paint(p),
            closed=True,
            skin=True,
        )
    ]
    s = np.linspace(0, 1, 22)[:, None]
    broad = 0.48 + (0.88 * step(0.02, 0.62, s) + 0.08 * s) * (1.05 if p.beard != "none" else 0.97)
    deep = 0.45 + 0.2 * step(0.0, 0.7, s)
    drop = -0.62 - 0.12 * s - 1.3 * step(0.3, 1.15, s) - 0.06 * np.cos(azimuth) * (1 - s)
    bust = np.stack([broad * np.sin(azimuth), drop, -0.12 + deep * np.cos(azimuth)], -1)
    chart = np.stack([bust[..., 0], bust[..., 1], s + 0 * azimuth], -1).astype(np.float32)
    meshes.append(
        Mesh(place.body(bust.astype(np.float32)), chart, _clothes_paint(p), closed=True, two_sided=True)
    )
    return meshes


def _head_meshes(p: Portrait, place: Placement, texture_size: int) -> list[Mesh]:
    azimuth, elevation = head.head_grid()
    points = head.surface(p, azimuth, elevation)
    chart = np.stack([head.CHART * azimuth, np.sin(elevation), 0 * azimuth], -1).astype(np.float32)
    meshes = [Mesh(points, chart, _head_paint(p, texture_size), closed=True, skin=True)]
    tone = texture.skin_tone(p) * [1.0, 0.93, 0.92]
    for side in (-1, 1):
        shape = head.ear(p, side)
        meshes.append(Mesh(shape, 0 * shape, accessories.plain(tone, SKIN), closed=True, skin=True))
    meshes += accessories.hat(p) + accessories.glasses(p) + accessories.earrings(p)
    meshes += accessories.rare(p, texture.skin_tone(p))
    for mesh in meshes:
        mesh.points = place.head(mesh.points).astype(np.float32)
    return meshes


def _strands(p: Portrait, place: Placement, light: Light) -> list[Strands]:
    """Hair and beard, shaded, in the world."""
    result = []
    for locks in (hair.grow(p), hair.grow_beard(p)):
        if locks is not None:
            world = place.head(locks.nodes).astype(np.float32)
            colours = shade_locks(p, locks, world, place.turn, light)
            result.append(Strands(world, colours, locks.width, HAIR))
    return result


def _draw(portrait: Portrait, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Colours [P,P,3] float32 and labels [P,P] uint8 at the supersampled size."""
    place, light = Placement(portrait), Light(portrait)
    camera = Camera(pixels, UNIT * pixels, (FRAME[0] * pixels, FRAME[1] * pixels))
    texture_size = 208 if pixels <= 320 else 416
    meshes = _head_meshes(portrait, place, texture_size) + _body(portrait, place)
    opaque, clear = [m for m in meshes if m.alpha == 1], [m for m in meshes if m.alpha < 1]
    strands = _strands(portrait, place, light)
    vertices = raster.gather(opaque, camera)
    fragments = Fragments()
    raster.rasterise(fragments, vertices, pixels)
    offset = len(vertices.faces)
    starts = [offset]
    for locks in strands:
        raster.rasterise_strands(fragments, camera, locks, offset)
        offset += locks.nodes.shape[0] * (locks.nodes.shape[1] - 1)
        starts.append(offset)
    pixel, depth, source, second, third = raster.resolve(fragments, pixels)
    image = background(portrait, pixels).reshape(-1, 3)
    labels = np.zeros(pixels * pixels, np.uint8)
    solid = np.flatnonzero(source < starts[0])
    image[pixel[solid]], labels[pixel[solid]] = shade_meshes(
        opaque, light, vertices, source[solid], second[solid], third[solid]
    )
    for number, locks in enumerate(strands):
        chosen = np.flatnonzero((source >= starts[number]) & (source < starts[number + 1]))
        before = locks.colours[:, :-1].reshape(-1, 3)[source[chosen] - starts[number]]
        after = locks.colours[:, 1:].reshape(-1, 3)[source[chosen] - starts[number]]
        image[pixel[chosen]] = before + second[chosen, None] * (after - before)
        labels[pixel[chosen]] = locks.label
    nearest = np.full(pixels * pixels, -99, np.float32)
    nearest[pixel] = depth
    _glaze(clear, camera, light, nearest, image, labels)
    return np.clip(image, 0, 1).reshape(pixels, pixels, 3), labels.reshape(pixels, pixels)


def _glaze(
    meshes: list[Mesh],
    camera: Camera,
    light: Light,
    nearest: np.ndarray,
    image: np.ndarray,
    labels: np.ndarray,
) -> None:
    """Blend transparent meshes over what is already drawn, where they lie in front."""
    if not meshes:
        return
    vertices = raster.gather(meshes, camera)
    fragments = Fragments()
    raster.rasterise(fragments, vertices, camera.size)
    if not sum(map(len, fragments.pixel)):
        return
    pixel, depth, source, second, third = raster.resolve(fragments, camera.size)
    front = np.flatnonzero(depth > nearest[pixel])
    pixel = pixel[front]
    colours, kinds = shade_meshes(meshes, light, vertices, source[front], second[front], third[front])
    alpha = np.array([m.alpha for m in meshes], np.float32)[vertices.owner[source[front]]][:, None]
    image[pixel] += alpha * (colours - image[pixel])
    labels[pixel] = np.where(alpha[:, 0] > 0.5, kinds, labels[pixel])


def _reduce_labels(labels: np.ndarray, factor: int) -> np.ndarray:
    """The commonest label of each block."""
    if factor == 1:
        return labels
    parts = [labels[i::factor, j::factor] for i in range(factor) for j in range(factor)]
    best, votes = parts[0].copy(), np.zeros(parts[0].shape, np.uint8)
    for label in range(len(LABELS)):
        count = sum((part == label).astype(np.uint8) for part in parts)
        better = count > votes
        best[better], votes[better] = label, count[better]
    return best


def render_both(portrait: Portrait, size: int, supersample: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Picture uint8 [size,size,3] and labels uint8 [size,size] (see LABELS) in one pass.

    Raises ValueError for a size below 16 or a supersampling factor below 1.
    """
    if size < 16 or supersample < 1:
        raise ValueError(f"size {size} (at least 16) and supersample {supersample} (at least 1) are needed")
    image, labels = _draw(portrait, size * supersample)
    steps = range(supersample)
    image = sum(image[i::supersample, j::supersample] for i in steps for j in steps) / supersample**2
    return np.rint(255 * image).astype(np.uint8), _reduce_labels(labels, supersample)


def render(portrait: Portrait, size: int, supersample: int = 2) -> np.ndarray:
    """The picture, uint8 [size,size,3]. Equal arguments give equal pixels."""
    return render_both(portrait, size, supersample)[0]


def render_regions(portrait: Portrait, size: int, supersample: int = 2) -> np.ndarray:
    """Labels of the pixels, uint8 [size,size], indices into LABELS."""
    return render_both(portrait, size, supersample)[1]
