"""The painted face: a texture over the chart of the head, drawn with Pillow and finished with numpy."""

import numpy as np
from PIL import Image, ImageDraw

from wagi.portraits.hair import beard_mask
from wagi.portraits.head import EYES, MOUTH, bump, step
from wagi.portraits.parameters import Portrait
from wagi.portraits.streams import stream

EXTENT = 1.15  # the texture spans [-EXTENT, EXTENT] in both chart axes
TONES = np.array(
    [
        (0.96, 0.82, 0.74), (0.93, 0.76, 0.65), (0.87, 0.67, 0.53), (0.76, 0.55, 0.4), (0.6, 0.41, 0.29),
        (0.45, 0.3, 0.21), (0.33, 0.21, 0.15),
    ]
)  # fmt: skip
FACE, EYE, LIP = 2, 3, 4


def skin_tone(portrait: Portrait) -> np.ndarray:
    """RGB of the bare skin."""
    place = portrait.skin * (len(TONES) - 1)
    low = min(int(place), len(TONES) - 2)
    return TONES[low] + (place - low) * (TONES[low + 1] - TONES[low])


class Canvas:
    """Draws in chart coordinates at twice the texture's resolution."""

    def __init__(self, size: int, mode: str, colour) -> None:
        self.pixels = 2 * size
        self.size = size
        self.image = Image.new(mode, (self.pixels, self.pixels), colour)
        self.draw = ImageDraw.Draw(self.image)

    def place(self, points) -> list[tuple[float, float]]:
        """Chart points [n,2] to pixel pairs."""
        scale = self.pixels / (2 * EXTENT)
        points = np.asarray(points, float)
        return list(zip((points[:, 0] + EXTENT) * scale, (EXTENT - points[:, 1]) * scale, strict=True))

    def polygon(self, points, colour) -> None:
        """Fill."""
        self.draw.polygon(self.place(points), fill=colour)

    def line(self, points, colour, width: float) -> None:
        """Polyline; width in chart units."""
        pixels = max(int(round(width * self.pixels / (2 * EXTENT))), 1)
        self.draw.line(self.place(points), fill=colour, width=pixels, joint="curve")

    def disc(self, centre, radius: float, colour) -> None:
        """Filled circle."""
        ((x, y),) = self.place([centre])
        r = radius * self.pixels / (2 * EXTENT)
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)

    def array(self) -> np.ndarray:
        """Float [size,size(,3)] in [0,1], area-reduced."""
        return np.asarray(self.image.reduce(2), np.float32) / 255


def rgb(colour, scale: float = 1.0) -> tuple[int, int, int]:
    """Pillow colour of an RGB triple in [0,1]."""
    red, green, blue = (int(np.clip(255 * c * scale, 0, 255)) for c in colour)
    return red, green, blue


def blend(base: np.ndarray, colour, weight: np.ndarray) -> np.ndarray:
    """Mix `colour` over base [S,S,3] by weight [S,S]."""
    return base + weight[..., None] * (np.asarray(colour, np.float32) - base)


def _eye_outline(p: Portrait, side: int) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Upper and lower lid [n,2] from the inner to the outer corner, and the eye's centre."""
    t = np.linspace(-1, 1, 13)
    half = 0.15 * p.eye_size
    centre = side * (0.29 + 0.02 * p.eye_spacing), EYES
    tilt = 0.012 * t
    opening = 0.082 * p.eye_size * p.eyelids * (1 - 0.12 * max(p.smile, 0))
    upper = centre[1] + tilt + opening * (1 - np.abs(t) ** 2.2)
    lower = centre[1] + tilt - 0.62 * opening * (1 - t**2) + 0.008 * max(p.smile, 0)
    x = centre[0] + side * half * t
    return np.stack([x, upper], 1), np.stack([x, lower], 1), centre


def _eyes(p: Portrait, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Eyeball colours [S,S,3] and the opening's mask [S,S]."""
    ball, mask = Canvas(size, "RGB", rgb((0.97, 0.96, 0.95))), Canvas(size, "L", 0)
    for side in (-1, 1):
        upper, lower, (x, y) = _eye_outline(p, side)
        mask.polygon(np.concatenate([upper, lower[::-1]]), 255)
        x, y = x + 0.035 * p.gaze_x, y + 0.008 + 0.015 * p.gaze_y
        radius = 0.078 * p.eye_size
        ball.disc((x, y), radius, rgb(p.iris_colour, 0.45))
        ball.disc((x, y), 0.85 * radius, rgb(p.iris_colour, 1.1))
        ball.disc((x, y - 0.2 * radius), 0.6 * radius, rgb(p.iris_colour, 1.4))
        ball.disc((x, y), 0.45 * radius, (12, 10, 10))
        ball.disc((x - 0.024, y + 0.026), 0.3 * radius, (255, 255, 255))
    colours = ball.array()
    height = np.linspace(EXTENT, -EXTENT, size)[:, None, None]
    shade = 1 - 0.3 * step(EYES + 0.03, EYES + 0.09, height)
    return colours * shade, mask.array()


def _lids(p: Portrait, canvas: Canvas, rng: np.random.Generator) -> None:
    """Lid lines, lashes and brows on a mask of darkness."""
    makeup = p.eyeshadow > 0
    for side in (-1, 1):
        upper, lower, (x, y) = _eye_outline(p, side)
        canvas.line(upper, 235, 0.024 + 0.01 * makeup)
        canvas.line(upper[2:-1] + [0, 0.045], 90, 0.012)
        canvas.line(lower, 90, 0.01)
        for k in range(3, 13):
            reach = (0.03 + 0.03 * makeup) * (k / 12)
            tip = upper[k] + [side * reach * 0.7, reach]
            canvas.line([upper[k], tip], 220, 0.009)
        lift = 0.03 * p.brow_raise
        t = np.linspace(-1, 1, 15)
        arch_x = x + side * 0.165 * t + side * 0.005
        arch_y = (
            0.285
            + 0.03 * p.brow_height
            + lift
            + 0.03 * (1 - (t - 0.3) ** 2)
            - 0.02 * p.brow_raise * (t < -0.6)
        )
        for k, (bx, by) in enumerate(zip(arch_x, arch_y, strict=True)):
            tall = 0.048 * p.brow_weight * (1 - 0.55 * max(t[k], 0)) * rng.uniform(0.9, 1.15)
            lean = side * (0.012 + 0.02 * (t[k] + 1))
            for shift in (-0.006, 0.006):
                canvas.line(
                    [(bx + shift - lean / 2, by - tall / 2), (bx + shift + lean / 2, by + tall / 2)],
                    225,
                    0.014,
                )


def _mouth(p: Portrait, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Masks of lips, dark opening, teeth and the line between the lips, each [S,S]."""
    lips, gap_mask, teeth, seam = (Canvas(size, "L", 0) for _ in range(4))
    smile = p.smile
    half = 0.2 * p.mouth_width * (1 + 0.32 * max(smile, 0))
    t = np.linspace(-1, 1, 25)
    arch = 1 - t**2
    middle = MOUTH + 0.085 * smile * np.abs(t) ** 1.8 - 0.02 * smile
    opening = max(0.14 * max(smile - 0.3, 0), 0.11 * p.mouth_open)
    top = middle + 0.45 * opening * arch**0.7
    bottom = middle - opening * arch**0.7
    bow = 0.75 + 0.25 * bump(np.abs(t), 0.28, 0.22) - 0.12 * bump(t, 0, 0.12)
    x = half * t
    upper = top + 0.052 * p.lips * arch**0.6 * bow
    lower = bottom - 0.07 * p.lips * arch**0.75
    lips.polygon(np.stack([np.r_[x, x[::-1]], np.r_[upper, lower[::-1]]], 1), 255)
    if opening > 0.01:
        gap = np.stack([np.r_[x, x[::-1]] * 0.95, np.r_[top, bottom[::-1]]], 1)
        gap_mask.polygon(gap, 255)
        row = np.stack([np.r_[x, x[::-1]] * 0.9, np.r_[top, np.maximum(bottom, top - 0.068)[::-1]]], 1)
        teeth.polygon(row, 255)
    else:
        seam.line(np.stack([x, middle], 1), 255, 0.014)
    for side in (-1, 1):
        corner = np.array([side * half, middle[0]])
        seam.line([corner - [side * 0.012, 0], corner + [side * 0.02, 0.012 * smile]], 170, 0.016)
    return lips.array(), gap_mask.array(), teeth.array(), seam.array()


def _wrinkles(p: Portrait, size: int) -> np.ndarray:
    """Lines of age and expression, [S,S] darkness."""
    canvas = Canvas(size, "L", 0)
    age, smile = p.age, max(p.smile, 0)
    t = np.linspace(-1, 1, 11)
    fold = int(60 + 110 * min(0.7 * smile + 0.6 * age, 1))
    old = int(170 * max(age - 0.45, 0) / 0.55)
    for side in (-1, 1):
        y = np.linspace(-0.24, MOUTH + 0.02, 9)
        bend = 0.13 + 0.16 * np.sin(np.linspace(0.1, 1.35, 9)) + 0.03 * smile
        canvas.line(np.stack([side * bend, y], 1), fold, 0.014)
        if old > 20:
            for k in (-1, 0, 1):
                start = np.array([side * 0.47, EYES + 0.02 + 0.03 * k])
                canvas.line([start, start + [side * 0.1, 0.035 * k]], old, 0.012)
            bag = np.stack([side * (0.29 + 0.12 * t), EYES - 0.1 - 0.02 * (1 - t**2)], 1)
            canvas.line(bag, old, 0.014)
    if old > 20:
        for k, y in enumerate((0.42, 0.49, 0.56)):
            wide = 0.36 - 0.05 * k
            canvas.line(np.stack([wide * t, y + 0.015 * np.cos(3 * t)], 1), old, 0.013)
        for side in (-1, 1):
            canvas.line([(side * 0.05, 0.22), (side * 0.04, 0.34)], old, 0.014)
    return canvas.array()


def _paint_and_scar(p: Portrait, base: np.ndarray, size: int) -> np.ndarray:
    """Face paint (star and stripes) and a scar."""
    rng = stream(p.seed, "paint")
    if p.accessory == "paint":
        for side in (-1, 1):
            mark = Canvas(size, "L", 0)
            cx, cy = side * 0.42, -0.16
            if rng.random() < 0.5:
                angle = np.pi / 2 + np.arange(10) * np.pi / 5
                r = np.where(np.arange(10) % 2, 0.055, 0.14)
                mark.polygon(np.stack([cx + r * np.cos(angle), cy + r * np.sin(angle)], 1), 255)
            else:
                for k in (-1, 0, 1):
                    mark.line([(cx - 0.12, cy + 0.075 * k), (cx + 0.12, cy + 0.075 * k + 0.03)], 255, 0.036)
            bright = np.array(
                [(0.95, 0.2, 0.2), (0.2, 0.5, 0.95), (0.98, 0.85, 0.15), (0.2, 0.75, 0.35), (1, 1, 1)]
            )
            base = blend(base, bright[rng.integers(5)], 0.92 * mark.array())
    if p.scar > 0:
        side = 1 if rng.random() < 0.5 else -1
        mark = Canvas(size, "L", 0)
        mark.line([(side * 0.33, -0.02), (side * 0.4, -0.14), (side * 0.42, -0.32)], 255, 0.02)
        for y in (-0.09, -0.17, -0.25):
            mark.line([(side * 0.36, y), (side * 0.45, y + 0.02)], 200, 0.012)
        base = blend(base, (0.7, 0.33, 0.3), p.scar * 0.8 * mark.array())
    return base


def _freckles(p: Portrait, base: np.ndarray, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Freckles over nose and cheeks, a mole or two, fine mottling, stubble."""
    rng = stream(p.seed, "skin")
    coarse = Image.fromarray(rng.normal(0, 1, (24, 24)).astype(np.float32))
    mottle = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    base = base * (1 + 0.012 * mottle[..., None])
    spots = Canvas(size, "L", 0)
    for _ in range(int(110 * p.freckles)):
        place = rng.normal(0, 0.26), rng.normal(-0.1, 0.11)
        spots.disc(place, rng.uniform(0.006, 0.014), int(rng.uniform(90, 190)))
    if rng.random() < 0.25:
        spots.disc((rng.uniform(-0.45, 0.45), rng.uniform(-0.65, -0.2)), 0.018, 230)
    base = base * (1 - spots.array()[..., None] * np.array([0.4, 0.55, 0.6], np.float32))
    if p.beard != "none":
        grain = np.asarray(Image.fromarray(rng.random((96, 96)).astype(np.float32)).resize((size, size)))
        density = beard_mask(p, x, y) * (0.35 + 0.35 * grain)
        base = blend(base, 0.8 * np.array(p.hair_colour), density * (1.0 if p.beard != "stubble" else 0.8))
    return base


def face_texture(portrait: Portrait, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Albedo [S,S,3] float32 in [0,1] and labels [S,S] uint8 (2 skin, 3 eyes, 4 mouth) over the chart."""
    p = portrait
    axis = np.linspace(-EXTENT, EXTENT, size, dtype=np.float32)
    x, y = axis[None, :], -axis[:, None]
    side = np.abs(x)
    tone = skin_tone(p).astype(np.float32)
    base = np.broadcast_to(tone, (size, size, 3)).astype(np.float32)
    flush = tone * np.array([1.0, 0.62, 0.6], np.float32) + np.array([0.04, 0, 0], np.float32)
    blush = (0.15 + 0.35 * p.blush) * bump(side, 0.42, 0.2) * bump(y, -0.15, 0.16)
    blush = blush + 0.15 * bump(x, 0, 0.1) * bump(y, -0.2, 0.09)
    base = blend(base, flush, np.clip(blush, 0, 1))
    socket = bump(side, 0.27 + 0.02 * p.eye_spacing, 0.18) * bump(y, EYES + 0.02, 0.11)
    shadow = 0.16 * socket + 0.35 * bump(side, 0.06, 0.035) * bump(y, -0.265, 0.03)
    shadow = shadow + 0.16 * bump(x, 0, 0.16) * bump(y, MOUTH - 0.16, 0.04)
    base = base * (1 - shadow[..., None] * np.array([0.8, 1.0, 1.0], np.float32))
    base = _freckles(p, base, x, y, size)
    if p.eyeshadow > 0:
        lid = bump(side, 0.3, 0.15) * bump(y, EYES + 0.09, 0.06)
        base = blend(base, np.array(p.lip_colour)[[2, 1, 0]], 0.75 * p.eyeshadow * lid)
    rng = stream(p.seed, "brows")
    base = base * (1 - 0.42 * _wrinkles(p, size)[..., None])
    lips, gap, teeth, seam = _mouth(p, size)
    natural = tone * np.array([0.82, 0.58, 0.58], np.float32)
    lip_colour = natural + p.lipstick * (np.array(p.lip_colour) - natural)
    gloss = 1 + 0.25 * bump(y, MOUTH - 0.065, 0.03) * bump(x, 0, 0.12)
    base = blend(base, lip_colour * gloss[..., None], lips)
    base = blend(base, (0.2, 0.05, 0.06), gap)
    base = blend(base, (0.95, 0.93, 0.88), teeth * gap)
    base = base * (1 - 0.6 * seam[..., None])
    base = _paint_and_scar(p, base, size)
    lines = Canvas(size, "L", 0)
    _lids(p, lines, rng)
    balls, opening = _eyes(p, size)
    base = blend(base, balls, opening)
    ink = 0.55 * np.array(p.hair_colour, np.float32) * (1 - 0.3 * p.skin)
    ink = np.minimum(ink, 0.45 * tone + 0.05)
    base = blend(base, ink, 0.92 * lines.array())
    labels = np.full((size, size), FACE, np.uint8)
    labels[lips > 0.5] = LIP
    labels[opening > 0.5] = EYE
    return np.clip(base, 0, 1), labels
