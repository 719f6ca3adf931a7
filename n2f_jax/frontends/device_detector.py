"""``face_detector.FaceDetector`` on the device, for many images of one size in one program.

The same networks, anchors, suppression and second looks, in shapes known beforehand. Where the detector would look
further (nothing found in the whole picture, or more faces than there is room for), an image is left unsettled, for the
detector itself.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from n2f_jax.frontends import face_detector as reference
from n2f_jax.frontends.device_images import ImageLevels, cut_upright
from n2f_jax.frontends.tflite_graph import TfliteGraph, Weights
from n2f_jax.frontends.work_queue import for_each
from n2f_jax.runtime.assets_cache import MEDIAPIPE, asset_path

NETWORKS = {
    "full": ("face_detection_full_range_sparse.tflite", reference.FULL_RANGE_GRIDS),
    "short": ("face_detection_short_range.tflite", reference.SHORT_RANGE_GRIDS),
}
# Anchors that may speak for faces of one square, faces of one square, and of one image.
_ANCHORS, _GROUPS, MAX_FACES = 128, 8, 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Detections:
    """Room for N detections (``face_detector.Detection``), the best first.

    Attributes:
        box: ``(..., N, 4)``.
        keypoints: ``(..., N, 6, 2)``.
        score: ``(..., N)``.
        valid: ``(..., N)`` whether there is one.
    """

    box: Float[Array, "... N 4"]
    keypoints: Float[Array, "... N 6 2"]
    score: Float[Array, "... N"]
    valid: Bool[Array, "... N"]

    def only(self, which: Bool[Array, "... N"]) -> Detections:
        """Without the others; places stay."""
        return dataclasses.replace(self, valid=self.valid & which)

    def flat(self, axes: int) -> Detections:
        """So many leading axes as one."""
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[axes:]), self)

    def of_images(self, count: int) -> Detections:
        """Back from one leading axis to ``(count, -1)``."""
        return jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), self)

    def size(self) -> Float[Array, "... N"]:
        """Longer side of each box."""
        return (self.box[..., 2:] - self.box[..., :2]).max(axis=-1)

    def __getitem__(self, index) -> Detections:
        return jax.tree.map(lambda x: x[index], self)


class DeviceDetector:
    """Finds faces as ``FaceDetector`` does; ``weights`` go along as arguments.

    Args:
        min_score, every_face: as there.

    Raises:
        AssetError: the networks are not in the cache.
    """

    def __init__(self, min_score: float = 0.5, every_face: bool = False):
        self.min_score, self.every_face = min_score, every_face
        self._graphs = {
            name: TfliteGraph(asset_path(MEDIAPIPE, file)) for name, (file, _) in NETWORKS.items()
        }
        self._anchors = {
            name: reference.anchors(grids).astype(np.float32) for name, (_, grids) in NETWORKS.items()
        }
        self.weights: dict[str, Weights] = {name: graph.weights for name, graph in self._graphs.items()}

    def __call__(
        self, weights: dict[str, Weights], levels: ImageLevels, at_once: int
    ) -> tuple[Detections, Bool[Array, "B"]]:
        """Faces of each image, ``(B, MAX_FACES)``, best score first; and whether an image is unsettled.

        Args:
            weights: as ``weights``.
            levels: the images.
            at_once: squares that a network sees in one call.
        """
        count, (height, width) = len(levels.pixels), levels.sizes[0]
        look = functools.partial(self._looked, weights, levels, at_once=at_once)
        confirm = functools.partial(self._confirmed, weights, levels, at_once=at_once)
        longer, shorter = float(max(height, width)), float(min(height, width))
        whole = np.array([[(width - longer) / 2, (height - longer) / 2, longer]], np.float32)
        everywhere, least = jnp.ones((count, 1), bool), min(reference.CANDIDATE, self.min_score)
        full, crowded = look("full", whole, everywhere, least)
        short, also_crowded = look("short", whole, everywhere, self.min_score)
        found, left = jax.vmap(_agreed)(full, short)
        sure = found.valid & (found.score < 0)  # marked so by _agreed
        found = dataclasses.replace(found, score=jnp.abs(found.score))
        unsure = _joined(found.only(~sure), left)
        faces = _joined(found.only(sure), confirm(unsure))
        unsettled = crowded | also_crowded | ~faces.valid.any(axis=1)
        large = (faces.valid & (faces.size() >= reference.LARGE * longer)).any(axis=1)
        further = jnp.ones(count, bool) if self.every_face else ~large
        side = reference.SHARES[0] * shorter
        if side >= self._graphs["full"].input_size / 2:
            across, down = (reference.starts(float(length), side) for length in (width, height))
            parts = np.array([[u, v, side] for v in down for u in across], np.float32)
            wanted = jnp.broadcast_to(further[:, None], (count, len(parts)))
            seen, crowded = look("full", parts, wanted, least)
            known = _same(seen, faces)
            seen = seen.only(~known)
            order = jnp.argsort(jnp.where(seen.valid, -seen.score, jnp.inf), axis=1, stable=True)
            seen = jax.vmap(lambda seen, order: seen[order])(seen, order)
            merged, overflow = jax.vmap(_merged)(seen)
            faces = _joined(faces, confirm(merged))
            unsettled |= further & (crowded | overflow)
        faces, overflow = jax.vmap(_distinct)(faces)
        return faces, unsettled | overflow

    def _looked(self, weights, levels, name, squares, wanted, min_score, *, at_once):
        """What a network sees in the same squares of each image: ``(B, S · _GROUPS)``, and whether it is too much."""
        count, number = len(levels.pixels), len(squares)
        images = jnp.repeat(jnp.arange(count, dtype=jnp.int32), number)
        items = images, jnp.tile(jnp.asarray(squares), (count, 1))
        see = functools.partial(self.see, weights, levels, name, min_score=min_score)
        found, crowded = for_each(lambda item: see(*item), items, wanted.reshape(-1), at_once)
        found = found.only(wanted.reshape(-1, 1)).flat(2).of_images(count)
        return found, (crowded & wanted.reshape(-1)).reshape(count, number).any(axis=1)

    def see(
        self,
        weights: dict[str, Weights],
        levels: ImageLevels,
        name: str,
        image: Int[Array, "n"],
        squares: Float[Array, "n 3"],
        min_score: float,
    ) -> tuple[Detections, Bool[Array, "n"]]:
        """What a network sees in squares of images, each face once; and whether there were more than it has room for.

        Args:
            weights: as ``weights``.
            levels: the images.
            name: of ``NETWORKS``.
            image: which of them each square is cut from.
            squares: u, v of the upper left corner and side, pixels.
            min_score: detections below are dropped.
        """
        graph = self._graphs[name]
        size = graph.input_size
        pixels = cut_upright(levels, image, squares, size) / 127.5 - 1.0
        outputs = graph.apply(weights[name], pixels).values()
        regression, logits = sorted((x[:, 0] for x in outputs), key=lambda x: -x.shape[-1])
        scores = jax.nn.sigmoid(jnp.clip(logits[..., 0], -50, 50))
        crowded = (scores >= min_score).sum(axis=1) > _ANCHORS
        scores, best = lax.top_k(jnp.where(scores >= min_score, scores, 0.0), _ANCHORS)
        values = jnp.take_along_axis(regression, best[..., None], axis=1).reshape(len(image), _ANCHORS, 8, 2)
        points = values + size * jnp.asarray(self._anchors[name])[best][:, :, None]
        half = values[:, :, 1:2] / 2
        corners = jnp.concatenate([points[:, :, :1] - half, points[:, :, :1] + half], axis=2)
        scale, corner = (squares[:, 2] / size)[:, None, None, None], squares[:, None, None, :2]
        box = (corners * scale + corner).reshape(len(image), _ANCHORS, 4)
        keypoints = points[:, :, 2:] * scale + corner
        found, more = jax.vmap(_merged)(Detections(box, keypoints, scores, scores > 0))
        return found, crowded | more

    def _confirmed(self, weights, levels, candidates: Detections, *, at_once: int) -> Detections:
        """Those that both networks see, as they see them, in a square around each; places stay."""
        count, number = candidates.valid.shape
        images = jnp.repeat(jnp.arange(count, dtype=jnp.int32), number)

        def second_look(item):
            image, candidate = item
            centre = (candidate.box[:, :2] + candidate.box[:, 2:]) / 2
            side = jnp.maximum(reference.CLOSER * candidate.size(), 1.0)
            squares = jnp.concatenate([centre - side[:, None] / 2, side[:, None]], axis=1)
            seen = []
            for name in ("short", "full"):
                found, _ = self.see(weights, levels, name, image, squares, self.min_score)
                same = found.valid & (overlap(found.box, candidate.box[:, None]) > reference.OVERLAP)
                first = jnp.argmax(same, axis=1)
                one = jax.vmap(lambda found, first: found[first])(found, first)
                seen.append(one.only(same.any(axis=1)))
            both = jax.tree.map(lambda x, y: jnp.stack([x, y], axis=1), *seen)
            sure = both.valid.all(axis=1) & (both.score.mean(axis=1) >= reference.SURE)
            return jax.vmap(_average)(both, both.valid).only(sure)

        flat = candidates.flat(2)
        found = for_each(second_look, (images, flat), flat.valid, at_once)
        return found.only(flat.valid).of_images(count)


def _joined(*parts: Detections) -> Detections:
    return jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *parts)


def _shared(first: Float[Array, "... 4"], second: Float[Array, "... 4"]):
    """Areas of the intersection and of both boxes."""
    low, high = jnp.maximum(first[..., :2], second[..., :2]), jnp.minimum(first[..., 2:], second[..., 2:])
    shared = jnp.clip(high - low, 0, None).prod(axis=-1)
    return shared, *((x[..., 2:] - x[..., :2]).prod(axis=-1) for x in (first, second))


def overlap(first: Float[Array, "... 4"], second: Float[Array, "... 4"]) -> Float[Array, "..."]:
    """``geometry.boxes.box_overlap``."""
    shared, a, b = _shared(first, second)
    total = a + b - shared
    return jnp.where(total > 0, shared / jnp.where(total > 0, total, 1.0), 0.0)


def _average(found: Detections, group: Bool[Array, "N"]) -> Detections:
    """One detection: weighted by score, which is the best's."""
    weights = jnp.where(group, found.score, 0.0)
    share = weights / jnp.maximum(weights.sum(), 1e-9)
    return Detections(
        jnp.sum(share[:, None] * found.box, axis=0),
        jnp.sum(share[:, None, None] * found.keypoints, axis=0),
        weights.max(),
        group.any(),
    )


def _merged(found: Detections) -> tuple[Detections, Bool[Array, ""]]:
    """Non-maximum suppression that averages what overlaps; and whether there is more than there is room for."""
    shares = overlap(found.box[:, None], found.box[None])

    def pick(left, _):
        best = jnp.argmax(jnp.where(left, found.score, -1.0))
        group = left & ((shares[best] > reference.OVERLAP) | (jnp.arange(len(left)) == best))
        return left & ~group, _average(found, group)

    left, merged = lax.scan(pick, found.valid, length=_GROUPS)
    return merged, left.any()


def _agreed(full: Detections, short: Detections) -> tuple[Detections, Detections]:
    """What the full-range network sees, averaged with what the other sees there; and what is left of the other's.

    What both are sure of has a negative score.
    """

    def meet(left, seen):
        also = left & seen.valid & (overlap(short.box, seen.box[None]) > reference.OVERLAP)
        first = short.score[jnp.argmax(also)]
        sure = also.any() & ((seen.score + first) / 2 >= reference.SURE)
        together = jax.tree.map(lambda x, y: jnp.concatenate([x[None], y]), seen, short)
        one = _average(together, jnp.concatenate([seen.valid[None], also]))
        return left & ~also, dataclasses.replace(one, score=jnp.where(sure, -one.score, one.score))

    left, found = lax.scan(meet, short.valid, full)
    return found, short.only(left)


def _same(seen: Detections, faces: Detections) -> Bool[Array, "B N"]:
    """Which of the first are of one face with any of the others, or of a part of it."""
    return (_of_one_face(seen.box[:, :, None], faces.box[:, None]) & faces.valid[:, None]).any(axis=2)


def _of_one_face(first: Float[Array, "... 4"], second: Float[Array, "... 4"]) -> Bool[Array, "..."]:
    shared, a, b = _shared(first, second)
    return (overlap(first, second) > reference.OVERLAP) | (shared > reference.INSIDE * jnp.minimum(a, b))


def _distinct(faces: Detections) -> tuple[Detections, Bool[Array, ""]]:
    """Each face once, as it has the best score, best first; and whether there are more than ``MAX_FACES``."""
    order = jnp.argsort(jnp.where(faces.valid, -faces.score, jnp.inf), stable=True)
    faces = faces[order]
    same = _of_one_face(faces.box[:, None], faces.box[None])

    def keep(i, kept):
        return kept.at[i].set(faces.valid[i] & ~(same[i] & kept).any())

    kept = lax.fori_loop(0, len(order), keep, jnp.zeros(len(order), bool))
    places = jnp.argsort(~kept, stable=True)[:MAX_FACES]
    return faces.only(kept)[places], kept.sum() > MAX_FACES
