"""What spoils pictures of faces: blur, few pixels, noise, the picture's border, turns, and things before the face.

Each spoils a picture whose 68 landmarks are known and says where they are now and what hides them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import cv2
import numpy as np

SHARPNESS = ("small", "blur", "motion", "noise", "dark", "compressed")
OCCLUDERS = (
    "surgical_mask", "hand", "blob", "side", "eye_band", "eye_patch", "sunglasses", "scarf", "microphone", "hair",
    "hands_on_eyes",
)  # fmt: skip
PLACES = ("turn", "upside_down", "border")
KINDS = ("none", *SHARPNESS, *OCCLUDERS, *PLACES, "several")


@dataclasses.dataclass(frozen=True)
class Spoilt:
    """A spoilt picture.

    Attributes:
        image: ``(H, W, 3)`` uint8 RGB.
        to_image: ``(2, 3)`` from pixels of the clean picture to those of this one (both with centres at +0.5).
        hidden: ``(H, W)`` bool: something lies before the face there.
    """

    image: np.ndarray
    to_image: np.ndarray
    hidden: np.ndarray

    @classmethod
    def nothing(cls, image: np.ndarray) -> Spoilt:
        return cls(image, np.eye(2, 3), np.zeros(image.shape[:2], bool))

    def place(self, points: np.ndarray) -> np.ndarray:
        """``(n, 2)`` points of the clean picture in this one."""
        return points @ self.to_image[:, :2].T + self.to_image[:, 2]


def spoil(
    kind: str, image: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, textures: list[np.ndarray]
) -> Spoilt:
    """A picture spoilt in one of the ``KINDS``.

    Args:
        kind: of ``KINDS``.
        image: with a whole face.
        landmarks: ``(68, 2)`` its landmarks.
        rng: decides how.
        textures: pictures whose parts cover things.
    """
    clean = Spoilt.nothing(image)
    if kind == "none":
        return clean
    if kind == "several":
        first = str(rng.choice([*OCCLUDERS, "turn", "none"]))
        second = str(rng.choice([*SHARPNESS, "border"]))
        for one in (first, second):
            clean = _then(clean, one, landmarks, rng, textures)
        return clean
    return _then(clean, kind, landmarks, rng, textures)


def _then(spoilt, kind, landmarks, rng, textures):
    if kind == "none":
        return spoilt
    points = spoilt.place(landmarks)
    size = float(np.ptp(points, axis=0).max())
    image = spoilt.image
    if kind in OCCLUDERS:
        frame = FaceFrame.of(points)
        parts = _OCCLUDERS[kind](frame, rng)
        image, hidden = image.copy(), spoilt.hidden.copy()
        for part in parts:
            image, covered = _cover(image, part, frame, rng, textures)
            if part.hides:
                hidden |= covered
        return Spoilt(image, spoilt.to_image, hidden)
    if kind == "small":
        scale = math.exp(rng.uniform(math.log(8), math.log(40))) / size
        return _scaled(spoilt, scale)
    if kind in ("turn", "upside_down"):
        angle = (
            180.0 + rng.uniform(-25, 25)
            if kind == "upside_down"
            else rng.choice([90, 270, rng.uniform(30, 330)])
        )
        return _turned(spoilt, float(angle), plain=rng.random() < 0.3)
    if kind == "border":
        return _bordered(spoilt, points, rng)
    return dataclasses.replace(spoilt, image=_less_sharp(image, kind, size, rng))


def _less_sharp(image, kind, size, rng):
    if kind == "blur":
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.015, 0.16) * size)
    if kind == "motion":
        length = max(3, int(rng.uniform(0.05, 0.45) * size))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1
        turn = cv2.getRotationMatrix2D((length / 2 - 0.5, length / 2 - 0.5), rng.uniform(0, 180), 1)
        kernel = cv2.warpAffine(kernel, turn, (length, length))
        return cv2.filter2D(image, -1, kernel / max(kernel.sum(), 1e-6))
    if kind == "noise":
        return _bytes(image + rng.normal(0, rng.uniform(15, 130), image.shape))
    if kind == "dark":
        return _bytes(image * rng.uniform(0.01, 0.2) + rng.normal(0, rng.uniform(1, 10), image.shape))
    if kind == "compressed":
        _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(1, 15))])
        return cv2.imdecode(coded, cv2.IMREAD_COLOR)
    raise ValueError(f"nothing is spoilt by {kind!r}")


def _scaled(spoilt, scale):
    height, width = spoilt.image.shape[:2]
    new = (max(round(width * scale), 4), max(round(height * scale), 4))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(spoilt.image, new, interpolation=interpolation)
    hidden = cv2.resize(spoilt.hidden.astype(np.uint8), new, interpolation=cv2.INTER_NEAREST) > 0
    return Spoilt(image, np.diag([new[0] / width, new[1] / height]) @ spoilt.to_image, hidden)


def _turned(spoilt, degrees, plain):
    height, width = spoilt.image.shape[:2]
    side = math.ceil(math.hypot(height, width)) if degrees % 180 else max(height, width)
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1)
    matrix[:, 2] += [(side - width) / 2, (side - height) / 2]
    rim = cv2.BORDER_CONSTANT if plain else cv2.BORDER_REPLICATE
    image = cv2.warpAffine(spoilt.image, matrix, (side, side), borderMode=rim)
    hidden = cv2.warpAffine(spoilt.hidden.astype(np.uint8), matrix, (side, side)) > 0
    linear = matrix[:, :2]
    # cv2 counts pixel centres from 0.
    shift = matrix[:, 2] + 0.5 - linear @ [0.5, 0.5]
    to_image = linear @ spoilt.to_image
    to_image[:, 2] += shift
    return Spoilt(image, to_image, hidden)


def _bordered(spoilt, points, rng):
    """A side of the picture cuts into the face."""
    height, width = spoilt.image.shape[:2]
    (u0, v0), (u1, v1) = points.min(axis=0), points.max(axis=0)
    cut = rng.uniform(0.05, 0.7)
    low, high = np.array([0, 0]), np.array([width, height])
    side = rng.integers(4)
    if side == 0:
        low[0] = u0 + cut * (u1 - u0)
    elif side == 1:
        high[0] = u1 - cut * (u1 - u0)
    elif side == 2:
        low[1] = v0 + cut * 0.8 * (v1 - v0)
    else:
        high[1] = v1 - cut * (v1 - v0)
    low, high = np.clip(low, 0, [width - 8, height - 8]), np.clip(high, 8, None)
    part = np.s_[low[1] : high[1], low[0] : high[0]]
    to_image = spoilt.to_image.copy()
    to_image[:, 2] -= low
    return Spoilt(np.ascontiguousarray(spoilt.image[part]), to_image, spoilt.hidden[part])


@dataclasses.dataclass(frozen=True)
class FaceFrame:
    """A face's own axes in the picture: places in it are in eye distances, u to the picture's right when upright.

    Attributes:
        origin: ``(2,)`` between the outer corners of the eyes.
        axes: ``(2, 2)`` columns: one eye distance along the eyes, one towards the chin.
        landmarks: ``(68, 2)``.
    """

    origin: np.ndarray
    axes: np.ndarray
    landmarks: np.ndarray

    @classmethod
    def of(cls, landmarks: np.ndarray) -> FaceFrame:
        right, left, chin = landmarks[36], landmarks[45], landmarks[8]
        origin = (right + left) / 2
        down = (chin - origin) / 1.15
        along = left - right
        # In profile the eyes come together: the face is not narrower than half its height then.
        length = max(float(np.linalg.norm(along)), 0.5 * float(np.linalg.norm(down)))
        along = along / max(float(np.linalg.norm(along)), 1e-6) * length
        return cls(origin, np.stack([along, down], axis=1), landmarks)

    def to_image(self, points: np.ndarray) -> np.ndarray:
        return self.origin + np.asarray(points, float) @ self.axes.T

    def of_landmark(self, index: int | list[int]) -> np.ndarray:
        """Places of landmarks in eye distances."""
        return np.linalg.solve(self.axes, (self.landmarks[index] - self.origin).T).T

    @property
    def unit(self) -> float:
        """Pixels of one eye distance."""
        return float(np.linalg.norm(self.axes[:, 1]))


@dataclasses.dataclass(frozen=True)
class Part:
    """One thing before the face.

    Attributes:
        outlines: polygons in eye distances of the face's frame; they unite.
        colour: ``(3,)`` 0 … 255; None: of the face's skin; ``"texture"``.
        strands: it is drawn in dark and light lines as hair is.
        shade: how strongly light falls off over it, 0 … 1.
        folds: number of darker lines across it.
        opaque: 0 … 1.
        hides: what lies behind it counts as hidden.
        edge: how much darker its rim is, 0 … 1.
    """

    outlines: list[np.ndarray]
    colour: np.ndarray | str | None
    strands: bool = False
    shade: float = 0.4
    folds: int = 0
    opaque: float = 1.0
    hides: bool = True
    edge: float = 0.3


def _cover(image, part, frame, rng, textures):
    height, width = image.shape[:2]
    cover = np.zeros((height, width), np.uint8)
    for outline in part.outlines:
        pixels = np.clip(np.rint((frame.to_image(outline) - 0.5) * 16), -(1 << 24), 1 << 24)
        cv2.fillPoly(cover, [pixels.astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    v, u = np.mgrid[:height, :width].astype(np.float32)
    places = np.stack([u + 0.5, v + 0.5], axis=-1) - frame.origin
    places = places @ np.linalg.inv(frame.axes).T  # eye distances
    if isinstance(part.colour, str):
        colour = _texture(textures, (width, height), rng)
    else:
        base = _skin(image, frame, rng) if part.colour is None else np.asarray(part.colour, float)
        colour = np.broadcast_to(base, (height, width, 3)).astype(np.float32)
    direction = rng.normal(size=2)
    direction /= np.linalg.norm(direction)
    light = 1 + part.shade * np.clip(places @ direction, -1.5, 1.5) * rng.uniform(0.3, 1.0)
    grain = cv2.GaussianBlur(
        rng.normal(size=(height, width)).astype(np.float32), (0, 0), max(0.6, 0.03 * frame.unit)
    )
    light = light + 0.04 * grain / max(float(grain.std()), 1e-6)
    for _ in range(part.folds):
        a, b, slope = rng.uniform(0.1, 1.4), rng.uniform(0.01, 0.04), rng.uniform(-0.25, 0.25)
        distance = (places[..., 1] - a - slope * places[..., 0] - 0.15 * places[..., 0] ** 2) / b
        light = light - rng.uniform(0.08, 0.3) * np.exp(-(distance**2) / 2)
    if part.strands:
        angle, period = rng.uniform(0, np.pi), rng.uniform(0.01, 0.05)
        wave = places @ [math.cos(angle), math.sin(angle)] + 0.1 * np.sin(places[..., 1] * rng.uniform(2, 6))
        light = light * (1 + 0.5 * np.sin(2 * np.pi * wave / period) * rng.uniform(0.3, 1))
    if part.edge:
        blurred = cv2.GaussianBlur(cover, (0, 0), max(0.8, 0.05 * frame.unit)).astype(np.float32) / 255
        light = light * (1 - part.edge * np.clip(2 * (1 - blurred), 0, 1))
        # A soft shadow on what lies behind.
        shadow = cv2.GaussianBlur(cover, (0, 0), max(1.0, 0.08 * frame.unit)).astype(np.float32) / 255
        image = image * (1 - 0.35 * part.edge * shadow[..., None])
    alpha = cover[..., None].astype(np.float32) / 255 * part.opaque
    mixed = image * (1 - alpha) + np.clip(colour * light[..., None], 0, 255) * alpha
    return _bytes(mixed), cover > 127


def _skin(image, frame, rng):
    """A colour of the face itself, a little off."""
    height, width = image.shape[:2]
    spots = frame.landmarks[[29, 30, 31, 35, 2, 14, 3, 13, 27]] * 0.8 + frame.landmarks[[33]] * 0.2
    u, v = np.clip(spots.astype(int).T, 0, [[width - 1], [height - 1]])
    return np.median(image[v, u], axis=0) * rng.uniform(0.75, 1.2) + rng.normal(0, 6, 3)


def _texture(textures, size, rng):
    picture = textures[rng.integers(len(textures))]
    height, width = picture.shape[:2]
    share = rng.uniform(0.15, 0.6)
    h, w = max(int(share * height), 8), max(int(share * width), 8)
    v, u = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
    return cv2.resize(picture[v : v + h, u : u + w], size, interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _cloth(rng):
    return rng.uniform(10, 240, 3) if rng.random() < 0.7 else np.full(3, rng.uniform(10, 245))


def _smooth(outline, rng, wobble=0.02):
    """A closed outline with round corners."""
    outline = np.asarray(outline, float)
    for _ in range(3):
        following = np.roll(outline, -1, axis=0)
        pair = [0.75 * outline + 0.25 * following, 0.25 * outline + 0.75 * following]
        outline = np.stack(pair, axis=1).reshape(-1, 2)
    return outline + rng.normal(0, wobble / 4, outline.shape)


def _capsule(a, b, wide_a, wide_b):
    """A finger: from ``a`` to ``b``, so wide at its ends."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    along = math.atan2(*(b - a)[::-1])
    turn = np.linspace(-np.pi / 2, np.pi / 2, 9)
    tip = b + wide_b / 2 * np.stack([np.cos(along + turn), np.sin(along + turn)], axis=1)
    root = a + wide_a / 2 * np.stack([np.cos(along + np.pi + turn), np.sin(along + np.pi + turn)], axis=1)
    return np.concatenate([tip, root])


def _surgical_mask(frame, rng):
    top = rng.uniform(0.1, 0.42)  # on the nose
    jaw = frame.of_landmark([2, 4, 6, 8, 10, 12, 14])
    centre = jaw.mean(axis=0)
    wide = centre + (jaw - centre) * rng.uniform(1.0, 1.15)
    nose = frame.of_landmark(29)
    first, last = ([wide[i, 0], top + rng.uniform(0.05, 0.3)] for i in (0, -1))
    outline = np.array([[nose[0], top], first, *wide[1:-1], last])
    colours = [(225, 230, 232), (150, 190, 215), (25, 25, 28), (90, 160, 190), (200, 205, 200)]
    colour = np.array(colours[rng.integers(len(colours))], float) + rng.normal(0, 8, 3)
    if rng.random() < 0.2:
        colour = _cloth(rng)
    straps = []
    for end, corner in ((-1, 1), (1, len(outline) - 1)):
        for _ in range(2):
            a = outline[corner] + rng.normal(0, 0.05, 2)
            straps.append(_capsule(a, [end * rng.uniform(0.8, 1.0), rng.uniform(-0.1, 0.35)], 0.02, 0.02))
    return [
        Part(straps, colour, hides=False, edge=0.0),
        Part([_smooth(outline, rng)], colour, shade=rng.uniform(0.1, 0.5), folds=int(rng.integers(0, 5))),
    ]


def _hand(frame, rng, at=None, towards=None):
    """A palm and some fingers, in the face's colour."""
    tip = rng.uniform([-0.7, -0.3], [0.7, 1.1]) if at is None else np.asarray(at, float)
    angle = rng.uniform(0, 2 * np.pi) if towards is None else towards + rng.normal(0, 0.3)
    away = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-away[1], away[0]])
    size = rng.uniform(0.9, 1.6)
    palm_at = tip + away * size * rng.uniform(0.6, 0.95)
    fingers = int(rng.integers(1, 6))
    outlines = []
    spread = rng.uniform(0.0, 0.25)
    for i in range(fingers):
        offset = (i - (fingers - 1) / 2) * 0.21 * size
        root = palm_at + across * offset * 0.9
        end = (
            tip + across * offset * (1 + spread) + away * size * (0.08 * abs(i - 1.5) + rng.uniform(0, 0.08))
        )
        middle = (root + end) / 2 + across * rng.normal(0, 0.02) * size
        outlines += [
            _capsule(root, middle, 0.21 * size, 0.2 * size),
            _capsule(middle, end, 0.2 * size, 0.16 * size),
        ]
    half = 0.42 * size
    far, narrow = palm_at + away * size, across * half * 0.9
    palm = [palm_at + across * half, palm_at - across * half, far - narrow, far + narrow]
    wrist = _capsule(palm_at + away * size * 0.8, palm_at + away * size * 3, 0.6 * size, 0.6 * size)
    colour = None if rng.random() < 0.85 else _cloth(rng)  # gloves
    whole = Part([_smooth(palm, rng), wrist], colour, shade=rng.uniform(0.1, 0.4), edge=rng.uniform(0.1, 0.5))
    edge, shade = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.4)
    return [
        whole,
        *(Part(outlines[i : i + 2], colour, edge=edge, shade=shade) for i in range(0, len(outlines), 2)),
    ]


def _hands_on_eyes(frame, rng):
    if rng.random() < 0.5:
        side = rng.choice([-1, 1])
        at = [side * rng.uniform(0.1, 0.4), rng.uniform(-0.15, 0.1)]
        return _hand(frame, rng, at, 0.3 if side > 0 else np.pi - 0.3)
    return [
        *_hand(frame, rng, [-rng.uniform(0.1, 0.3), rng.uniform(-0.15, 0.05)], np.pi - 0.5),
        *_hand(frame, rng, [rng.uniform(0.1, 0.3), rng.uniform(-0.15, 0.05)], 0.5),
    ]


def _blob(frame, rng):
    centre, radius = rng.uniform([-0.7, -0.6], [0.7, 1.2]), rng.uniform(0.25, 1.0)
    count = int(rng.integers(3, 10))
    turn = np.sort(rng.uniform(0, 2 * np.pi, count))
    outline = centre + radius * rng.uniform(0.6, 1, (count, 1)) * np.stack(
        [np.cos(turn), np.sin(turn)], axis=1
    )
    colour = (None, "texture", _cloth(rng))[rng.integers(3)]
    return [
        Part([_smooth(outline, rng) if rng.random() < 0.6 else outline], colour, edge=rng.choice([0.0, 0.4]))
    ]


def _side(frame, rng):
    """Half of the picture, as behind a door or another person."""
    at, slope = rng.uniform(-0.5, 0.5), rng.normal(0, 0.2)
    outline = np.array([[at - slope, -1.2], [at + 2 * slope, 2.2], [2.5, 2.2], [2.5, -1.2]])
    outline[:, 0] *= rng.choice([-1, 1])
    return [Part([outline], (None, "texture", _cloth(rng))[rng.integers(3)], edge=rng.choice([0.0, 0.4]))]


def _eye_band(frame, rng):
    height, slope = rng.uniform(0.2, 0.6), rng.normal(0, 0.1)
    low, high = -height / 2 + rng.normal(0, 0.08), height / 2 + rng.normal(0, 0.08)
    outline = [[-0.95, low - slope], [0.95, low + slope], [0.95, high + slope], [-0.95, high - slope]]
    return [
        Part(
            [np.array(outline)],
            (None, "texture", _cloth(rng))[rng.integers(3)],
            folds=int(rng.integers(0, 2)),
        )
    ]


def _eye_patch(frame, rng):
    """One eye is covered, the other not."""
    corners = frame.of_landmark([36, 39] if rng.random() < 0.5 else [42, 45])
    centre, wide = corners.mean(axis=0) + rng.normal(0, 0.04, 2), rng.uniform(0.2, 0.4)
    count = int(rng.integers(4, 12))
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False) + rng.uniform(0, 1)
    radii = wide * rng.uniform(0.8, 1.1, (count, 1)) * [1, rng.uniform(0.6, 1.1)]
    outline = centre + radii * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    colour = (None, "texture", _cloth(rng), np.full(3, rng.uniform(5, 60)))[rng.integers(4)]
    edge, folds = float(rng.choice([0.0, 0.3])), int(rng.integers(0, 2))
    return [Part([_smooth(outline, rng) if rng.random() < 0.7 else outline], colour, edge=edge, folds=folds)]


def _sunglasses(frame, rng):
    colour = np.full(3, rng.uniform(5, 60)) + rng.normal(0, 6, 3)
    opaque = rng.choice([1.0, rng.uniform(0.4, 0.95)])
    lenses = []
    for points in ([36, 39], [42, 45]):
        outer = frame.of_landmark(points)
        centre, half = outer.mean(axis=0), max(float(np.ptp(outer[:, 0])) * rng.uniform(0.7, 0.95), 0.12)
        tall = rng.uniform(0.15, 0.3)
        box = np.array([[-half, -tall], [half, -tall], [half * 0.9, tall], [-half * 0.9, tall]])
        lenses.append(_smooth(centre + box + np.array([0, 0.04]), rng, 0.005))
    bridge = _capsule(lenses[0].mean(axis=0), lenses[1].mean(axis=0), 0.05, 0.05)
    arms = [
        _capsule(lens.mean(axis=0), [s * 0.85, -0.02], 0.05, 0.05)
        for lens, s in zip(lenses, (-1, 1), strict=True)
    ]
    return [
        Part([bridge, *arms], colour, edge=0.0, hides=False),
        Part(lenses, colour, opaque=float(opaque), shade=rng.uniform(0, 0.6), edge=0.0, hides=opaque > 0.8),
    ]


def _scarf(frame, rng):
    top = rng.uniform(0.3, 1.0)
    right, middle, left = top + rng.uniform([-0.2, 0, -0.2], [0.2, 0.15, 0.2])
    outline = [[-1.2, right], [0, middle], [1.2, left], [1.5, 2.4], [-1.5, 2.4]]
    return [
        Part(
            [np.array(outline)],
            _cloth(rng) if rng.random() < 0.6 else "texture",
            folds=int(rng.integers(0, 6)),
        )
    ]


def _microphone(frame, rng):
    centre, radius = rng.uniform([-0.35, 0.55], [0.35, 1.0]), rng.uniform(0.15, 0.32)
    turn = np.linspace(0, 2 * np.pi, 24)
    ball = centre + radius * np.stack([np.cos(turn), 1.1 * np.sin(turn)], axis=1)
    stick = _capsule(centre, centre + np.array([rng.normal(0, 0.5), 1.8]), radius * 1.2, radius)
    colour = np.full(3, rng.uniform(10, 120)) + rng.normal(0, 10, 3)
    return [Part([stick], colour * 0.8), Part([ball], colour, strands=rng.random() < 0.5, shade=0.6)]


def _hair(frame, rng):
    """A fringe, or a lock over one side."""
    colours = [(20, 15, 12), (60, 40, 25), (120, 85, 50), (190, 160, 110), (130, 60, 35)]
    colour = np.array(colours[rng.integers(len(colours))], float)
    if rng.random() < 0.5:
        low = rng.uniform(-0.35, 0.15)
        edge = [[x, low + rng.uniform(-0.25, 0.1)] for x in np.linspace(-0.9, 0.9, 7)]
        outline = np.array([*edge, [1.1, -1.1], [-1.1, -1.1]])
    else:
        at = rng.uniform(-0.1, 0.6)
        edge = [[at + rng.uniform(-0.1, 0.1) + 0.1 * k, y] for k, y in enumerate(np.linspace(-0.9, 1.4, 6))]
        outline = np.array([*edge, [1.4, 1.4], [1.3, -0.9]]) * [rng.choice([-1, 1]), 1]
    return [Part([_smooth(outline, rng)], colour, strands=True, edge=0.2)]


_OCCLUDERS: dict[str, Callable[[FaceFrame, np.random.Generator], list[Part]]] = {
    "surgical_mask": _surgical_mask,
    "hand": _hand,
    "blob": _blob,
    "side": _side,
    "eye_band": _eye_band,
    "eye_patch": _eye_patch,
    "sunglasses": _sunglasses,
    "scarf": _scarf,
    "microphone": _microphone,
    "hair": _hair,
    "hands_on_eyes": _hands_on_eyes,
}


def _bytes(image):
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
