"""What fitting needs of a head model, worked out once on the host: one basis, and each triangle's surroundings."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flame_jax import HeadModel
from flame_jax.rotations import axis_angle_to_matrix
from n2f_jax.metrics.skin import skin_vertices
from n2f_jax.models.resting_head import RestingHead, decode_resting, resting_arrays
from n2f_jax.render import HeadTopology


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class HeadTables(RestingHead):
    """A head model laid out for fitting. A pytree: pass it through ``jax.jit`` as an argument.

    All vertices of a ``RestingHead``. K = S + E directions, R vertices around a triangle, T triangles around a vertex;
    what a triangle or vertex has fewer of is filled up with its own first vertex, which adds triangles without area.

    Attributes:
        topology: of the whole head; its ``region`` is the face.
        ring: ``(F, R)`` vertices that the normals at a triangle's corners depend on, the corners first; zeros
            outside the face region.
        fans: ``(F, 3, T, 2)`` places in ``ring`` of the other two corners of each triangle around each corner.
        pivot: ``(3,)`` centre of the mean face, about which the camera turns.
        size: ``(K,)`` relative change of the face's size, the root mean square distance of its skin's vertices from
            their middle, by coefficient.
        scaling: ``(K,)`` coefficients that scale the mean head as nearly as probable ones can, such that
            ``size @ scaling`` is 1; those of the expression are 0.
        num_shape: S (static).
        shape_std, expression_std: of the coefficients over people (static).
    """

    topology: HeadTopology
    ring: Int[Array, "F R"]
    fans: Int[Array, "F 3 T 2"]
    pivot: Float[Array, "3"]
    size: Float[Array, " K"]
    scaling: Float[Array, " K"]
    num_shape: int = dataclasses.field(metadata={"static": True})
    shape_std: float = dataclasses.field(default=1.0, metadata={"static": True})
    expression_std: float = dataclasses.field(default=1.0, metadata={"static": True})

    @classmethod
    def from_model(cls, model: HeadModel, topology: HeadTopology | None = None) -> HeadTables:
        """Tables of a head model; ``topology`` defaults to ``HeadTopology.from_model(model)``."""
        topology = HeadTopology.from_model(model) if topology is None else topology
        arrays = resting_arrays(model)
        ring, fans = triangle_rings(np.asarray(model.faces), np.asarray(topology.region))
        face = np.asarray(model.faces)[np.asarray(topology.region)].reshape(-1)
        skin = np.intersect1d(skin_vertices(model), face)
        size = size_slopes(np.asarray(model.v_template), np.asarray(arrays["basis"]), skin)
        return cls(
            **arrays,
            topology=topology,
            ring=jnp.asarray(ring),
            fans=jnp.asarray(fans),
            size=jnp.asarray(size, jnp.float32),
            scaling=jnp.asarray(_scaling(model, size), jnp.float32),
            pivot=jnp.asarray(np.asarray(model.v_template)[np.unique(face)].mean(axis=0)),
            num_shape=model.num_shape,
            shape_std=model.shape_std,
            expression_std=model.expression_std,
        )


def size_slopes(
    template: Float[np.ndarray, "V 3"], basis: Float[np.ndarray, "V 3 K"], vertices: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " K"]:
    """Relative change, by coefficient, of some vertices' root mean square distance from their middle."""
    chosen = np.asarray(template, np.float64)[vertices]
    centred = chosen - chosen.mean(axis=0)
    moved = basis[vertices] - basis[vertices].mean(axis=0)
    return np.einsum("vc,vck->k", centred, moved) / (centred**2).sum()


def _scaling(model: HeadModel, size: np.ndarray) -> np.ndarray:
    """Least squares over the skin, shifts apart, under the population's prior at 3 mm a vertex."""
    skin, count = skin_vertices(model), model.num_shape
    rows = np.asarray(model.shapedirs, np.float64)[skin]
    rows = (rows - rows.mean(axis=0)).reshape(3 * len(skin), count)
    template = np.asarray(model.v_template, np.float64)[skin]
    right = rows.T @ (template - template.mean(axis=0)).reshape(-1)
    scaling = np.zeros(len(size))
    scaling[:count] = np.linalg.solve(
        rows.T @ rows + (0.003 * 0.1 / model.shape_std) ** 2 * np.eye(count), right
    )
    grown = size @ scaling
    # A basis that cannot scale the head at all has nothing to hold.
    return scaling / grown if abs(grown) > 0.1 else np.zeros(len(size))


def triangle_rings(faces: np.ndarray, region: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``HeadTables.ring`` and ``HeadTables.fans`` of the triangles in ``region`` (F,) bool; zeros for the others."""
    around: list[list[tuple[int, int]]] = [[] for _ in range(int(faces.max()) + 1)]
    for a, b, c in faces.tolist():
        around[a].append((b, c))
        around[b].append((c, a))
        around[c].append((a, b))
    places, spokes = [], []
    for triangle in faces[region].tolist():
        place = {vertex: k for k, vertex in enumerate(triangle)}
        for corner in triangle:
            for pair in around[corner]:
                for vertex in pair:
                    place.setdefault(vertex, len(place))
        places.append(list(place))
        spokes.append([[(place[b], place[c]) for b, c in around[corner]] for corner in triangle])
    longest = max((len(place) for place in places), default=3)
    most = max((len(fan) for corners in spokes for fan in corners), default=1)
    ring = np.zeros((len(faces), longest), np.int32)
    fans = np.zeros((len(faces), 3, most, 2), np.int32)
    for face, place, corners in zip(np.flatnonzero(region), places, spokes, strict=True):
        ring[face, : len(place)] = place
        ring[face, len(place) :] = place[0]
        for corner, fan in enumerate(corners):
            # Twice the same place: no area.
            fans[face, corner, : len(fan)] = fan
    return ring, fans


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Posed:
    """A decoded head with what its derivatives are made of.

    Attributes:
        vertices: ``(V, 3)`` head frame, metres.
        from_joint: ``(V, 3)`` where a vertex lies before skinning, from the jaw's joint.
        turn: ``(3, 3)`` the jaw's rotation.
        turn_slope: ``(3, 3, 3)`` its derivative by axis times angle, the last axis.
    """

    vertices: Float[Array, "V 3"]
    from_joint: Float[Array, "V 3"]
    turn: Float[Array, "3 3"]
    turn_slope: Float[Array, "3 3 3"]


def pose(
    tables: HeadTables,
    coefficients: Float[Array, " K"],
    jaw: Float[Array, "3"],
    eyelids: Float[Array, "2"],
) -> Posed:
    """Decodes one head: ``flame_jax.decode`` with neck and eyes at rest, the jaw as axis times angle (radians)."""
    turn = axis_angle_to_matrix(jaw)
    slope = jax.jacfwd(axis_angle_to_matrix)(jaw)
    vertices, from_joint = decode_resting(tables, coefficients, turn, eyelids)
    return Posed(vertices, from_joint, turn, slope)


def pull_back(
    tables: HeadTables,
    posed: Posed,
    vertices: Int[Array, " N"],
    slopes: Float[Array, "r N 3"],
) -> Float[Array, "r J"]:
    """Derivatives by vertex positions to derivatives by all that moves them: J = K + 3 (jaw) + 2 (eyelids).

    Linear blendshapes make this a gather of basis rows and one small product: no tangent runs over the mesh.

    Args:
        tables, posed: of the head.
        vertices: which vertices; one may come several times.
        slopes: ``∂ residual / ∂ position`` of r residuals.
    """
    weight = tables.jaw_weight[vertices]
    swing = posed.turn - jnp.eye(3, dtype=slopes.dtype)
    weighted = slopes * weight[None, :, None]
    swung = weighted @ swing  # (r, N, 3)
    by_rest = slopes + swung
    rows = tables.basis[vertices]  # (N, 3, K)
    by_coefficients = jnp.einsum("rnc,nck->rk", by_rest, rows) - swung.sum(axis=1) @ tables.joint_basis
    by_jaw = jnp.einsum("rnc,cdj,nd->rj", weighted, posed.turn_slope, posed.from_joint[vertices])
    if tables.correctives.shape[0]:
        correctives = jnp.einsum("ncp,pj->ncj", tables.correctives[vertices], posed.turn_slope.reshape(9, 3))
        by_jaw = by_jaw + jnp.einsum("rnc,ncj->rj", by_rest, correctives)
    by_eyelids = jnp.einsum("rnc,nce->re", slopes, tables.eyelids[vertices])
    return jnp.concatenate([by_coefficients, by_jaw, by_eyelids], axis=-1)
