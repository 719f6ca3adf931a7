"""What the face mesh's networks get wrong, as measured: what they say of points whose truth is known.

    said = true + offset(yaw) · (1 + ε) + pull(yaw) · coefficients(true) + (detail − 1) · what else is true
           + std(yaw) · (smooth field + independent part)

*Offset*: the mean error at each point. *Pull*: the networks see heads nearer to their own mean than they are, so the
error is linear in the main coefficients of the true shape: more along the depth than across it. *Detail*: of a shape's
deviation from the mean that is no sum of the main directions they see a share, hardly a quarter. Left whole, that part
would tell what the pull hides: other people's main directions, the sampler's, are not the measured ones'. *Rest*:
mostly smooth (regions err together), a factor of some columns, and what is left of each point's variance,
independently. ε and the rest are one draw for each image.

In units of the crop's side. Offset and pull are in the head's axes, where shapes are compared; in upright image axes an
offset by yaw would leave as much (1.83 % of the crop against 1.82 %, v1 on the reporting renders). The rest is in the
view's: the head's, turned about its vertical axis until z points at the viewer, since what is guessed and not seen is
the depth, whichever way the head is turned. In both, a head turned to the right is the mirror image of one turned to
the left. ``scripts/build/measure_point_errors.py`` measures it, on renders of heads that are not ours and, for how much
more photographs vary, on annotated photographs; docs/training_data.md has the tables.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from flame_jax.landmarks import yaw_from_rotation
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh

ASSET = "face_mesh_errors.npz"
VERSIONS = ("v1", "v2")
# Side of the crop in whose units errors are, over the longer side of the true 68 landmarks' box.
CROP_SCALE = 1.4
Kind = Literal["render", "photograph"]

_SHARED = ("yaw_knots", "pull_knots", "mean_points", "directions")
_MEASURED = ("offset", "offset_gain_std", "pull", "detail", "spread", "smooth", "image_rms")
_EYES = ("closure_std", "gaze_std_deg")
_SCALARS = (
    "kind_std",
    "photograph_scale",
    "effective",
    "effective_posed",
    *_EYES,
)


class ErrorModelError(ValueError):
    """The asset is missing or damaged; the message says which file and why."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PointErrors:
    """Errors of one network's 468 points. A pytree.

    Fields over the points are in units of the crop's side (``CROP_SCALE``); in the head's axes (x to the subject's
    left, y up, z out of the face) if nothing else is said. K and P yaws, J directions, L columns.

    Attributes:
        yaw_knots: ``(K,)`` radians from 0 on, rising; between them fields are interpolated, beyond the last they stay.
            Negative yaws, to the subject's right, are the mirror image.
        offset: ``(K, 468, 3)`` mean error.
        offset_gain_std: ``(K,)`` σ of ε: how much the offset varies from image to image.
        pull_knots: ``(P,)`` the same for the pull.
        pull: ``(P, J, 468, 3)`` error by each coefficient.
        detail: ``(3,)`` share that is seen of what the directions leave of a shape, in the view's axes.
        spread: ``(K, 468, 3)`` σ of the rest, in the view's axes.
        smooth: ``(L, 468, 3)`` its smooth part over ``spread``: columns of a factor, whose squares add up to 1 at most.
        mean_points: ``(468, 3)`` mean true points in the head's axes about the mean of the upper face's, metres.
        directions: ``(J, 468, 3)`` their products with true points less the mean are the coefficients, of σ 1 over the
            people measured.
        kind_std: σ of the offset between kinds of image, crop sides; a smooth field, as the rest.
        photograph_scale: σ of the rest on photographs over that on renders.
        effective: how many independent observations the 468 points' places in the image are, by the covariance C of all
            their errors on heads within 40° of frontal, ``(tr C)²/tr C²`` over 2: a point is two numbers.
        effective_posed: the same after the errors' best shift, turn and scale in space are taken out.
        image_rms: ``(468,)`` root mean square of each point's whole error in the image, a coordinate, crop sides, on
            heads within 40° of frontal: what a fit that corrects nothing has to reckon with.
        closure_std, gaze_std_deg: σ of lids' closure and of the gaze; NaN where not measured.
        parity: ``(J,)`` 1 where a direction is its own mirror image, −1 where it is its negative.
        mirror: ``(468,)`` each point's mirror image.
        upper_face: ``(U,)`` points that pose and scale are taken from.
    """

    yaw_knots: Float[Array, " K"]
    offset: Float[Array, "K 468 3"]
    offset_gain_std: Float[Array, " K"]
    pull_knots: Float[Array, " P"]
    pull: Float[Array, "P J 468 3"]
    detail: Float[Array, "3"]
    spread: Float[Array, "K 468 3"]
    smooth: Float[Array, "L 468 3"]
    mean_points: Float[Array, "468 3"]
    directions: Float[Array, "J 468 3"]
    kind_std: Float[Array, ""]
    photograph_scale: Float[Array, ""]
    effective: Float[Array, ""]
    effective_posed: Float[Array, ""]
    image_rms: Float[Array, "468"]
    closure_std: Float[Array, ""]
    gaze_std_deg: Float[Array, ""]
    parity: Float[Array, " J"]
    mirror: Int[Array, "468"]
    upper_face: Int[Array, " U"]

    def std(self, yaw: Float[Array, ""] | float, kind: Kind = "photograph") -> Float[Array, "468 3"]:
        """σ of what is left of the error when offset, ε and pull are known, in the view's axes, crop sides.

        Args:
            yaw: radians, positive to the subject's left.
            kind: of the image.
        """
        spread = self._at(self.spread, yaw, 1.0)
        if kind == "render":
            return spread
        return jnp.sqrt((self.photograph_scale * spread) ** 2 + self.kind_std**2)

    def mean_error(self, yaw: Float[Array, ""] | float) -> Float[Array, "468 3"]:
        """The offset in the head's axes, crop sides; arguments as for ``std``."""
        return self._at(self.offset, yaw, -1.0)

    def coefficients(
        self, points: Float[Array, "468 3"], rotation: Float[Array, "3 3"]
    ) -> Float[Array, " J"]:
        """What the pull is linear in: of true points, in any unit; ``rotation`` as for ``draw``."""
        return self._of_deviation(self._deviation(points, rotation)[0])

    def _of_deviation(self, deviation: Float[Array, "468 3"]) -> Float[Array, " J"]:
        return jnp.tensordot(
            jnp.asarray(self.directions), deviation, axes=2, precision=jax.lax.Precision.HIGHEST
        )

    def _deviation(
        self, points: Float[Array, "468 3"], rotation: Float[Array, "3 3"]
    ) -> tuple[Float[Array, "468 3"], Float[Array, ""]]:
        """Of a shape from the mean, the head's axes, metres; and the points' unit a metre."""
        local = jnp.matmul(points, rotation, precision=jax.lax.Precision.HIGHEST)
        local = local - local[self.upper_face].mean(axis=0, keepdims=True)
        reference = self.mean_points[self.upper_face]
        scale = jnp.sum(local[self.upper_face] * reference) / jnp.sum(reference**2)
        return local / scale - self.mean_points, scale

    def expected(
        self, points: Float[Array, "468 3"], rotation: Float[Array, "3 3"], size: float
    ) -> Float[Array, "468 3"]:
        """What the network says of true points on average: arguments as for ``draw``."""
        yaw, exact = _yaw(rotation), jax.lax.Precision.HIGHEST
        deviation, scale = self._deviation(points, rotation)
        coefficients = self._of_deviation(deviation)
        lengths = jnp.sum(self.directions**2, axis=(1, 2))
        outside = deviation - jnp.tensordot(coefficients / lengths, self.directions, axes=1, precision=exact)
        axes = view_axes(yaw)
        unseen = jnp.matmul(
            jnp.matmul(outside, axes, precision=exact) * (self.detail - 1.0)[None], axes.T, precision=exact
        )
        # The pull is that of a head turned to the left.
        coefficients = jnp.where(yaw < 0, self.parity * coefficients, coefficients)
        pull = jnp.tensordot(
            coefficients, self._between(self.pull, yaw, self.pull_knots), axes=1, precision=exact
        )
        error = self.mean_error(yaw) + self._mirrored(pull, yaw, -1.0) + unseen * (scale / size)
        return points + size * jnp.matmul(error, rotation.T, precision=exact)

    def draw(
        self,
        key: PRNGKeyArray,
        points: Float[Array, "468 3"],
        rotation: Float[Array, "3 3"],
        size: float,
        kind: Kind = "photograph",
    ) -> Float[Array, "468 3"]:
        """What the network might say of true points. Pure, for one head; use ``vmap``.

        Args:
            key: of the image.
            points: true u, v in pixels and depth in the same scale (``data.sampler.coarse_points``).
            rotation: head frame to camera frame, as the points show it (``coarse_mesh.head_rotation``).
            size: the crop's side in pixels: that of ``CROP_SCALE``, whatever crop the points are in.
            kind: of the image: photographs vary more than renders.
        """
        gain_key, smooth_key, single_key = jax.random.split(key, 3)
        yaw = _yaw(rotation)
        columns = jax.random.normal(smooth_key, self.smooth.shape[:1])
        field = jnp.tensordot(columns, self.smooth, axes=1)
        left = jnp.sqrt(jnp.maximum(1.0 - jnp.sum(self.smooth**2, axis=0), 0.0))
        field = field + left * jax.random.normal(single_key, left.shape)
        # A smooth field and its mirror image are equally likely, so the head's side does not matter here.
        error = jnp.matmul(self.std(yaw, kind) * field, view_axes(yaw).T, precision=jax.lax.Precision.HIGHEST)
        gain_std = jnp.interp(jnp.abs(yaw), jnp.asarray(self.yaw_knots), jnp.asarray(self.offset_gain_std))
        gain = gain_std * jax.random.normal(gain_key)
        error = error + gain * self.mean_error(yaw)
        turned = jnp.matmul(error, rotation.T, precision=jax.lax.Precision.HIGHEST)
        return self.expected(points, rotation, size) + size * turned

    def _at(
        self, fields: Float[Array, "K 468 3"], yaw: Float[Array, ""] | float, x_sign: float
    ) -> Float[Array, "468 3"]:
        """A field of the yaw."""
        return self._mirrored(self._between(fields, yaw, self.yaw_knots), yaw, x_sign)

    def _between(
        self, fields: Float[Array, "P ... 468 3"], yaw: Float[Array, ""] | float, knots: Float[Array, " P"]
    ) -> Float[Array, "... 468 3"]:
        """That of a head turned to the left as far, interpolated."""
        yaw, knots, fields = (jnp.asarray(value, jnp.float32) for value in (yaw, knots, fields))
        place = jnp.interp(jnp.abs(yaw), knots, jnp.arange(knots.shape[0], dtype=knots.dtype))
        low = jnp.minimum(place.astype(jnp.int32), knots.shape[0] - 2)
        share = place - low.astype(knots.dtype)
        return fields[low] * (1.0 - share) + fields[low + 1] * share

    def _mirrored(
        self, field: Float[Array, "468 3"], yaw: Float[Array, ""] | float, x_sign: float
    ) -> Float[Array, "468 3"]:
        """The mirror image, x times ``x_sign``, where the head is turned to its right."""
        flip = jnp.asarray([[x_sign, 1.0, 1.0]], jnp.float32)
        return jnp.where(jnp.asarray(yaw) < 0, field[self.mirror] * flip, field)


def view_axes(yaw: Float[Array, ""] | float) -> Float[Array, "3 3"]:
    """Columns: the view's axes in the head's: across the view, up the head, towards the viewer."""
    c, s = jnp.cos(jnp.asarray(yaw, jnp.float32)), jnp.sin(jnp.asarray(yaw, jnp.float32))
    zero, one = jnp.zeros_like(c), jnp.ones_like(c)
    return jnp.stack([c, zero, -s, zero, one, zero, s, zero, c]).reshape(3, 3)


def load_point_errors(version: str) -> PointErrors:
    """The errors of one network, as measured (NumPy arrays, so that loading starts no device).

    Args:
        version: of ``VERSIONS``: of the face mesh (``frontends.face_networks``).

    Raises:
        ErrorModelError: another version; or the asset is missing or damaged.
    """
    if version not in VERSIONS:
        raise ErrorModelError(f"point errors were measured of {', '.join(VERSIONS)}, not of {version!r}")
    return read_point_errors(_asset())[version]


def _asset() -> Path:
    return Path(str(resources.files("n2f_jax.face_mesh") / "assets" / ASSET))


@functools.cache
def read_point_errors(path: Path) -> dict[str, PointErrors]:
    """Every version of a file that ``scripts/build/measure_point_errors.py`` wrote.

    Raises:
        ErrorModelError: it is missing or damaged.
    """
    if not path.is_file():
        raise ErrorModelError(f"{path} is missing: scripts/build/measure_point_errors.py writes it")
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
        values = json.loads(str(arrays["values"]))
        found = {version: _from_arrays(version, arrays, values[version]) for version in VERSIONS}
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise ErrorModelError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return found


def about_point_errors() -> str:
    """Where the asset comes from; errors as ``load_point_errors``."""
    path = _asset()
    read_point_errors(path)
    with np.load(path, allow_pickle=False) as data:
        return str(data["about"])


def _from_arrays(version: str, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> PointErrors:
    mesh = load_coarse_mesh()
    fields = {name: arrays[name].astype(np.float32) for name in _SHARED}
    fields |= {name: arrays[f"{version}_{name}"].astype(np.float32) for name in _MEASURED}
    knots, directions = len(fields["yaw_knots"]), len(fields["directions"])
    columns = len(fields["smooth"])
    pulls, points = len(fields["pull_knots"]), len(mesh.mirror)
    lengths = {"offset": knots, "spread": knots, "directions": directions, "smooth": columns}
    shapes = {name: (count, points, 3) for name, count in lengths.items()} | {
        "yaw_knots": (knots,),
        "offset_gain_std": (knots,),
        "pull_knots": (pulls,),
        "pull": (pulls, directions, points, 3),
        "mean_points": (points, 3),
        "detail": (3,),
        "image_rms": (points,),
    }
    for name, field in fields.items():
        if field.shape != shapes[name] or not np.isfinite(field).all():
            raise ValueError(f"{name} of {version} is {field.shape}, not finite {shapes[name]}")
    # What is not measured is null.
    scalars = {name: np.float32(np.nan if values[name] is None else values[name]) for name in _SCALARS}
    if unknown := [name for name in _SCALARS if name not in _EYES and not np.isfinite(scalars[name])]:
        raise ValueError(f"{', '.join(unknown)} of {version} is not there")
    rows = fields["directions"].astype(np.float64)
    mirrored = rows[:, mesh.mirror] * [-1.0, 1.0, 1.0]
    parity = np.sign((rows * mirrored).sum(axis=(1, 2))).astype(np.float32)
    return PointErrors(**fields, **scalars, parity=parity, mirror=mesh.mirror, upper_face=mesh.upper_face)


def _yaw(rotation: Float[Array, "3 3"]) -> Float[Array, ""]:
    """Radians; y up and z towards the viewer is what ``yaw_from_rotation`` wants of the rows."""
    return yaw_from_rotation(rotation * jnp.asarray([[1.0], [-1.0], [-1.0]], rotation.dtype))
