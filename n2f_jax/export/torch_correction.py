"""The correction on the surface in PyTorch: an image at places of the predicted head, less what that head would show.

Needs PyTorch only; nothing else of this package. ``torch_n2fnet.py`` imports it for networks that have a correction, a
copy of it lies beside that file in their exported folders. The JAX package's ``models.correction``, ``models.surface``
and ``geometry.pose`` say why things are as they are.

Units, frames and axes are those of ``torch_n2fnet.py``. U = S + E + 5 unknowns: shape, expression, jaw (axis times
angle, radians), eyelids. Of the head model there are W vertices, P places with normals and Q with image positions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYER_NORM_EPSILON = 1e-5
NUM_FACE_MESH_POINTS = 468
# A place counts from this cosine to the line of sight on, fully from twice that.
GRAZING = 0.15
# Residuals of points are millimetres; these many metres are one.
POINT_UNIT = 0.005
# What one unit of the output turns and shifts the camera by (radians; x/z, y/z and log z).
TURN_UNIT, SHIFT_UNIT = 0.1, 0.03
# Of the camera's alignment on points (Levenberg-Marquardt).
HUBER = 0.05  # residuals above this share of the point cloud's size count linearly, not squared
MIN_DEPTH = 1e-3  # metres; a point nearer than this counts as behind the camera
STEPS = 15  # attempted
DAMPING_START, DAMPING_DOWN, DAMPING_UP = 1e-3, 0.3, 8.0
DAMPING_MIN, DAMPING_MAX = 1e-7, 1e7


class Camera(NamedTuple):
    """Pinhole cameras of crops, any leading axes.

    Attributes:
        rotation: ``(..., 3, 3)`` R, head frame to camera frame.
        translation: ``(..., 3)`` t in metres.
        focal: ``(...)`` pixels of the crop.
        principal_point: ``(..., 2)`` likewise.
    """

    rotation: Tensor
    translation: Tensor
    focal: Tensor
    principal_point: Tensor


class Residuals(NamedTuple):
    """What images say at the places of heads, less what the heads say. In the head frame.

    Attributes:
        normals: ``(B, P, 3)`` observed less predicted, 0 where not seen.
        seen: ``(B, P)`` 0 … 1: on the mask, and facing the camera.
        points: ``(B, Q, 3)`` observed less predicted place, metres at the head's depth, 0 where not known.
        known: ``(B, Q)`` 0 or 1.
    """

    normals: Tensor
    seen: Tensor
    points: Tensor
    known: Tensor


class Places(nn.Module):
    """A head model, neck and eyes at rest, at the places where a correction looks. Buffers only.

    Args:
        arrays: ``template (W, 3)``, ``basis (W, 3, S + E)``, ``correctives (W, 3, 9)`` or ``(0, 3, 9)``,
            ``eyelids (W, 3, 2)``, ``jaw_weight (W,)``, ``joint (3,)``, ``joint_basis (3, S + E)``, ``centres (P,)``,
            ``fans (P, T, 2)``, ``corners (Q, 3)``, ``barycentric (Q, 3)``, ``numbers (Q,)``, ``pivot (3,)``.
    """

    INDICES = ("centres", "fans", "corners", "numbers")
    NAMES = (
        *("template", "basis", "correctives", "eyelids", "jaw_weight", "joint", "joint_basis"),
        *("barycentric", "pivot", *INDICES),
    )

    def __init__(self, arrays: dict[str, Tensor]):
        super().__init__()
        for name in self.NAMES:
            self.register_buffer(name, arrays[name].long() if name in self.INDICES else arrays[name])

    def decode(self, unknowns: Tensor) -> Tensor:
        """Vertices ``(B, W, 3)`` in the head frame, metres, of unknowns ``(B, U)``."""
        count = self.basis.shape[-1]
        coefficients, jaw, eyelids = unknowns.split((count, 3, 2), dim=-1)
        rest = self.template + (coefficients @ self.basis.flatten(0, 1).T).unflatten(-1, (-1, 3))
        swing = axis_angle_to_matrix(jaw) - torch.eye(3, dtype=jaw.dtype, device=jaw.device)
        if self.correctives.shape[0]:
            rest = rest + torch.einsum("wck,bk->bwc", self.correctives, swing.flatten(1))
        from_joint = rest - (self.joint + coefficients @ self.joint_basis.T)[:, None]
        swung = self.jaw_weight[:, None] * (from_joint @ swing.mT)
        return rest + swung + torch.einsum("wck,bk->bwc", self.eyelids, eyelids)

    def points(self, vertices: Tensor) -> Tensor:
        """The places with image positions ``(B, Q, 3)``, head frame."""
        return (vertices[:, self.corners] * self.barycentric[..., None]).sum(-2)

    def normals(self, vertices: Tensor) -> Tensor:
        """Unit normals ``(B, P, 3)``, head frame."""
        spokes = vertices[:, self.fans] - vertices[:, self.centres][:, :, None, None]
        total = torch.linalg.cross(spokes[..., 0, :], spokes[..., 1, :]).sum(2)
        return total * (total**2).sum(-1, keepdim=True).clamp_min(1e-20).rsqrt()

    def observed(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Of the face mesh's points ``(B, 468, 3)`` those of the places ``(B, Q, 3)``, 0 where unknown; which are known
        ``(B, Q)``, 0 or 1."""
        chosen = torch.cat([points, torch.full_like(points[:, :1], torch.nan)], dim=1)[:, self.numbers]
        known = chosen.isfinite().all(-1)
        return torch.where(known[..., None], chosen, 0.0), known.to(points.dtype)


class PlaceTokens(nn.Module):
    """Residuals at places of one kind → tokens, weighed by a validity of each place's own."""

    def __init__(self, places: int, width: int):
        super().__init__()
        self.features = nn.Linear(5, 2 * width)
        self.place = nn.Parameter(torch.zeros(places, 2 * width))
        self.validity = nn.Linear(2 * width, 1)
        self.mixed = nn.Linear(2 * width, width)
        self.plain = nn.Linear(3, width, bias=False)

    def forward(self, difference: Tensor, there: Tensor) -> Tensor:
        squared = (difference**2).sum(-1, keepdim=True)
        there = there[..., None]
        given = torch.cat([difference, squared / (1.0 + squared), there], dim=-1)
        hidden = F.gelu(self.features(given) + self.place, approximate="tanh")
        validity = 2.0 * there * self.validity(hidden).sigmoid()
        tokens = validity * (self.mixed(hidden) + self.plain(difference / (1.0 + squared).sqrt()))
        return tokens.flatten(1)


class Block(nn.Module):
    """``down(gelu(up(x)))``."""

    def __init__(self, width: int):
        super().__init__()
        self.up_proj = nn.Linear(width, width)
        self.down_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))


class SurfaceCorrection(nn.Module):
    """The passes.

    Args:
        config: the ``network`` part of ``config.json``.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        sizes = config["correction"]
        width, unknowns = sizes["width"], config["num_shape"] + config["num_expression"] + 5
        self.passes = sizes["passes"]
        self.normal_tokens = PlaceTokens(sizes["num_normals"], sizes["token_width"])
        self.point_tokens = PlaceTokens(sizes["num_points"], sizes["token_width"])
        tokens = (sizes["num_normals"] + sizes["num_points"]) * sizes["token_width"]
        self.join = nn.Linear(tokens, width, bias=False)
        self.state = nn.Linear(unknowns + config["backbone"]["width"] + 9, width)
        self.pass_number = nn.Parameter(torch.zeros(self.passes, width))
        self.norms = nn.ModuleList(
            [nn.LayerNorm(width, eps=LAYER_NORM_EPSILON) for _ in range(sizes["blocks"])]
        )
        self.blocks = nn.ModuleList([Block(width) for _ in range(sizes["blocks"])])
        self.output = nn.Linear(width, unknowns + 6)

    def forward(
        self,
        places: Places,
        unknowns: Tensor,
        camera: Camera,
        features: Tensor,
        maps: Tensor,
        mask: Tensor,
        points: Tensor | None = None,
    ) -> tuple[Tensor, Camera]:
        """Heads ``(B, U)`` and cameras after the last pass.

        As in JAX, gradients run through what the passes regress and into ``features``, but not from one pass into the
        last.

        Args:
            places: of the head model.
            unknowns: ``(B, U)`` the network's answer.
            camera: the network's, of the crops.
            features: ``(B, width)`` what the FLAME module's last layer is given.
            maps: ``(B, 3, S, S)`` normals in the head frame.
            mask: ``(B, 1, S, S)`` 1 where they count.
            points: ``(B, 468, 3)`` the face mesh's points: crop pixels, and depth in the same scale, growing away from
                the camera; NaN where unknown. None if none is known.
        """
        if points is None:
            given = maps.new_zeros(maps.shape[0], places.numbers.shape[0], 3)
            known = given[..., 0]
        else:
            given, known = places.observed(points)
        total = known.sum(-1, keepdim=True)
        located, weights = total >= 3, known / total.clamp_min(1.0)
        units = torch.tensor([TURN_UNIT] * 3 + [SHIFT_UNIT] * 3, dtype=maps.dtype, device=maps.device)
        for number in range(self.passes):
            unknowns, camera = unknowns.detach(), Camera(*(x.detach() for x in camera))
            vertices = places.decode(unknowns)
            if points is not None:
                found = align_camera(places.points(vertices), given[..., :2], camera, weights)
                camera = choose(located[:, 0], found, camera)
            residuals = compare(places, vertices, camera, maps, mask, given, known)
            change = self.regress(number, residuals, unknowns, camera, features)
            unknowns = unknowns + change[:, :-6]
            # On points the camera is found, and not regressed.
            camera = move_camera(camera, places.pivot, torch.where(located, 0.0, change[:, -6:] * units))
        return unknowns, camera

    def regress(
        self, number: int, residuals: Residuals, unknowns: Tensor, camera: Camera, features: Tensor
    ) -> Tensor:
        """What has to change in one pass, ``(B, U + 6)``."""
        tokens = torch.cat(
            [
                self.normal_tokens(residuals.normals, residuals.seen),
                self.point_tokens(residuals.points / POINT_UNIT, residuals.known),
            ],
            dim=-1,
        )
        signs = torch.tensor([1.0, -1.0, -1.0], dtype=unknowns.dtype, device=unknowns.device)
        turn = (camera.rotation * signs)[:, :2].flatten(1)
        depth = camera.translation[:, 2:].clamp_min(0.05).log()
        shown = torch.stack([residuals.seen.mean(-1), residuals.known.mean(-1)], dim=-1)
        state = torch.cat([unknowns, features, turn, depth, shown], dim=-1)
        x = self.join(tokens) + self.state(state) + self.pass_number[number]
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return self.output(x)


def compare(
    places: Places, vertices: Tensor, camera: Camera, maps: Tensor, mask: Tensor, given: Tensor, known: Tensor
) -> Residuals:
    """Compares heads with what their images show; ``given, known`` are ``Places.observed``."""
    normals = places.normals(vertices)
    in_camera = to_camera(vertices[:, places.centres], camera)
    read = read_maps(torch.cat([maps * mask, mask], dim=1), project(in_camera, camera))
    observed, cover = read[..., :3], read[..., 3]
    length = (observed**2).sum(-1).sqrt()
    towards = -(in_camera @ camera.rotation)  # row vectors: Rᵀ x
    towards = towards / towards.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-9)
    facing = (towards * normals).sum(-1)
    there = (cover > 0.5) & (length > 0.3) & (in_camera[..., 2] > 0.01)
    seen = torch.where(there, (facing / GRAZING - 1.0).clamp(0.0, 1.0), 0.0)
    difference = observed / length.clamp_min(0.3)[..., None] - normals
    difference = torch.where((seen > 0)[..., None], seen[..., None] * difference, 0.0)

    ours = to_camera(places.points(vertices), camera)
    count = known.sum(-1, keepdim=True).clamp_min(1.0)
    ours_depth = (ours[..., 2] * known).sum(-1, keepdim=True) / count
    given_depth = (given[..., 2] * known).sum(-1, keepdim=True) / count
    metres = ours_depth.clamp_min(0.01) / camera.focal[:, None]
    apart = torch.cat(
        [
            (given[..., :2] - project(ours, camera)) * metres[..., None],
            ((given[..., 2] - given_depth) * metres - (ours[..., 2] - ours_depth))[..., None],
        ],
        dim=-1,
    )
    apart = apart @ camera.rotation
    apart = torch.where((known > 0)[..., None] & apart.isfinite(), apart, 0.0)
    return Residuals(difference, seen, apart, known)


def read_maps(maps: Tensor, pixels: Tensor) -> Tensor:
    """Bilinear values ``(B, P, C)`` of maps ``(B, C, S, S)`` at (u, v); zeros beyond the border."""
    size = maps.shape[-1]
    outside = -9.0
    pixels = pixels.nan_to_num(outside, outside, outside).clamp(outside, size - outside)
    grid = 2.0 * pixels / size - 1.0
    return F.grid_sample(maps, grid[:, None], padding_mode="zeros", align_corners=False)[:, :, 0].mT


def to_camera(points: Tensor, camera: Camera) -> Tensor:
    """Points ``(..., N, 3)`` of the head frame in the camera frame."""
    return points @ camera.rotation.mT + camera.translation[..., None, :]


def project(points_camera: Tensor, camera: Camera) -> Tensor:
    """Pixels ``(..., N, 2)`` of points in the camera frame."""
    scaled = camera.focal[..., None, None] * points_camera[..., :2] / points_camera[..., 2:]
    return scaled + camera.principal_point[..., None, :]


def choose(condition: Tensor, yes: Camera, no: Camera) -> Camera:
    """One or the other by ``condition``, which has the cameras' leading axes."""
    parts = zip(yes, no, strict=True)
    return Camera(
        *(
            torch.where(condition.reshape(condition.shape + (1,) * (b.ndim - condition.ndim)), a, b)
            for a, b in parts
        )
    )


def move_camera(camera: Camera, pivot: Tensor, step: Tensor) -> Camera:
    """The head turned about ``pivot`` (3,), head frame, and shifted.

    Args:
        camera: of B crops.
        pivot: metres.
        step: ``(B, 6)`` axis times angle in the camera frame, radians; what is added to (x/z, y/z, log z) of the pivot.
    """
    turn, shift = step.split(3, dim=-1)
    centre = camera.rotation @ pivot + camera.translation
    depth = centre[..., 2:].clamp_min(MIN_DEPTH)
    place = centre[..., :2] / depth + shift[..., :2]
    depth = depth * shift[..., 2:].clamp(-1.0, 1.0).exp()
    rotation = axis_angle_to_matrix(turn) @ camera.rotation
    moved = torch.cat([place, torch.ones_like(depth)], dim=-1) * depth
    return camera._replace(rotation=rotation, translation=moved - rotation @ pivot)


class Problem(NamedTuple):
    """Points and their targets: ``size`` is the targets' weighted RMS radius in pixels, ``usable`` whether there are
    three or more, not all in one place."""

    points: Tensor  # (..., N, 3) about the centroid
    centroid: Tensor  # (..., 3)
    targets: Tensor  # (..., N, 2)
    weights: Tensor  # (..., N) sum to one, or all zero
    size: Tensor  # (...)
    focal: Tensor  # (...)
    principal_point: Tensor  # (..., 2)
    usable: Tensor  # (...)


class Pose(NamedTuple):
    """Of the points' centroid; ``place (..., 3)`` is (x/z, y/z, log z) in the camera frame."""

    rotation: Tensor
    place: Tensor


def align_camera(points: Tensor, targets: Tensor, camera: Camera, weights: Tensor) -> Camera:
    """Moves cameras' poses so that points fall on their targets (Levenberg-Marquardt, Huber's cost).

    From two starts, ``camera`` and that of scaled orthography; the lower cost wins, and a step that does not lower it
    is refused.

    Args:
        points: ``(B, N, 3)`` head frame, metres; finite.
        targets: ``(B, N, 2)`` pixels; finite, anything where the weight is zero.
        camera: the start.
        weights: ``(B, N)`` ≥ 0.

    Returns:
        The cameras; ``camera`` where fewer than three points have a weight.
    """
    count = (weights > 0).sum(-1)
    weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-12)
    centroid = (weights[..., None] * points).sum(-2)
    about = targets - (weights[..., None] * targets).sum(-2, keepdim=True)
    size = (weights * (about**2).sum(-1)).sum(-1).clamp_min(1e-12).sqrt()
    usable = (count >= 3) & (size > 0.01)
    points = points - centroid[..., None, :]
    intrinsics = camera.focal, camera.principal_point
    problem = Problem(points, centroid, targets, weights, size, *intrinsics, usable)
    closed_form = orthographic_camera(problem, camera)
    starts = Camera(*(torch.stack(pair, dim=1) for pair in zip(camera, closed_form, strict=True)))
    found, costs = descend(starts, Problem(*(x[:, None] for x in problem)))
    # As argmin: the first where both are alike, of no use too.
    second = costs[:, 1] < costs[:, 0]
    return choose(second, Camera(*(x[:, 1] for x in found)), Camera(*(x[:, 0] for x in found)))


def orthographic_camera(problem: Problem, camera: Camera) -> Camera:
    """Pose by scaled orthography, in closed form; ``camera``'s where the points say nothing."""
    weights, focal = problem.weights[..., None], problem.focal[..., None, None]
    rays = (problem.targets - problem.principal_point[..., None, :]) / focal
    mean_ray = (weights * rays).sum(-2)
    towards = rotation_to_z(torch.cat([mean_ray, torch.ones_like(mean_ray[..., :1])], dim=-1))
    rays = torch.cat([rays, torch.ones_like(rays[..., :1])], dim=-1) @ towards.mT
    flat = rays[..., :2] / rays[..., 2:].clamp_min(MIN_DEPTH)
    centre = (weights * flat).sum(-2)
    flat = flat - centre[..., None, :]
    weighted = (weights * problem.points).mT
    moments, cross = weighted @ problem.points, weighted @ flat
    identity = torch.eye(3, dtype=flat.dtype, device=flat.device)
    ridge = 1e-6 * trace(moments) + 1e-20
    affine = solve(moments + ridge[..., None, None] * identity, cross).mT  # (..., 2, 3)
    stretch = sqrt_2x2(affine @ affine.mT)
    rows = solve(stretch, affine)  # the polar factor
    third = torch.linalg.cross(rows[..., 0, :], rows[..., 1, :])
    rotation = towards.mT @ torch.cat([rows, third[..., None, :]], dim=-2)
    depth = (2.0 / trace(stretch).clamp_min(1e-12))[..., None]
    position = times(towards.mT, torch.cat([centre, torch.ones_like(depth)], dim=-1) * depth)
    found = camera._replace(rotation=rotation, translation=position - times(rotation, problem.centroid))
    return choose(problem.usable & finite(found), found, camera)


def descend(camera: Camera, problem: Problem) -> tuple[Camera, Tensor]:
    """From one start each, which is returned where nothing better is found; and the cost, inf where it is of no use."""
    centre = times(camera.rotation, problem.centroid) + camera.translation
    depth = centre[..., 2:].clamp_min(MIN_DEPTH)
    pose = Pose(camera.rotation, torch.cat([centre[..., :2] / depth, depth.log()], dim=-1))
    cost, residual = reproject(pose, problem)
    damping = torch.full_like(cost, DAMPING_START)
    # Infinite: the start puts a point behind the camera, and was refused itself.
    damping = torch.where(cost < torch.inf, damping, damping * (DAMPING_UP / DAMPING_DOWN))
    carry = (*pose, cost, damping, *residual)
    # PyTorch before 2.7 cannot tell, and unrolls the loop.
    if getattr(torch.compiler, "is_exporting", bool)():
        # One body in the graph: fifteen take minutes to export.
        from torch._higher_order_ops.scan import scan

        def body(carry: tuple[Tensor, ...], turn: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            return attempt(carry, problem), turn.clone()

        carry, _ = scan(body, carry, torch.zeros(STEPS, dtype=cost.dtype, device=cost.device))
    else:
        for _ in range(STEPS):
            carry = attempt(carry, problem)
    pose, cost = Pose(*carry[:2]), carry[2]
    found = camera._replace(
        rotation=pose.rotation, translation=centre_of(pose) - times(pose.rotation, problem.centroid)
    )
    good = problem.usable & cost.isfinite() & finite(found)
    return choose(good, found, camera), torch.where(good, cost, torch.inf)


def attempt(carry: tuple[Tensor, ...], problem: Problem) -> tuple[Tensor, ...]:
    """One step, taken where it lowers the cost: pose, cost, damping and reprojection before and after it."""
    pose, cost, damping, at = Pose(*carry[:2]), carry[2], carry[3], Reprojection(*carry[4:])
    trial = step(pose, problem, damping, at)
    trial_cost, trial_at = reproject(trial, problem)
    better = trial_cost < cost
    damping = damping * torch.where(better, DAMPING_DOWN, DAMPING_UP)
    before, after = (*pose, cost, *at), (*trial, trial_cost, *trial_at)
    taken = [
        torch.where(better.reshape(better.shape + (1,) * (old.ndim - better.ndim)), new, old)
        for new, old in zip(after, before, strict=True)
    ]
    return (*taken[:3], damping.clamp(DAMPING_MIN, DAMPING_MAX), *taken[3:])


class Reprojection(NamedTuple):
    """Errors ``(..., N, 2)`` as a share of the cloud's size, and what the Jacobian needs."""

    error: Tensor
    turned: Tensor
    in_camera: Tensor
    depth: Tensor
    scale: Tensor


def reproject(pose: Pose, problem: Problem) -> tuple[Tensor, Reprojection]:
    """The cost ``(...)``, inf with a point behind the camera, and what it is made of."""
    turned = problem.points @ pose.rotation.mT
    in_camera = turned + centre_of(pose)[..., None, :]
    depth = in_camera[..., 2:].clamp_min(MIN_DEPTH)
    size = problem.size[..., None, None]
    scale = problem.focal[..., None, None] / (depth * size)
    error = scale * in_camera[..., :2] + (problem.principal_point[..., None, :] - problem.targets) / size
    distance = (error**2).sum(-1).sqrt()
    behind = ((in_camera[..., 2] <= MIN_DEPTH) & (problem.weights > 0)).any(-1)
    huber = torch.where(distance <= HUBER, 0.5 * distance**2, HUBER * (distance - 0.5 * HUBER))
    cost = (problem.weights * huber).sum(-1)
    cost = torch.where(behind | ~cost.isfinite(), torch.inf, cost)
    return cost, Reprojection(error, turned, in_camera, depth, scale)


def step(pose: Pose, problem: Problem, damping: Tensor, at: Reprojection) -> Pose:
    """One damped Gauss-Newton step on the iteratively reweighted squares (Huber's weights)."""
    distance = (at.error**2).sum(-1).sqrt()
    robust = problem.weights * torch.where(distance <= HUBER, 1.0, HUBER / distance.clamp_min(1e-12))
    # d x_cam / d ω = −[turned]×, d x_cam / d place = z·[e_x, e_y, centre / z].
    x, y, z = at.turned.unbind(-1)
    zero = torch.zeros_like(x)
    centre = centre_of(pose)
    a, b, c = (value[..., None].expand_as(x) for value in centre.unbind(-1))
    by_x = torch.stack([zero, z, -y, c, zero, a], dim=-1)
    by_y = torch.stack([-z, zero, x, zero, c, b], dim=-1)
    by_z = torch.stack([y, -x, zero, zero, zero, c], dim=-1)
    # d residual / d x_cam = scale · [1 0 −x/z; 0 1 −y/z].
    slope = at.in_camera[..., :2] / at.depth
    rows = torch.stack([by_x - slope[..., :1] * by_z, by_y - slope[..., 1:] * by_z], dim=-2)
    jacobian = at.scale[..., None] * rows  # (..., N, 2, 6)

    weighted = robust[..., None, None] * jacobian
    gradient = (weighted * at.error[..., None]).sum((-3, -2))
    hessian = weighted.flatten(-3, -2).mT @ jacobian.flatten(-3, -2)
    identity = torch.eye(6, dtype=hessian.dtype, device=hessian.device)
    diagonal = (hessian * identity).sum(-1)
    added = damping[..., None] * diagonal.clamp_min(1e-6) + 1e-9
    change = -solve(hessian + added[..., None] * identity, gradient[..., None])[..., 0]
    # A quaternion (1, ω/2) is the turn ω to first order, and a rotation however long the step.
    quaternion = torch.cat([torch.ones_like(change[..., :1]), 0.5 * change[..., :3]], dim=-1)
    return Pose(quaternion_to_matrix(quaternion) @ pose.rotation, pose.place + change[..., 3:])


def centre_of(pose: Pose) -> Tensor:
    """The centroid ``(..., 3)`` in the camera frame."""
    depth = pose.place[..., 2:].exp()
    return torch.cat([pose.place[..., :2], torch.ones_like(depth)], dim=-1) * depth


def finite(camera: Camera) -> Tensor:
    """Whether the poses ``(...)`` are."""
    return camera.rotation.isfinite().all(-1).all(-1) & camera.translation.isfinite().all(-1)


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matrix (..., n, m) @ vector (..., m)``, broadcasting."""
    return (matrix @ vector[..., None])[..., 0]


def trace(matrix: Tensor) -> Tensor:
    """Of ``(..., n, n)``."""
    return torch.diagonal(matrix, dim1=-2, dim2=-1).sum(-1)


def solve(matrix: Tensor, right: Tensor) -> Tensor:
    """``matrix⁻¹ · right`` for small positive definite matrices, by Gauss–Jordan elimination, which ONNX can say."""
    size = matrix.shape[-1]
    table = torch.cat([matrix, right], dim=-1)
    for k in range(size):
        pivot = table[..., k : k + 1, :] / table[..., k : k + 1, k : k + 1]
        left = table - table[..., k : k + 1] * pivot
        table = torch.cat([left[..., :k, :], pivot, left[..., k + 1 :, :]], dim=-2)
    return table[..., size:]


def sqrt_2x2(matrix: Tensor) -> Tensor:
    """The square root of positive semi-definite matrices (Cayley–Hamilton)."""
    determinant = matrix[..., 0, 0] * matrix[..., 1, 1] - matrix[..., 0, 1] * matrix[..., 1, 0]
    root = determinant.clamp_min(0.0).sqrt()
    divisor = (trace(matrix) + 2.0 * root).clamp_min(1e-30).sqrt()
    identity = torch.eye(2, dtype=matrix.dtype, device=matrix.device)
    return (matrix + root[..., None, None] * identity) / divisor[..., None, None]


def rotation_to_z(direction: Tensor) -> Tensor:
    """The smallest rotation that turns ``direction (..., 3)``, z > 0, onto the z axis."""
    x, y, z = (direction / (direction**2).sum(-1, keepdim=True).sqrt()).unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, zero, -x, zero, zero, -y, x, y, zero], dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=x.dtype, device=x.device)
    return identity + skew + skew @ skew / (1.0 + z)[..., None, None]


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rodrigues' formula, ``(..., 3) → (..., 3, 3)``."""
    squared = (axis_angle**2).sum(-1)[..., None, None]
    small = squared < 1e-6
    safe = torch.where(small, 1.0, squared)
    angle = safe.sqrt()
    # Taylor series where the quotients lose their digits.
    sin_over = torch.where(small, 1.0 - squared / 6.0, angle.sin() / angle)
    one_minus_cos_over = torch.where(small, 0.5 - squared / 24.0, (1.0 - angle.cos()) / safe)
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    k = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    identity = torch.eye(3, dtype=x.dtype, device=x.device)
    k_squared = axis_angle[..., :, None] * axis_angle[..., None, :] - squared * identity
    return identity + sin_over * k + one_minus_cos_over * k_squared


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Axis times angle in [0, π], ``(..., 3, 3) → (..., 3)``; accurate near 0 and near π (through the quaternion)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in matrix.unbind(-2))
    # Row i is the quaternion (w, x, y, z) times four times its i-th component (Shepperd's method).
    candidates = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, zy - yz, xz - zx, yx - xy], dim=-1),
            torch.stack([zy - yz, 1 + xx - yy - zz, yx + xy, xz + zx], dim=-1),
            torch.stack([xz - zx, yx + xy, 1 - xx + yy - zz, zy + yz], dim=-1),
            torch.stack([yx - xy, xz + zx, zy + yz, 1 - xx - yy + zz], dim=-1),
        ],
        dim=-2,
    )
    best = torch.diagonal(candidates, dim1=-2, dim2=-1).argmax(-1)
    q = (candidates * F.one_hot(best, 4).to(matrix.dtype)[..., None]).sum(-2)
    q = q * (q**2).sum(-1, keepdim=True).rsqrt()
    q = torch.where(q[..., :1] < 0, -q, q)
    w, v = q[..., :1], q[..., 1:]
    squared = (v**2).sum(-1, keepdim=True)
    small = squared < 1e-8
    length = torch.where(small, 1.0, squared).sqrt()
    # 2·atan2(|v|, w)/|v| tends to 2/w (1 − |v|²/3w²) at zero, where w is 1.
    return torch.where(small, 2.0 - 2.0 * squared / 3.0, 2.0 * torch.atan2(length, w) / length) * v


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """Rotations of quaternions (w, x, y, z) of any length but zero, ``(..., 4) → (..., 3, 3)``."""
    w, x, y, z = (quaternion * (quaternion**2).sum(-1, keepdim=True).rsqrt()).unbind(-1)
    rows = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    ]
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))
