"""A photo-like picture of any head mesh: lit, painted and antialiased.

For measuring the whole way from a picture to a head on heads that exist only as meshes. No photograph: no hair but its
colour, no shadows but of the sky, no shoulders.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from n2f_jax.geometry.camera import Camera
from n2f_jax.mesh.colors import linear_to_srgb, srgb_to_linear
from n2f_jax.mesh.normals import vertex_normals
from n2f_jax.mesh.triangle_mesh import TriangleMesh
from n2f_jax.render import rasterize, shade
from n2f_jax.visualization.face_features import Pigments
from n2f_jax.visualization.face_paint import FacePaint
from n2f_jax.visualization.open_sky import open_sky

# sRGB; what a camera shows of skin in even light.
SKIN_TONES = {
    "pale": (238, 205, 187),
    "light": (226, 184, 160),
    "tan": (203, 154, 122),
    "olive": (186, 143, 108),
    "brown": (146, 98, 70),
    "dark": (98, 65, 49),
}
GREY = (176, 176, 176)
_HAIR = ((28, 22, 20), (58, 40, 30), (92, 66, 46), (140, 108, 74))
_IRISES = ((74, 48, 32), (98, 70, 44), (104, 112, 80), (98, 122, 142))
_SAMPLES = 2  # along each side of a pixel
_INSIDE = 0.12  # of the albedo where a hole lets one see a mesh from inside
_SKIN_GLOSS, _SKIN_POWER = 0.05, 18.0
_EYE_GLOSS, _EYE_POWER = 1.5, 900.0
# Cameras expose for what they see, but not all the way.
_EXPOSED_FOR, _EXPOSURE_POWER = 0.36, 0.35
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


@dataclasses.dataclass(frozen=True)
class Look:
    """What a person and the light on them look like.

    Light comes in the viewer's frame: x right, y up, z towards the viewer. A surface of albedo a that faces the key
    light and sees the whole sky sends out about ``a·(key + sky)``.

    Attributes:
        skin: linear albedo.
        hair: linear albedo of brows, lashes and scalp hair.
        iris: linear albedo.
        scalp: whether hair colours the scalp.
        paint: brows, lips, lids, eyes, hair; False for a bare head of ``skin`` alone.
        key_direction: towards the main light; any length.
        key: its strength.
        sky: strength of the even light from above; from below comes ``ground``.
        ground: its strength.
        fill: strength of a weak light from the camera's side, away from the key light.
        background: sRGB 0 … 255 at the picture's upper edge.
        background_below: at its lower edge.
    """

    skin: tuple[float, float, float]
    hair: tuple[float, float, float] = (0.02, 0.013, 0.010)
    iris: tuple[float, float, float] = (0.07, 0.04, 0.02)
    scalp: bool = True
    paint: bool = True
    key_direction: tuple[float, float, float] = (-0.4, 0.5, 0.77)
    key: float = 0.75
    sky: float = 0.40
    ground: float = 0.15
    fill: float = 0.12
    background: tuple[float, float, float] = (150.0, 155.0, 160.0)
    background_below: tuple[float, float, float] = (120.0, 124.0, 130.0)

    @property
    def pigments(self) -> Pigments:
        return Pigments(skin=self.skin, hair=self.hair, iris=self.iris, scalp=self.scalp)

    @property
    def is_grey(self) -> bool:
        """Whether the skin has no colour. What is painted has none then, either."""
        return max(self.skin) - min(self.skin) < 1e-6


def random_look(rng: np.random.Generator, kind: Literal["grey", "skin"]) -> Look:
    """A random look.

    The key light stands up to 60° to either side of the viewer and up to 50° above.

    Args:
        rng: source of all chance.
        kind: ``'grey'``: as plaster, brows and lips in darker greys; ``'skin'``: one of ``SKIN_TONES`` with hair and
            eyes that go with it.

    Raises:
        ValueError: another kind.
    """
    if kind not in ("grey", "skin"):
        raise ValueError(f"a look is 'grey' or 'skin', not {kind!r}")
    side = rng.uniform(-1.05, 1.05)
    above = rng.uniform(0.0, 0.87)
    key_direction = (
        math.sin(side) * math.cos(above),
        math.sin(above),
        math.cos(side) * math.cos(above),
    )
    tone = rng.integers(len(SKIN_TONES))
    # Dark skin goes with dark hair and eyes.
    choices = 4 if tone < 2 else 2 if tone < 4 else 1
    if kind == "grey":  # where light hair would be no darker than the skin
        choices = min(choices, 2)
    hair, iris = _HAIR[rng.integers(choices)], _IRISES[rng.integers(choices)]
    srgb = GREY if kind == "grey" else tuple(SKIN_TONES.values())[tone]
    level = rng.uniform(50.0, 225.0)
    tint = rng.uniform(-12.0, 12.0, 3)
    fall = rng.uniform(0.75, 1.0)
    return Look(
        skin=_linear(np.asarray(srgb) + rng.uniform(-4.0, 4.0)),
        hair=_linear(hair),
        iris=_linear(iris),
        scalp=True,
        paint=True,
        key_direction=key_direction,
        key=float(rng.uniform(0.60, 0.95)),
        sky=float(rng.uniform(0.22, 0.45)),
        ground=float(rng.uniform(0.08, 0.20)),
        fill=float(rng.uniform(0.08, 0.18)),
        background=_triple(level + tint),
        background_below=_triple(fall * (level + tint)),
    )


def portrait(
    mesh: TriangleMesh,
    camera: Camera,
    size: int | tuple[int, int],
    look: Look,
    paint: FacePaint | None,
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of a head.

    Args:
        mesh: head frame, metres. Through its holes one sees its inside, dark.
        camera: without batch axes; of the picture's pixels.
        size: side of the picture, or (H, W), pixels.
        look: person and light.
        paint: ``FacePaint.of(mesh, …)``, or None for a bare head. For many bare pictures of one mesh rather give it and
            set ``look.paint`` to False: it holds what of the sky each vertex sees.

    Returns:
        sRGB. Every pixel of the background is exactly ``look``'s.
    """
    height, width = (size, size) if isinstance(size, int) else size
    occlusion = open_sky(mesh.vertices, mesh.faces) if paint is None else paint.occlusion
    rotation, shift = (np.asarray(x, np.float64) for x in (camera.rotation, camera.translation))
    vertices_cam = mesh.vertices @ rotation.T + shift
    normals = vertex_normals(mesh.vertices, mesh.faces)
    attributes = np.concatenate([mesh.vertices, normals, occlusion[:, None]], axis=1)
    face, values = _draw(
        jnp.asarray(_padded(vertices_cam), jnp.float32),
        jnp.asarray(_padded(attributes), jnp.float32),
        jnp.asarray(_padded(mesh.faces), jnp.int32),
        jnp.asarray(_SAMPLES * np.asarray(camera.focal), jnp.float32),
        jnp.asarray(_SAMPLES * np.asarray(camera.principal_point), jnp.float32),
        (_SAMPLES * height, _SAMPLES * width),
    )
    face, values = np.asarray(face), np.asarray(values)
    rows = np.linspace(0.0, 1.0, _SAMPLES * height)[:, None]
    background = (1.0 - rows) * np.asarray(look.background) + rows * np.asarray(look.background_below)
    picture = np.repeat(srgb_to_linear(background)[:, None], _SAMPLES * width, axis=1)
    seen = face >= 0
    if seen.any():
        values = values[seen].astype(np.float64)
        picture[seen] = _color(mesh, face[seen], values, rotation, shift, look, paint)
    picture = picture.reshape(height, _SAMPLES, width, _SAMPLES, 3).mean(axis=(1, 3))
    return np.rint(linear_to_srgb(picture)).astype(np.uint8)


@functools.partial(jax.jit, static_argnames="size")
def _draw(
    vertices_cam: Float[Array, "V 3"],
    attributes: Float[Array, "V C"],
    faces: Int[Array, "F 3"],
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    size: tuple[int, int],
) -> tuple[Int[Array, "H W"], Float[Array, "H W C"]]:
    face = rasterize(vertices_cam, faces, focal, principal_point, size, cull_backfaces=False).face
    values, _, _ = shade(face, vertices_cam, faces, focal, principal_point, attributes[faces])
    return face, values


def _padded(rows):
    """Zeros appended up to one of a few lengths, so that meshes of similar size share a compiled program.

    A triangle of zeros has no area and is not drawn.
    """
    count = len(rows)
    step = max(256, 1 << max(count.bit_length() - 3, 0))
    length = -(-count // step) * step
    return np.concatenate([rows, np.zeros((length - count, *rows.shape[1:]), rows.dtype)])


def _color(
    mesh: TriangleMesh,
    face: Int[np.ndarray, " P"],
    values: Float[np.ndarray, "P 7"],
    rotation: Float[np.ndarray, "3 3"],
    shift: Float[np.ndarray, "3"],
    look: Look,
    paint: FacePaint | None,
) -> Float[np.ndarray, "P 3"]:
    """Linear light of the drawn samples: ``values`` are point and normal in the head frame, and open sky."""
    points, normals, open_share = values[:, :3], values[:, 3:6], values[:, 6]
    # The frame that lights are in has y up and z towards the viewer.
    to_viewer = np.array([1.0, -1.0, -1.0])[:, None] * rotation
    toward = -(points @ to_viewer.T + shift * np.array([1.0, -1.0, -1.0]))
    toward = _unit(toward)
    n = _unit(normals @ to_viewer.T)
    a, b, c = (mesh.vertices[mesh.faces[face, corner]] for corner in range(3))
    inside = (np.cross(b - a, c - a) @ to_viewer.T * toward).sum(axis=1) < 0.0
    n = np.where(inside[:, None], -n, n)

    skin = np.asarray(look.skin, np.float64)
    gloss, power = np.full(len(points), _SKIN_GLOSS), np.full(len(points), _SKIN_POWER)
    shiny = n
    if look.paint and paint is not None:
        albedo, eye, eye_normals = paint.albedo(points, face, look.pigments)
        gloss[eye], power[eye] = _EYE_GLOSS, _EYE_POWER
        shiny = np.where(eye[:, None], eye_normals @ to_viewer.T, n)
    else:
        albedo = np.tile(skin, (len(points), 1))
    if look.is_grey:
        albedo = np.repeat(albedo @ _LUMINANCE[:, None], 3, axis=1)
        skin = np.repeat(skin @ _LUMINANCE, 3)
    albedo = np.where(inside[:, None], _INSIDE * albedo, albedo)
    gloss[inside] = 0.0

    key = _unit(np.asarray(look.key_direction, np.float64))
    fill = _unit(np.array([-key[0], 0.1, 0.8]))
    up = 0.5 + 0.5 * n[:, 1]
    light = open_share * (look.sky * up + look.ground * (1.0 - up))
    shine = np.zeros(len(points))
    for direction, strength in ((key, look.key), (fill, look.fill)):
        # Deep in a fold little arrives of any light.
        strength = strength * np.minimum(1.0, 0.35 + open_share)
        light += strength * np.maximum(n @ direction, 0.0)
        half = _unit(direction + toward)
        shine += strength * np.maximum((shiny * half).sum(axis=1), 0.0) ** power
    exposure = (_EXPOSED_FOR / max(float(skin @ _LUMINANCE), 1e-3)) ** _EXPOSURE_POWER
    return exposure * (albedo * light[:, None] + (gloss * shine)[:, None])


def _unit(vectors):
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _linear(srgb):
    return _triple(srgb_to_linear(np.clip(np.asarray(srgb, np.float64), 0.0, 255.0)))


def _triple(values):
    red, green, blue = (float(x) for x in values)
    return red, green, blue
