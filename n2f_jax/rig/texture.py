"""A head's colours from photographs: a texture where the head model has texture coordinates, else vertex colours."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from scipy.ndimage import distance_transform_edt

from flame_jax import HeadModel
from n2f_jax.mesh.colors import linear_to_srgb, region_colors, srgb_to_linear
from n2f_jax.metrics.skin import NOT_SKIN
from n2f_jax.render.topology import vertices_in
from n2f_jax.rig.filling import Canvas
from n2f_jax.rig.places import Places, mirror_images, texels
from n2f_jax.rig.projection import PhotoView, Seen, from_log, look
from n2f_jax.rig.writing import Skin
from n2f_jax.visualization.face_features import CAVITY, SCLERA, TEETH, TONGUE, Pigments, eye_albedo

MIN_SIZE, MAX_SIZE = 64, 8192  # of a texture's side, pixels
_JPEG = {"quality": 95, "subsampling": 0}
# Parts that photographs hardly show are painted: linear albedo. The sockets, behind the lids, are skin.
_PLAIN = {"mouth_cavity": CAVITY, "teeth": TEETH, "tongue": TONGUE}
_EYES = ("left_eyeball", "right_eyeball")
_INSIDE = tuple(name for name in NOT_SKIN if name != "eye_sockets")
# Metres from an eye's axis: between pupil and rim, and on the white.
_IRIS_RING, _WHITE_RING = (0.0030, 0.0050), (0.0068, 0.0100)
_LEAST_PIXELS = 12  # that tell an eye's colour
_IRIS = (0.07, 0.045, 0.03)  # linear, where the photograph does not tell
_MOST_LIGHT = 2.0


def face_skin(
    model: HeadModel, rest: Float[np.ndarray, "V 3"], views: Sequence[PhotoView], size: int
) -> Skin:
    """How a person's head is coloured.

    The first photograph counts most; the next are laid under it, then the mirror image of all, then the colours around.
    Eyeballs, teeth, tongue and mouth are painted: the iris in the photograph's colour, the others plain.

    Args:
        model: the head model.
        rest: ``(V, 3)`` the person without expression.
        views: photographs of the person; none for plain skin.
        size: side of the texture, pixels.

    Raises:
        ValueError: the size is out of range.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"textures have sides of {MIN_SIZE} to {MAX_SIZE} pixels, not {size}")
    if not views:
        return Skin(colors=region_colors(model))
    has_uv = model.uv.shape[0] > 0
    if has_uv:
        where, places = texels(model, size)
    else:
        where, places = np.zeros(0, np.int64), Places.of_vertices(model.num_vertices)
    points, vertices = _painted(model, rest, views, places)
    if not has_uv:
        return Skin(colors=np.rint(vertices).astype(np.uint8))
    return Skin(_jpeg(_image(where, points, size)), "image/jpeg")


def _painted(model, rest, views, places):
    """sRGB of points and vertices, float."""
    faces = np.asarray(model.faces, np.int64)
    inside = vertices_in(model, _INSIDE)
    of_vertices = Places.of_vertices(model.num_vertices)
    canvas = Canvas(
        faces[~inside[faces].all(axis=1)],
        np.asarray(rest, np.float64),
        places,
        mirror_images(model, places),
        mirror_images(model, of_vertices),
        vertices_in(model, ["face"]) & ~vertices_in(model, NOT_SKIN),
        vertices_in(model, ["scalp"]),
    )
    pictures = [look(view, faces, places) for view in views]
    # Through an open mouth or beside an eyeball other parts are seen than the mesh has there.
    skin_points = ~inside[places.corners].all(axis=1)
    seen: Seen | None = None
    for picture in pictures:
        picture = Seen(
            picture.points,
            picture.points_weight * skin_points,
            picture.vertices,
            picture.vertices_weight * ~inside,
        )
        seen = picture if seen is None else canvas.laid_under(seen, picture)
    assert seen is not None
    seen = canvas.laid_under(seen, canvas.mirrored(seen))
    points, vertices = (from_log(colors) for colors in canvas.completed(seen))
    plain = _Inside(model, rest, pictures[0], places, vertices[~inside])
    return plain.over(points, places), plain.over(vertices, of_vertices)


class _Inside:
    """Eyeballs and mouth, in the light of the photograph."""

    def __init__(
        self,
        model: HeadModel,
        rest: np.ndarray,
        picture: Seen,
        places: Places,
        skin: Float[np.ndarray, "n 3"],
    ):
        self._rest = np.asarray(rest, np.float64)
        self._masks = {name: vertices_in(model, [name]) for name in (*_PLAIN, *_EYES) if name in model.masks}
        self._axis = np.array([0.0, 0.0, 1.0])
        # Skin of the reference's lightness; its colour is nobody's business here.
        self._light = float(
            np.clip(srgb_to_linear(skin).mean() / 0.30 if len(skin) else 1.0, 1 / _MOST_LIGHT, _MOST_LIGHT)
        )
        self._iris, self._white = self._eye_colors(picture, places)

    def over(self, colors: Float[np.ndarray, "N 3"], places: Places) -> Float[np.ndarray, "N 3"]:
        """Colours (sRGB) with these parts painted over."""
        colors = np.array(colors)
        for name, albedo in _PLAIN.items():
            if name in self._masks:
                part = self._masks[name][places.corners].all(axis=1)
                colors[part] = linear_to_srgb(self._light * np.asarray(albedo))
        for name in _EYES:
            if name in self._masks:
                part, offset = self._eye(name, places)
                pigments = Pigments(skin=(0, 0, 0), hair=(0, 0, 0), iris=tuple(self._iris), scalp=False)
                linear = eye_albedo(offset, pigments)
                # Its white is a constant; the photograph's is as light as the photograph.
                far = np.hypot(offset[:, 0], offset[:, 1])[:, None] > _WHITE_RING[0] - 0.0009
                colors[part] = linear_to_srgb(
                    np.where(far, linear / np.asarray(SCLERA) * self._white, linear)
                )
        return colors

    def _eye(self, name: str, places: Places) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "n 3"]]:
        part = np.flatnonzero(self._masks[name][places.corners].all(axis=1))
        centre = self._rest[self._masks[name]].mean(axis=0)
        offset = Places(places.corners[part], places.shares[part]).on(self._rest - centre).astype(np.float64)
        offset[offset[:, 2] < 0.0, :2] *= 100.0  # the back is white
        return part, offset

    def _eye_colors(self, picture: Seen, places: Places) -> tuple[np.ndarray, np.ndarray]:
        """Linear colours of iris and white: medians of what is seen, both eyes together."""
        rings = {_IRIS_RING: [np.zeros((0, 3))], _WHITE_RING: [np.zeros((0, 3))]}
        for name in _EYES:
            if name not in self._masks:
                continue
            part, offset = self._eye(name, places)
            away = np.hypot(offset[:, 0], offset[:, 1])
            visible = picture.points_weight[part] > 0.3
            for ring, found in rings.items():
                chosen = part[visible & (away > ring[0]) & (away < ring[1])]
                found.append(srgb_to_linear(from_log(picture.points[chosen])))
        iris, white = (np.concatenate(found) for found in rings.values())
        # Lids and lashes darken and colour most of what is seen of the white: its lightest quarter, without colour.
        light = (
            float(np.percentile(white.mean(axis=1), 75)) / float(np.mean(SCLERA))
            if len(white) >= _LEAST_PIXELS
            else 0.0
        )
        light = max(light, 0.6 * self._light)
        return (
            np.median(iris, axis=0) if len(iris) >= _LEAST_PIXELS else np.asarray(_IRIS) * self._light,
            light * np.asarray(SCLERA),
        )


def _image(where: np.ndarray, colors: np.ndarray, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """The texture; pixels beside the head's get the nearest colour, since players blend over the edges."""
    image = np.zeros((size * size, 3), np.uint8)
    image[where] = np.rint(colors)
    empty = np.ones(size * size, bool)
    empty[where] = False
    nearest = distance_transform_edt(empty.reshape(size, size), return_distances=False, return_indices=True)
    return image.reshape(size, size, 3)[tuple(nearest)]


def _jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", **_JPEG)
    return stream.getvalue()
