"""Hats with letters, glasses, earrings and the rare things, as meshes in head space."""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wagi.portraits.hair import HAT_LINE
from wagi.portraits.head import EYES, bump, lobe, sphere, step, surface, tube
from wagi.portraits.parameters import Portrait
from wagi.portraits.raster import Mesh, Paint
from wagi.portraits.streams import stream

HAT, LETTERS, ACCESSORY = 6, 7, 8
LETTER_SPAN = 0.86  # half the width of the lettering, in radians around the hat


def plain(colour, label: int) -> Paint:
    """One colour everywhere."""
    colour = np.asarray(colour, np.float32)
    return lambda chart: (np.broadcast_to(colour, (len(chart), 3)), label)


@functools.lru_cache(maxsize=256)
def letter_mask(letters: str, width: int = 256, height: int = 96) -> np.ndarray:
    """The word filling a box, float32 [height, width] in [0,1], top row first."""
    font = ImageFont.load_default(100)
    stroke = 5
    left, top, right, bottom = font.getbbox(letters, stroke_width=stroke)
    word = Image.new("L", (int(right - left), int(bottom - top)), 0)
    ImageDraw.Draw(word).text((-left, -top), letters, fill=255, font=font, stroke_width=stroke)
    # Two letters would grow twice as wide as tall: keep them in proportion, centred.
    fitted = min(width, int(height * 1.25 * word.width / word.height))
    box = Image.new("L", (width, height), 0)
    box.paste(word.resize((fitted, height), Image.Resampling.LANCZOS), ((width - fitted) // 2, 0))
    return np.asarray(box, np.float32) / 255


def bilinear(texture: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sample texture [H,W] or [H,W,C] at pixel coordinates, clamped to the border."""
    height, width = texture.shape[:2]
    x, y = np.clip(x, 0, width - 1.001), np.clip(y, 0, height - 1.001)
    x0, y0 = x.astype(np.int32), y.astype(np.int32)
    fx, fy = x - x0, y - y0
    if texture.ndim == 3:
        fx, fy = fx[:, None], fy[:, None]
    flat = texture.reshape(height * width, *texture.shape[2:])
    index = y0 * width + x0
    top = flat[index] * (1 - fx) + flat[index + 1] * fx
    bottom = flat[index + width] * (1 - fx) + flat[index + width + 1] * fx
    return top * (1 - fy) + bottom * fy


def _hat_paint(p: Portrait) -> Paint:
    """Cloth with ribs, seams or a band, and the letters; chart = (azimuth, height in [0,1], 0)."""
    cloth, trim = np.array(p.hat_colour, np.float32), np.array(p.trim_colour, np.float32)
    mask = letter_mask(p.letters) if p.letters else None
    bottom, top = {"beanie": (0.27, 0.78), "cap": (0.12, 0.7), "sunhat": (0.2, 0.82)}[p.hat]

    def paint(chart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        azimuth, height = chart[:, 0], chart[:, 1]
        colour = np.repeat(cloth[None], len(chart), 0)
        if p.hat == "beanie":
            rib = 0.9 + 0.1 * np.sign(np.sin(azimuth * 40))
            fold = step(0.23, 0.2, height)
            colour *= np.where(fold > 0.5, rib * 0.86, 0.97 + 0.03 * np.sin(height * 70))[:, None]
            stripe = bump(height, 0.9, 0.035)
            colour += 0.8 * stripe[:, None] * (trim - colour)
        elif p.hat == "cap":
            seam = bump(np.abs((azimuth + 0.52) % 1.047 - 0.52), 0.52, 0.02) * (np.abs(azimuth) > 0.9)
            colour *= (1 - 0.25 * seam * (height > 0.05) - 0.2 * step(0.06, 0.03, height))[:, None]
        else:
            band = step(0.15, 0.13, height)
            colour *= (0.97 + 0.03 * np.sin(height * 90))[:, None]
            colour += band[:, None] * (trim - colour)
        label = np.full(len(chart), HAT, np.uint8)
        if mask is not None:
            x = (azimuth / LETTER_SPAN + 1) / 2 * mask.shape[1]
            y = (top - height) / (top - bottom) * mask.shape[0]
            ink = bilinear(mask, x, y) * (np.abs(azimuth) < LETTER_SPAN) * (height > bottom) * (height < top)
            colour += ink[:, None] * (trim - colour)
            label[ink > 0.5] = LETTERS
        return colour, label

    return paint


def _tilt(points: np.ndarray) -> np.ndarray:
    """Hats sit a little lower at the back."""
    y, z = points[..., 1] - HAT_LINE, points[..., 2]
    turned = np.stack([points[..., 0], HAT_LINE + y + 0.13 * z, z - 0.13 * y - 0.02], -1)
    return turned.astype(np.float32)


def _ring(p: Portrait, azimuth: np.ndarray, radius) -> tuple[np.ndarray, np.ndarray]:
    return 0.815 * p.head_width * radius * np.sin(azimuth), 0.95 * radius * np.cos(azimuth)


def hat(portrait: Portrait) -> list[Mesh]:
    """Dome and brim, or nothing."""
    p = portrait
    if p.hat == "none":
        return []
    tall = {"beanie": 0.98, "cap": 0.88, "sunhat": 0.86}[p.hat]
    sharp = {"beanie": 2.6, "cap": 2.9, "sunhat": 4.5}[p.hat]
    t = np.concatenate([np.linspace(1, 0.9, 8) ** 0.5, np.linspace(0.94, 0, 22)])[:, None]
    t[0] = 0.9999
    azimuth = np.linspace(-np.pi, np.pi, 57)[None, :]
    radius = (1 - t**sharp) ** (1 / 2.0)
    x, z = _ring(p, azimuth, radius)
    flare = 1 + 0.05 * (p.hat == "beanie") * step(0.22, 0.17, t)
    points = np.stack([x * flare, HAT_LINE + tall * t + 0 * azimuth, z * flare], -1)
    chart = np.stack([azimuth + 0 * t, t + 0 * azimuth, 0 * t * azimuth], -1).astype(np.float32)
    meshes = [Mesh(_tilt(points), chart, _hat_paint(p), closed=True)]
    brim_colour = np.array(p.hat_colour if p.hat == "sunhat" else p.trim_colour)
    if p.hat == "sunhat":
        s = np.linspace(0, 1, 10)[:, None]
        x, z = _ring(p, azimuth, 0.97 + 0.62 * s)
        wave = 0.05 * np.sin(2 * azimuth + 6 * stream(p.seed, "brim").random()) * s
        points = np.stack([x, HAT_LINE + 0.02 - 0.12 * s**2 + wave, z], -1)
        meshes.append(Mesh(_tilt(points), 0 * points, plain(brim_colour, HAT), closed=True, two_sided=True))
    elif p.hat == "cap":
        s, around = np.linspace(0, 1, 9)[:, None], np.linspace(-1.2, 1.2, 31)[None, :]
        reach = np.maximum(np.cos(around / 1.2 * np.pi / 2), 0) ** 0.6
        x, z = _ring(p, around, 0.99 + 0.04 * s)
        z = z + 0.5 * s * reach
        points = np.stack([x + 0 * s, HAT_LINE + 0.015 - 0.1 * s * reach - 0.1 * x**2 * s, z], -1)
        meshes.append(Mesh(_tilt(points), 0 * points, plain(brim_colour, HAT), two_sided=True))
        button, chart = sphere((0, HAT_LINE + tall, 0), (0.07, 0.04, 0.07), 7, 9)
        meshes.append(Mesh(_tilt(button), chart, plain(brim_colour, HAT), closed=True))
    else:
        pompom, chart = sphere((0, HAT_LINE + tall + 0.06, 0), (0.16, 0.15, 0.16), 9, 13)
        if stream(p.seed, "pompom").random() < 0.5:
            meshes.append(Mesh(_tilt(pompom), chart, plain(p.trim_colour, HAT), closed=True))
    return meshes


def glasses(portrait: Portrait) -> list[Mesh]:
    """Two rims, a bridge, temples; lenses that tint."""
    p = portrait
    if p.glasses == "none":
        return []
    frame = plain(p.glasses_colour, ACCESSORY)
    spread = 0.29 + 0.02 * p.eye_spacing
    radius = {"round": 0.2, "square": 0.22, "sun": 0.235}[p.glasses]
    power = {"round": 1.0, "square": 0.45, "sun": 0.8}[p.glasses]
    thick = 0.021 if p.glasses != "square" else 0.027
    angle = np.linspace(0, 2 * np.pi, 29)
    nose = surface(p, np.array([0.0]), np.array([0.06]))[0, 2]
    depth = nose + 0.03
    meshes = []

    def arc(x):
        return depth - 0.28 * x**2

    for side in (-1, 1):
        cx = side * spread
        ux = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
        uy = np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
        x, y = cx + radius * ux, EYES - 0.01 + 0.85 * radius * uy
        rim = np.stack([x, y, arc(x)], 1)
        meshes.append(_tube(rim, thick, frame))
        outer = cx + side * radius
        hinge = [outer, EYES + 0.04, arc(outer)]
        middle = [side * 0.72 * p.head_width, EYES + 0.06, 0.35]
        temple = np.array([hinge, middle, [side * 0.79 * p.head_width, EYES + 0.07, -0.08]])
        meshes.append(_tube(_resample(temple, 12), 0.019, frame))
        inner = np.linspace(0.05, 1, 4)[:, None, None]
        centre = np.array([cx, EYES - 0.01, arc(np.array(cx))])
        lens = centre + inner * (rim[None] - centre) - [0, 0, 0.004]
        chart = np.stack([inner[..., 0] * ux, inner[..., 0] * uy, 0 * inner[..., 0] * ux], -1)
        dark = p.glasses == "sun"
        lens, chart, alpha = lens.astype(np.float32), chart.astype(np.float32), 0.9 if dark else 0.13
        meshes.append(Mesh(lens, chart, _lens_paint(dark), two_sided=True, gloss=0.25, alpha=alpha))
    bridge_x = np.linspace(-(spread - radius), spread - radius, 7)
    bridge = np.stack([bridge_x, EYES + 0.04 + 0.03 * np.cos(bridge_x * 12), arc(bridge_x) + 0.01], 1)
    meshes.append(_tube(bridge, thick, frame))
    return meshes


def _lens_paint(dark: bool) -> Paint:
    def paint(chart: np.ndarray) -> tuple[np.ndarray, int]:
        glint = bump(chart[:, 0] + 0.6 * chart[:, 1], 0.25, 0.2)[:, None]
        base = np.array([0.06, 0.06, 0.08]) if dark else np.array([0.85, 0.9, 0.95])
        sky = 0.15 * dark * (chart[:, 1:2] > 0) * chart[:, 1:2]
        return base + glint * (0.35 if dark else 0.15) + sky, ACCESSORY

    return paint


def _tube(path: np.ndarray, radius: float, paint: Paint, gloss: float = 0.35, sides: int = 6) -> Mesh:
    points = tube(path, radius, sides)
    return Mesh(points, np.zeros_like(points), paint, two_sided=True, gloss=gloss)


def _resample(path: np.ndarray, count: int) -> np.ndarray:
    """`count` points along a polyline [T,3]."""
    at, source = np.linspace(0, len(path) - 1, count), np.arange(len(path))
    return np.stack([np.interp(at, source, path[:, axis]) for axis in range(3)], 1)


def _ball(centre, radius, colour, gloss: float = 0.3) -> Mesh:
    points, chart = sphere(centre, np.broadcast_to(radius, 3), 9, 13)
    return Mesh(points, chart, plain(colour, ACCESSORY), closed=True, gloss=gloss)


def earrings(portrait: Portrait) -> list[Mesh]:
    """Studs, hoops or drops on both lobes."""
    p = portrait
    meshes = []
    for side in (-1, 1) if p.earrings != "none" else ():
        top = lobe(p, side)
        if p.earrings == "stud":
            meshes.append(_ball(top + [side * 0.03, 0, 0.03], 0.055, p.earring_colour))
        elif p.earrings == "hoop":
            angle = np.linspace(0, 2 * np.pi, 21)
            radius = 0.11 + 0.06 * stream(p.seed, "hoop").random()
            ring = np.stack(
                [0.5 * radius * np.sin(angle), radius * np.cos(angle) - radius, radius * np.sin(angle)], 1
            )
            meshes.append(
                _tube(top + [side * 0.03, 0, 0.02] + ring, 0.022, plain(p.earring_colour, ACCESSORY))
            )
        else:
            for k, size in enumerate((0.035, 0.05, 0.068)):
                meshes.append(_ball(top + [side * 0.03, -0.115 * k, 0.02], size, p.earring_colour))
    return meshes


def rare(portrait: Portrait, tone: np.ndarray) -> list[Mesh]:
    """The out-of-distribution things: flower, hand, camera, microphone. Face paint is in the texture."""
    p = portrait
    rng = stream(p.seed, "accessory")
    side = 1 if rng.random() < 0.5 else -1
    if p.accessory == "flower":
        centre = (
            np.array([side * 0.62, 0.6, 0.62]) if p.hat == "none" else np.array([side * 0.55, 0.55, 0.85])
        )
        palette = np.array([(0.95, 0.4, 0.6), (0.97, 0.95, 0.9), (0.65, 0.4, 0.85), (0.95, 0.55, 0.2)])
        colour = palette[rng.integers(4)]
        meshes = []
        for angle in np.arange(6) * np.pi / 3:
            at = centre + 0.125 * np.array([np.cos(angle), np.sin(angle), 0.0])
            meshes.append(_ball(at, (0.085, 0.085, 0.05), colour, 0.05))
        return [*meshes, _ball(centre + [0, 0, 0.04], 0.075, (0.98, 0.8, 0.2), 0.05)]
    if p.accessory == "hand":
        meshes = []
        wrist = np.array([side * 0.5, -1.5, 0.95])
        for k in range(4):
            base = wrist + [side * (0.13 * k - 0.2), 0.45, 0.05]
            tip = base + np.array([side * -0.05, 0.42 - 0.05 * (k - 1.3) ** 2, 0.02])
            path = _resample(np.stack([wrist + [0.08 * (k - 1.5) * side, 0, 0], base, tip]), 14)
            meshes.append(_finger(path, tone))
            meshes.append(_ball(tip + [0, 0.02, 0.045], (0.045, 0.06, 0.035), p.lip_colour, 0.3))
        palm, chart = sphere(wrist + [0, 0.2, 0], (0.3, 0.36, 0.1), 12, 15)
        meshes.append(Mesh(palm, chart, plain(tone, ACCESSORY), closed=True, skin=True))
        return meshes
    if p.accessory == "microphone":
        head = np.array([side * 0.22, -0.72, 1.15])
        handle = _resample(np.stack([head, head + [side * 0.35, -0.85, 0.1]]), 8)
        return [
            _ball(head, 0.17, (0.25, 0.25, 0.27), 0.5),
            _tube(handle, 0.08, plain((0.1, 0.1, 0.11), ACCESSORY)),
        ]
    if p.accessory == "camera":
        centre = np.array([side * 0.3, -0.05, 1.25])
        box, chart = sphere(centre, (1, 1, 1), 16, 33)
        box = centre + np.clip(
            1.6 * (box - centre) * [0.42, 0.3, 0.2], [-0.36, -0.25, -0.14], [0.36, 0.25, 0.14]
        )
        body = Mesh(
            box.astype(np.float32), chart, plain((0.16, 0.16, 0.17), ACCESSORY), closed=True, gloss=0.2
        )
        barrel, chart = sphere(centre + [0, 0, 0.15], (0.19, 0.19, 0.12), 12, 17)
        lens = Mesh(barrel, chart, plain((0.3, 0.3, 0.33), ACCESSORY), closed=True, gloss=0.4)
        return [body, lens, _ball(centre + [0, 0, 0.22], (0.12, 0.12, 0.07), (0.08, 0.1, 0.2), 0.6)]
    return []


def _finger(path: np.ndarray, tone: np.ndarray) -> Mesh:
    points = tube(path, 0.075, 9)
    # A rounded tip: the last rings close over the end of the path.
    for back, shrink in ((1, 0.35), (2, 0.8)):
        points[-back] = path[-back] + shrink * (points[-back] - path[-back])
    return Mesh(points, np.zeros_like(points), plain(tone, ACCESSORY), two_sided=True, skin=True)
