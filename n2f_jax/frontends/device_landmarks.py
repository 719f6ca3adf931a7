"""``face_landmarks.FaceLandmarker`` on the device: points, scores, check and eyes of faces that were detected.

Every function is of n faces at once, in float32, and gives what its NumPy counterpart gives of each; those have the
reasons.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from flame_jax.rotations import axis_angle_to_matrix
from n2f_jax.face_mesh.coarse_mesh import NUM_POINTS, load_coarse_mesh
from n2f_jax.frontends import Landmarks, eyes, face_confidence, profile
from n2f_jax.frontends.blendshapes import BLENDSHAPES, POINTS
from n2f_jax.frontends.device_detector import Detections
from n2f_jax.frontends.device_images import ImageLevels, Squares, cut_squares
from n2f_jax.frontends.face_landmarks import BOX_SCALE, PASSES
from n2f_jax.frontends.face_networks import ACTIVATIONS, OUTER_EYE_CORNERS, NetworkFile
from n2f_jax.frontends.tflite_graph import TfliteGraph, Weights, tensor_name
from n2f_jax.geometry.alignment import procrustes
from n2f_jax.runtime.assets_cache import FACE_LANDMARKER, MEDIAPIPE, asset_path

_HIGHEST = lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MeshedFaces:
    """n faces; attributes as of ``face_landmarks.MeshedFace``, ``FaceCheck`` and ``Eyes``.

    Attributes:
        points: ``(n, 468, 3)``.
        score, detection_score: ``(n,)``.
        points_478: ``(n, 478, 3)``.
        blendshapes: ``(n, 52)``.
        activations: ``(n, 2, D)``.
        square: of each.
        mirror_gap, version_gap: ``(n,)``.
        confidence, is_face: ``(n,)``.
        regions: ``(n, 6)`` in the order of ``face_confidence.REGIONS``.
        found: ``(n, 4)`` the box around the points as the networks gave them.
        found_size: ``(n,)`` likewise, longer side of the box around the 68 landmarks.
        closure: ``(n, 2)``.
        gaze: ``(n, 3)``.
    """

    points: Float[Array, "n 468 3"]
    score: Float[Array, "n"]
    detection_score: Float[Array, "n"]
    points_478: Float[Array, "n 478 3"]
    blendshapes: Float[Array, "n 52"]
    activations: Float[Array, "n 2 D"]
    square: Squares
    mirror_gap: Float[Array, "n"]
    version_gap: Float[Array, "n"]
    confidence: Float[Array, "n"]
    is_face: Float[Array, "n"]
    regions: Float[Array, "n 6"]
    found: Float[Array, "n 4"]
    found_size: Float[Array, "n"]
    closure: Float[Array, "n 2"]
    gaze: Float[Array, "n 3"]

    def landmarks_68(self) -> Float[Array, "n 68 2"]:
        """Among the points."""
        return self.points[:, load_coarse_mesh().ibug68, :2]

    def size(self) -> Float[Array, "n"]:
        """Longer side of the box around ``landmarks_68``."""
        return _size(self.landmarks_68())


class DeviceLandmarker:
    """Meshes detected faces as ``FaceLandmarker`` does with its defaults; ``weights`` go along as arguments.

    Args:
        landmarks: as there.

    Raises:
        AssetError: the networks are not in the cache.
    """

    def __init__(self, landmarks: Landmarks):
        self.landmarks: Landmarks = landmarks
        self._files = {version: NetworkFile.of(version) for version in ("v1", "v2")}
        self._graphs = {version: TfliteGraph(file.path) for version, file in self._files.items()}
        self._graphs["blendshapes"] = TfliteGraph(asset_path(FACE_LANDMARKER, "face_blendshapes.tflite"))
        self._graphs["iris"] = TfliteGraph(asset_path(MEDIAPIPE, "iris_landmark.tflite"))
        self.weights: dict[str, Weights] = {name: graph.weights for name, graph in self._graphs.items()}
        self.weights["check"] = face_confidence.FaceConfidence().weights

    def __call__(
        self,
        weights: dict[str, Weights],
        levels: ImageLevels,
        image: Int[Array, "n"],
        detections: Detections,
    ) -> MeshedFaces:
        """The face that each detection shows, whatever its scores.

        Args:
            weights: as ``weights``.
            levels: the images.
            image: which of them each detection is of.
            detections: n.
        """
        square = _squares_of_detections(detections)
        count = len(image)
        nothing = (jnp.zeros((count, NUM_POINTS, 3)), jnp.zeros(count), jnp.zeros(count))
        start = (square, square, nothing)

        def settle(_, state):
            seen = state[1]
            first = self._look(weights, "v1", levels, image, seen)[:3]
            return seen, _squares_of_points(seen.to_image(first[0])[..., :2]), first

        seen, square, (first, score, gap) = lax.fori_loop(0, PASSES[self.landmarks], settle, start)
        second, _, second_gap, activations = self._look(weights, "v2", levels, image, square)
        of_first, of_second = seen.to_image(first), square.to_image(second)
        apart = jnp.linalg.norm(of_first[..., :2] - of_second[:, :NUM_POINTS, :2], axis=-1).mean(axis=1)
        points, mirror_gap = (
            (of_first, gap) if self.landmarks == "v1" else (of_second[:, :NUM_POINTS], second_gap)
        )
        (scores,) = self._graphs["blendshapes"].apply(weights["blendshapes"], second[:, POINTS, :2]).values()
        scores = scores.reshape(-1, len(BLENDSHAPES))
        size = levels.sizes[0]
        crops = cut_squares(levels, image, square, face_confidence.CROP)
        version_gap = apart / square.side
        told = (score, detections.score, mirror_gap, version_gap)
        measured = measures(points, of_second, scores, told, square, crops, size)
        checked = probabilities(
            weights["check"], unfold(crops, square.from_image(points), square, size), measured
        )
        regions = len(face_confidence.REGIONS)
        closure, gaze = self._eyes(weights, levels, image, of_second, scores)
        return MeshedFaces(
            points=turned_fully(points, of_second[:, :NUM_POINTS], self.landmarks),
            score=score,
            detection_score=detections.score,
            points_478=of_second,
            blendshapes=scores,
            activations=activations,
            square=square,
            mirror_gap=mirror_gap,
            version_gap=version_gap,
            confidence=checked[:, face_confidence.OUTPUTS.index("all")],
            is_face=checked[:, face_confidence.OUTPUTS.index("face")],
            regions=checked[:, :regions],
            found=_box(points[..., :2]),
            found_size=_size(points[:, load_coarse_mesh().ibug68, :2]),
            closure=closure,
            gaze=gaze,
        )

    def _look(self, weights, version, levels, image, squares):
        """Points in units of the squares, scores, how far those of the mirrored squares are, and activations."""
        file, graph = self._files[version], self._graphs[version]
        crops = cut_squares(levels, image, squares, graph.input_size) / 255
        wanted = (ACTIVATIONS,) if version == "v2" else ()
        outputs = graph.apply(weights[version], jnp.concatenate([crops, crops[:, :, ::-1]]), wanted)
        points, logits = (outputs[name] for name in file.outputs)
        points = (points.reshape(-1, file.count, 3) / graph.input_size).reshape(2, -1, file.count, 3)
        scores = jax.nn.sigmoid(jnp.clip(logits.reshape(2, -1), -50, 50))
        other = points[1][:, file.mirror]
        other = jnp.concatenate([1.0 - other[..., :1], other[..., 1:]], axis=-1)
        gap = jnp.linalg.norm((points[0] - other)[..., :2], axis=-1).mean(axis=1)
        activations = [outputs[tensor_name(i)].reshape(2, len(crops), -1) for i in wanted]
        activations = jnp.concatenate([jnp.zeros((2, len(crops), 0)), *activations], axis=-1)
        return (points[0] + other) / 2, scores.mean(axis=0), gap, jnp.moveaxis(activations, 0, 1)

    def _eyes(self, weights, levels, image, points, scores):
        """``EyeReader``: closure and gaze."""
        closure = jnp.stack([_closure(points, scores, side) for side in (0, 1)], axis=1)
        axes = _upright_axes(points)
        rotation = points_rotation(_on_axes(points, axes))
        looks = self._irises(weights, levels, image, points)
        of_eyes = [_eye_features(points, scores, side, axes, rotation, looks[side]) for side in (0, 1)]
        features = jnp.stack(
            [jnp.concatenate(of_eyes, axis=1), jnp.concatenate(of_eyes[::-1], axis=1)], axis=1
        )
        mean, std, by = (np.asarray(x, np.float32) for x in eyes.gaze_weights())
        said = by[0].reshape(1, 1, -1) + jnp.einsum(
            "nsf,fk->nsk",
            (features - mean.reshape(1, 1, -1)) / std.reshape(1, 1, -1),
            by[1:],
            precision=_HIGHEST,
        )
        yaw, pitch = (said[:, 0, 0] - said[:, 1, 0]) / 2, said[..., 1].mean(axis=1)
        in_head = [jnp.sin(yaw) * jnp.cos(pitch), jnp.sin(pitch), jnp.cos(yaw) * jnp.cos(pitch)]
        gaze = jnp.einsum("nij,nj->ni", points_rotation(points), jnp.stack(in_head, 1), precision=_HIGHEST)
        seen = closure.min(axis=1) < eyes.BLIND
        return closure, jnp.where(seen[:, None], gaze, jnp.nan)

    def _irises(self, weights, levels, image, points):
        """Of each side, centre of the iris and lids in pixels, ``(n, 17, 2)``: as known, and mean with the mirrored."""
        graph = self._graphs["iris"]
        squares = []
        for side in (0, 1):
            outer, inner = (points[:, i, :2] for i in eyes.CORNERS[side])
            right, left = (inner, outer) if side == 0 else (outer, inner)
            along = left - right
            width = _eye_width(points, side)
            squares.append(
                Squares(
                    (outer + inner) / 2,
                    jnp.maximum(eyes.IRIS_SQUARE * width, 1.0),
                    jnp.arctan2(along[:, 1], along[:, 0]),
                )
            )
        both = jax.tree.map(lambda x, y: jnp.concatenate([x, y]), *squares)
        crops = cut_squares(levels, jnp.concatenate([image, image]), both, graph.input_size) / 255
        outputs = graph.apply(weights["iris"], jnp.concatenate([crops, crops[:, :, ::-1]]))
        iris = outputs["output_iris"].reshape(-1, 5, 3)[:, :1]
        lids = outputs["output_eyes_contours_and_brows"].reshape(-1, 71, 3)[:, : eyes.NUM_LIDS]
        seen = (jnp.concatenate([iris, lids], axis=1) / graph.input_size).reshape(
            2, 2, -1, 1 + eyes.NUM_LIDS, 3
        )
        mirrored = jnp.concatenate([1.0 - seen[1, ..., :1], seen[1, ..., 1:]], axis=-1)
        found = []
        for side in (0, 1):
            plain, turned = (squares[side].to_image(x[side])[..., :2] for x in (seen[0], mirrored))
            known = turned if side == 0 else plain  # the network knows right eyes
            found.append((known, (plain + turned) / 2))
        return found


def _squares_of_detections(detections: Detections) -> Squares:
    along = detections.keypoints[:, 1] - detections.keypoints[:, 0]
    low, high = detections.box[:, :2], detections.box[:, 2:]
    side = jnp.maximum((high - low).max(axis=1) * BOX_SCALE, 1.0)
    return Squares((low + high) / 2, side, jnp.arctan2(along[:, 1], along[:, 0]))


def _squares_of_points(points: Float[Array, "n N 2"]) -> Squares:
    right, left = (points[:, i] for i in OUTER_EYE_CORNERS)
    along = left - right
    return Squares.around(points[:, :NUM_POINTS], jnp.arctan2(along[:, 1], along[:, 0]), BOX_SCALE)


def _box(points: Float[Array, "n N 2"]) -> Float[Array, "n 4"]:
    return jnp.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def _size(points: Float[Array, "n N 2"]) -> Float[Array, "n"]:
    return (points.max(axis=1) - points.min(axis=1)).max(axis=1)


def _pitch_yaw(rotation: Float[Array, "n 3 3"]) -> tuple[Float[Array, "n"], ...]:
    """``geometry.camera.pitch_yaw_roll``."""
    r = rotation * jnp.array([[[1.0, -1.0, -1.0]]])
    yaw = jnp.arcsin(jnp.clip(r[:, 0, 2], -1.0, 1.0))
    return jnp.arctan2(-r[:, 1, 2], r[:, 2, 2]), yaw, jnp.arctan2(-r[:, 0, 1], r[:, 0, 0])


def points_rotation(points: Float[Array, "n N 3"]) -> Float[Array, "n 3 3"]:
    """``profile.points_rotation``."""
    mesh = load_coarse_mesh()
    reference = jnp.asarray(mesh.reference)[mesh.upper_face]
    found = points[:, mesh.upper_face]
    return procrustes(jnp.broadcast_to(reference, found.shape), found).rotation


def _upright_axes(points: Float[Array, "n N 3"]) -> Float[Array, "n 2 2"]:
    right, left = (points[:, i, :2] for i in OUTER_EYE_CORNERS)
    along = left - right
    along = along / jnp.maximum(jnp.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    return jnp.stack([along, jnp.stack([-along[:, 1], along[:, 0]], 1)], axis=1)


def _on_axes(points: Float[Array, "n N 3"], axes: Float[Array, "n 2 2"]) -> Float[Array, "n N 3"]:
    plane = jnp.einsum("nki,nji->nkj", points[..., :2], axes, precision=_HIGHEST)
    return jnp.concatenate([plane, points[..., 2:]], axis=-1)


def turned_fully(
    points: Float[Array, "n 468 3"], newer: Float[Array, "n 468 3"], version: str
) -> Float[Array, "n 468 3"]:
    """``profile.turned_fully``."""
    # About the face: float32 is densest there.
    middle = jnp.concatenate([points[..., :2].mean(axis=1), jnp.zeros((len(points), 1))], axis=1)[:, None]
    axes = _upright_axes(newer)
    upright, newer = _on_axes(points - middle, axes), _on_axes(newer - middle, axes)
    pitch, yaw, roll = _pitch_yaw(points_rotation(newer))
    share = jnp.clip((jnp.abs(yaw) - profile.BEGINS) / (profile.WHOLE - profile.BEGINS), 0.0, 1.0)
    sign = jnp.where(yaw < 0, -1.0, 1.0)
    first = _pitch_yaw(points_rotation(upright))[1]
    y, roll, along = sign * yaw, sign * roll, sign * first
    features = [
        y, y**2, y**3, along, along**3, along * y, y * jnp.abs(pitch), y**3 * jnp.abs(pitch), y**2 * roll,
        y**2 * pitch,
    ]  # fmt: skip
    by = profile.profile_weights()[version].astype(np.float32)
    missing = sign * sum(float(weight) * x for weight, x in zip(by, features, strict=True)) - first
    turned = _on_axes(_turned(upright, share * missing), axes.swapaxes(1, 2)) + middle
    return jnp.where((share > 0)[:, None, None], turned, points)


def _turned(points: Float[Array, "n 468 3"], angle: Float[Array, "n"]) -> Float[Array, "n 468 3"]:
    rotation = points_rotation(points)
    turn = axis_angle_to_matrix(-angle[:, None] * rotation[:, :, 1])
    centre = points.mean(axis=1, keepdims=True)
    before = points - centre
    after = jnp.einsum("nki,nji->nkj", before, turn, precision=_HIGHEST)
    seen = _faces_camera(after) & _faces_camera(before)
    few = seen.sum(axis=1, keepdims=True) < profile.FEWEST
    weight = jnp.where(few, _faces_camera(after), seen).astype(jnp.float32)[..., None]
    total = jnp.maximum(weight.sum(axis=1, keepdims=True), 1.0)
    a, b = after[..., :2], before[..., :2]
    a0, b0 = ((weight * x).sum(axis=1, keepdims=True) / total for x in (a, b))
    along = (weight * (a - a0) * (b - b0)).sum(axis=(1, 2)) / (weight * (a - a0) ** 2).sum(axis=(1, 2))
    scale = jnp.clip(along, *profile.SCALE)[:, None, None]
    shift = b0 - scale * a0
    return scale * after + jnp.pad(shift, ((0, 0), (0, 0), (0, 1))) + centre


def _faces_camera(points: Float[Array, "n 468 3"]) -> Bool[Array, "n 468"]:
    faces = np.asarray(load_coarse_mesh().faces)
    corners = points[:, faces, :2]
    first, second = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    towards = first[..., 0] * second[..., 1] - first[..., 1] * second[..., 0] < 0
    return jnp.zeros(points.shape[:2], bool).at[:, faces].max(towards[..., None])


def unfold(
    crops: Float[Array, "n C C 3"],
    points: Float[Array, "n 468 3"],
    squares: Squares,
    image_size: tuple[int, int],
) -> Float[Array, "n S S 5"]:
    """``face_confidence.unfold``; crops hold 0 … 255, points are in units of the squares."""
    sheet = face_confidence.face_sheet()
    flat = points[..., :2]
    rim = flat[:, sheet.outline]
    centre = rim.mean(axis=1, keepdims=True)
    rimmed = jnp.concatenate([flat, centre + face_confidence.RIM * (rim - centre)], axis=1)
    corners = rimmed[:, sheet.triangles]
    places = (rimmed[:, sheet.corners] * sheet.weights[None, ..., None]).sum(axis=3)
    red, green, blue = _remapped(crops, places * crops.shape[1] - 0.5)
    a, b = corners[:, :, 1] - corners[:, :, 0], corners[:, :, 2] - corners[:, :, 0]
    facing = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0] < 0)[:, sheet.triangle]
    offset = ((places - 0.5) * squares.side[:, None, None, None]).reshape(len(crops), -1, 2)
    turned = jnp.einsum("nki,nji->nkj", offset, squares.axes(), precision=_HIGHEST).reshape(places.shape)
    in_image = squares.centre[:, None, None] + turned
    limit = jnp.array(image_size[::-1], jnp.float32).reshape(1, 1, 1, 2)
    inside = ((in_image >= 0) & (in_image <= limit)).all(axis=-1)
    covered = jnp.asarray(sheet.covered)[None]
    seen = covered & facing & inside
    enough = seen.sum(axis=(1, 2), keepdims=True) >= face_confidence.FEWEST
    chosen = jnp.where(enough, seen, covered)
    light = 0.3 * red + 0.59 * green + 0.11 * blue
    count = chosen.sum(axis=(1, 2), keepdims=True).astype(jnp.float32)
    mean = jnp.where(chosen, light, 0.0).sum(axis=(1, 2), keepdims=True) / count
    spread = jnp.sqrt(jnp.where(chosen, (light - mean) ** 2, 0.0).sum(axis=(1, 2), keepdims=True) / count)
    channels = [jnp.clip((light - mean) / (spread + face_confidence.NO_CONTRAST), -4, 4)]
    for colour in (red, blue):
        over = colour - light
        middle = jnp.nanmedian(jnp.where(chosen, over, jnp.nan), axis=(1, 2), keepdims=True)
        channels.append(jnp.clip((over - middle) / face_confidence.COLOUR, -3, 3))
    channels += [facing.astype(jnp.float32), inside.astype(jnp.float32)]
    return jnp.stack([x * covered.astype(jnp.float32) for x in channels], axis=-1)


def _remapped(crops: Float[Array, "n C C 3"], places: Float[Array, "n S S 2"]) -> Float[Array, "3 n S S"]:
    """Bilinear, rounded as OpenCV rounds bytes; beyond the crop its edge goes on."""
    size = crops.shape[1]
    low = jnp.floor(places)
    share = places - low
    low = low.astype(jnp.int32)
    total = 0.0
    rows = jnp.arange(len(crops))[:, None, None]
    for du in (0, 1):
        for dv in (0, 1):
            index = jnp.clip(low + jnp.array([du, dv]).reshape(1, 1, 1, 2), 0, size - 1)
            by = jnp.where(jnp.array([du, dv]).reshape(1, 1, 1, 2) == 1, share, 1 - share).prod(axis=-1)
            total = total + by[..., None] * crops[rows, index[..., 1], index[..., 0]]
    return jnp.moveaxis(jnp.round(total), -1, 0)


def measures(
    points: Float[Array, "n 468 3"],
    newer: Float[Array, "n 478 3"],
    scores: Float[Array, "n 52"],
    told: tuple[Float[Array, "n"], ...],
    squares: Squares,
    crops: Float[Array, "n C C 3"],
    image_size: tuple[int, int],
) -> Float[Array, "n M"]:
    """``face_confidence.measures``; ``told`` are the score, the detector's, and both gaps."""
    score, detection_score, mirror_gap, version_gap = told
    mesh, size = load_coarse_mesh(), crops.shape[1]
    in_square = squares.from_image(points)
    grey = crops.mean(axis=-1)
    part = slice(size // 5, -size // 5)
    edges = (
        grey[:, :-2, 1:-1]
        + grey[:, 2:, 1:-1]
        + grey[:, 1:-1, :-2]
        + grey[:, 1:-1, 2:]
        - 4 * grey[:, 1:-1, 1:-1]
    )
    edges = jnp.pad(edges, ((0, 0), (1, 1), (1, 1)))[:, part, part].std(axis=(1, 2))
    contrast = grey[:, part, part].std(axis=(1, 2))
    reference = jnp.broadcast_to(jnp.asarray(mesh.reference), in_square.shape)
    fit = procrustes(reference, in_square, scaling=True)
    pitch, yaw, _ = _pitch_yaw(fit.rotation)
    limit = jnp.array(image_size[::-1], jnp.float32).reshape(1, 1, 2)
    outside = jnp.concatenate([-points[..., :2], points[..., :2] - limit], axis=-1).max(axis=-1) > 0
    gaps = jnp.linalg.norm(newer[:, mesh.ibug68, :2] - points[:, mesh.ibug68, :2], axis=-1)
    gaps = gaps / squares.side[:, None]
    values = [
        _logit(score),
        _logit(detection_score),
        jnp.log(mirror_gap + 1e-3),
        jnp.log(_size(points[:, mesh.ibug68, :2])),
        jnp.log(edges / (contrast + 3) + 1e-2),
        jnp.log(contrast + 1),
        grey[:, part, part].mean(axis=(1, 2)) / 64,
        jnp.log(jnp.linalg.norm(fit.apply(reference) - in_square, axis=-1).mean(axis=1) + 1e-3),
        jnp.abs(yaw),
        pitch,
        1 - jnp.cos(squares.angle),
        outside.mean(axis=1, dtype=jnp.float32),
        jnp.log(version_gap + 1e-3),
        *(jnp.log(gaps[:, list(region)].mean(axis=1) + 1e-3) for region in face_confidence.REGIONS.values()),
        jnp.abs(scores[:, face_confidence.BLINKS[0]] - scores[:, face_confidence.BLINKS[1]]),
    ]
    return jnp.stack(values, axis=1)


def probabilities(
    weights: Weights, flat: Float[Array, "n S S 5"], measured: Float[Array, "n M"]
) -> Float[Array, "n 8"]:
    """``face_confidence.FaceConfidence.probabilities``."""
    w = {name: jnp.asarray(value) for name, value in weights.items()}
    x = flat
    for layer in range(face_confidence.LAYERS):
        kernel, bias = w[f"kernel{layer}"], w[f"bias{layer}"]
        half = kernel.shape[0] // 2
        x = lax.conv_general_dilated(
            x,
            kernel,
            (2, 2),
            [(half, half)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            precision=_HIGHEST,
        )
        x = jnp.maximum(x + bias.reshape(1, 1, 1, -1), 0)
    z = jnp.clip((measured - w["mean"].reshape(1, -1)) / w["deviation"].reshape(1, -1), -4, 4)
    x = jnp.concatenate([x.reshape(len(x), -1), jnp.nan_to_num(z, nan=0.0)], axis=1)
    x = jnp.maximum(jnp.dot(x, w["hidden_kernel"], precision=_HIGHEST) + w["hidden_bias"].reshape(1, -1), 0)
    logits = jnp.dot(x, w["out_kernel"], precision=_HIGHEST) + w["out_bias"].reshape(1, -1)
    return jax.nn.sigmoid(w["slope"].reshape(1, -1) * logits + w["offset"].reshape(1, -1))


def _logit(probability: Float[Array, "n"]) -> Float[Array, "n"]:
    p = jnp.clip(probability, 1e-5, 1 - 1e-5)
    return jnp.log(p / (1 - p))


def _eye_width(points: Float[Array, "n 478 3"], side: int) -> Float[Array, "n"]:
    outer, inner = (points[:, i] for i in eyes.CORNERS[side])
    return jnp.maximum(jnp.linalg.norm(outer - inner, axis=-1), 1e-6)


def _closure(points: Float[Array, "n 478 3"], scores: Float[Array, "n 52"], side: int) -> Float[Array, "n"]:
    """``eyes.eye_closure``."""
    gap = jnp.linalg.norm(points[:, list(eyes.UPPER[side])] - points[:, list(eyes.LOWER[side])], axis=-1)
    aspect = gap.mean(axis=1) / _eye_width(points, side)
    by_lids = jnp.clip((eyes.OPEN - aspect) / (eyes.OPEN - eyes.SHUT), 0.0, 1.0)
    blink = scores[:, BLENDSHAPES.index("eyeBlink" + ("Left", "Right")[side])]
    by_score = jnp.clip((blink - eyes.NO_BLINK) / (eyes.BLINK - eyes.NO_BLINK), 0.0, 1.0)
    wide = jnp.clip((eyes.WIDE - aspect) / (eyes.OPEN - eyes.SHUT), eyes.WIDEST, 0.0)
    return 0.5 * (by_lids + by_score) + wide


def _eye_features(points, scores, side, axes, rotation, looks) -> Float[Array, "n F"]:
    """``EyeReader._features_of``."""
    outer, inner = (points[:, i] for i in eyes.CORNERS[side])
    middle, width = (outer + inner) / 2, _eye_width(points, side)
    out = jnp.array([[[1.0 if side == 0 else -1.0, 1.0]]])

    def in_head(places, depth=True):
        """``(n, k, 3)`` to ``(n, k, 2)``."""
        offset = (places - middle[:, None]) / width[:, None, None] * jnp.array([[[1.0, 1.0, float(depth)]]])
        turned = jnp.einsum("nki,nij->nkj", _on_axes(offset, axes), rotation, precision=_HIGHEST)
        return turned[..., :2] * out

    def of_lids(lids):
        return in_head(points[:, list(lids[side])].mean(axis=1, keepdims=True))[:, 0]

    centre = points[:, eyes.IRIS[side]][:, None]
    upper, lower, solid, iris = (
        of_lids(eyes.UPPER),
        of_lids(eyes.LOWER),
        in_head(centre)[:, 0],
        in_head(centre, False)[:, 0],
    )
    pitch, yaw, _ = _pitch_yaw(rotation)
    yaw = yaw * out[0, 0, 0]
    name = ("Left", "Right")[side]
    found = [
        *solid.T,
        *iris.T,
        upper[:, 1],
        lower[:, 1],
        upper[:, 0],
        *(scores[:, BLENDSHAPES.index(score + name)] for score in eyes.SCORES),
        yaw,
        pitch,
        yaw * jnp.abs(yaw),
        iris[:, 1] * pitch,
        iris[:, 0] * jnp.abs(yaw),
    ]
    for look in looks:
        seen = in_head(jnp.pad(look, ((0, 0), (0, 0), (0, 1))), False)
        lids = seen[:, 1:]
        found += [*seen[:, 0].T, *lids.mean(axis=1).T, lids[..., 1].max(axis=1), lids[..., 1].min(axis=1)]
    return jnp.stack(found, axis=1)


def is_doubtful(faces: MeshedFaces) -> Bool[Array, "n"]:
    """``MeshedFace.doubtful``."""
    return faces.confidence < face_confidence.DOUBTFUL


def is_ghost(faces: MeshedFaces) -> Bool[Array, "n"]:
    """``FaceCheck.ghost``."""
    return is_doubtful(faces) & (faces.is_face < face_confidence.GHOST)
