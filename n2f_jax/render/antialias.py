"""Silhouette gradients: the mask's borders moved to where mesh edges really cross between pixel centres.

Between two neighbouring pixels, one in the mask and one not, the border of the mask runs. We look for the
mesh edge it is by walking over the mesh, triangle to neighbouring triangle, along the line that joins the two
pixel centres, until the surface turns away from the camera, ends, or leaves the mask's region. The walk
handles triangles smaller than a pixel, where the edge belongs to a triangle seen at neither centre. Where the
edge crosses the line, at a share t of the way, is differentiable, and the pixel in which it crosses gains or
loses coverage ``|t − 1/2|``. Edges closer to vertical act on horizontal pairs of pixels, the others on
vertical pairs: then a moving edge changes the sum of the mask by the area it sweeps. The idea of blending
across silhouette edges is from Laine et al., "Modular Primitives for High-Performance Differentiable
Rendering" (2020), section 3.5.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from n2f_jax.render.compaction import compact
from n2f_jax.render.topology import MeshTopology

# Triangles crossed between two pixel centres, at most. Near a silhouette a pixel's width spans several.
_MAX_STEPS = 24
# Pairs of pixels worked on at once.
_CHUNK = 256


def antialias_mask(
    face: Int[Array, "H W"],
    vertices_cam: Float[Array, "V 3"],
    topology: MeshTopology,
    focal: Float[Array, ""],
    principal_point: Float[Array, "2"],
    max_pairs: int | None = None,
) -> tuple[Float[Array, "H W"], Int[Array, ""]]:
    """The mask of the topology's region with borders that depend on the vertices.

    One mesh; use ``jax.vmap`` for batches. Reverse and forward mode reach the vertices and the intrinsics.

    Args:
        face: visible triangles, −1 where empty.
        vertices_cam: camera frame.
        topology: its ``region`` makes the mask.
        focal: pixels.
        principal_point: pixels.
        max_pairs: budget of neighbouring pixel pairs at the mask's border; 12 times the longer side by
            default.

    Returns:
        The mask in [0, 1] and the number of border pairs beyond the budget (left unsmoothed), 0 in ordinary
        views.
    """
    height, width = face.shape
    max_pairs = default_max_pairs((height, width)) if max_pairs is None else max_pairs
    mask = (face >= 0) & topology.region[jnp.maximum(face, 0)]
    across = jnp.pad(mask[:, 1:] != mask[:, :-1], ((0, 0), (0, 1)))
    down = jnp.pad(mask[1:] != mask[:-1], ((0, 1), (0, 0)))
    pairs, found = compact(jnp.concatenate([across.reshape(-1), down.reshape(-1)]), max_pairs)

    area = height * width
    used = pairs < 2 * area
    vertical = pairs >= area  # the pair lies one above the other
    first = jnp.where(used, jnp.where(vertical, pairs - area, pairs), 0)
    second = jnp.where(used, first + jnp.where(vertical, width, 1), 0)
    flat_face, flat_mask = face.reshape(-1), mask.reshape(-1)
    first_inside = flat_mask[first]
    inside = jnp.where(first_inside, first, second)
    outside = jnp.where(first_inside, second, first)

    pixels = _project(vertices_cam, focal, principal_point)
    table, links = _walking_tables(
        jax.lax.stop_gradient(pixels), jax.lax.stop_gradient(vertices_cam[:, 2]), topology
    )

    def walk_some(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        begin, edge, hit = state
        begin = jnp.minimum(begin, max_pairs - chunk)
        here, there, in_use = (jax.lax.dynamic_slice(x, (begin,), (chunk,)) for x in (inside, outside, used))
        start, stop = jnp.concatenate([here, there]), jnp.concatenate([there, here])
        walk_face = jnp.where(jnp.concatenate([in_use, in_use]), flat_face[start], -1)
        ends, depth = _walk(walk_face, _center(start, width), _center(stop, width), table, links)
        # Of the edge that ends the inner surface and the one that ends the outer surface, the nearer hides the
        # other.
        inner, outer = depth[:chunk], depth[chunk:]
        ends = jnp.where((inner <= outer)[:, None], ends[:chunk], ends[chunk:])
        found_end = in_use & (jnp.minimum(inner, outer) < jnp.inf)
        return (
            begin + chunk,
            jax.lax.dynamic_update_slice(edge, ends, (begin, 0)),
            jax.lax.dynamic_update_slice(hit, found_end, (begin,)),
        )

    # Some at a time: as many as there are, few of the budget.
    chunk = min(_CHUNK, max_pairs)
    _, edge, hit = jax.lax.while_loop(
        lambda state: state[0] < jnp.minimum(found, max_pairs),
        walk_some,
        (jnp.zeros((), jnp.int32), jnp.zeros((max_pairs, 2), jnp.int32), jnp.zeros(max_pairs, bool)),
    )
    ends = pixels[jnp.where(hit[:, None], edge, 0)]  # (pairs, 2 ends, uv)

    # Along the pair's axis and across it.
    along = jnp.where(vertical[:, None], ends[..., 1], ends[..., 0])
    beside = jnp.where(vertical[:, None], ends[..., 0], ends[..., 1])
    run_along, run_beside = along[:, 1] - along[:, 0], beside[:, 1] - beside[:, 0]
    # Exactly diagonal edges act on horizontal pairs.
    steep = jnp.where(
        vertical, jnp.abs(run_beside) > jnp.abs(run_along), jnp.abs(run_beside) >= jnp.abs(run_along)
    )
    hit = hit & steep & (run_beside != 0.0)
    here, there = _center(inside, width), _center(outside, width)
    fixed = jnp.where(vertical, here[:, 0], here[:, 1])
    origin = jnp.where(vertical, here[:, 1], here[:, 0])
    direction = jnp.where(vertical, there[:, 1], there[:, 0]) - origin
    slope = run_along / jnp.where(hit, run_beside, 1.0)
    crossing = along[:, 0] + slope * (fixed - beside[:, 0])
    t = (crossing - origin) * direction
    hit = hit & (t > -0.01) & (t < 1.01)
    change = jnp.where(hit, t - 0.5, 0.0)
    # A crossing nearer to the inner pixel takes from it, one nearer to the outer pixel gives to that.
    target = jnp.where(hit, jnp.where(change < 0.0, inside, outside), area)
    soft = mask.astype(jnp.float32).reshape(-1).at[target].add(change, mode="drop")
    return soft.reshape(height, width), jnp.maximum(found - max_pairs, 0)


def default_max_pairs(size: tuple[int, int]) -> int:
    """Pairs at the mask's border that are smoothed: several times as many as a head's face region has."""
    return 12 * max(size)


def _project(
    vertices_cam: Float[Array, "V 3"], focal: Float[Array, ""], principal_point: Float[Array, "2"]
) -> Float[Array, "V 2"]:
    z = vertices_cam[:, 2:]
    safe = jnp.where(jnp.abs(z) > 1e-6, z, 1.0)
    return focal * vertices_cam[:, :2] / safe + jnp.broadcast_to(principal_point, (z.shape[0], 2))


def _center(index: Int[Array, " n"], width: int) -> Float[Array, "n 2"]:
    row = index // width
    return jnp.stack([index - row * width, row], axis=-1).astype(jnp.float32) + 0.5


def _walking_tables(
    pixels: Float[Array, "V 2"], depth: Float[Array, " V"], topology: MeshTopology
) -> tuple[Float[Array, "F 9"], Int[Array, "F 9"]]:
    """Of every face: its corners' pixels and depths; and across each edge the next face, whether the surface ends
    there, and the edge's first vertex."""
    corners = pixels[topology.faces]
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    front = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) < 0.0
    neighbor = topology.neighbors
    beyond = jnp.maximum(neighbor, 0)
    region = topology.region
    # The surface ends at an edge whose other side is missing, turned away, or of the other region.
    ends = (
        (neighbor < 0) | ~front[beyond] | (region[beyond] != jnp.broadcast_to(region[:, None], beyond.shape))
    )
    table = jnp.concatenate([corners.reshape(-1, 6), depth[topology.faces]], axis=-1)
    links = jnp.concatenate([neighbor, ends.astype(jnp.int32), topology.faces], axis=-1)
    return jax.lax.optimization_barrier((table, links))


def _walk(
    face: Int[Array, " n"],
    start: Float[Array, "n 2"],
    stop: Float[Array, "n 2"],
    table: Float[Array, "F 9"],
    links: Int[Array, "F 9"],
) -> tuple[Int[Array, "n 2"], Float[Array, " n"]]:
    """Follows each line from ``start`` over the mesh until the surface that is seen there ends.

    Returns:
        ``(n, 2)`` vertices of the edge where it ends and the depth there, inf if it does not end before
        ``stop``.
    """
    count = face.shape[0]

    def step(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        number, current, _, _ = state
        active = current >= 0
        row = table[jnp.maximum(current, 0)]
        link = links[jnp.maximum(current, 0)]
        best_t = jnp.full(count, jnp.inf)
        best_edge = jnp.full(count, -1, jnp.int32)
        best_depth = jnp.zeros(count)
        for k in range(3):
            i, j = k, (k + 1) % 3
            ex, ey = row[:, 2 * j] - row[:, 2 * i], row[:, 2 * j + 1] - row[:, 2 * i + 1]

            def side(point: Array, ex: Array = ex, ey: Array = ey, i: int = i, row: Array = row) -> Array:
                # Positive inside a triangle that faces the camera (y down, hence the sign).
                return ey * (point[:, 0] - row[:, 2 * i]) - ex * (point[:, 1] - row[:, 2 * i + 1])

            at_start, at_stop = side(start), side(stop)
            leaves = (at_stop < 0.0) & (at_start > at_stop)
            t = jnp.where(leaves, at_start / jnp.where(leaves, at_start - at_stop, 1.0), jnp.inf)
            closer = t < best_t
            best_t = jnp.where(closer, t, best_t)
            best_edge = jnp.where(closer, k, best_edge)
            best_depth = jnp.where(closer, jnp.minimum(row[:, 6 + i], row[:, 6 + j]), best_depth)
        chosen = jnp.maximum(best_edge, 0)[:, None]
        exits = active & (best_edge >= 0)
        following = jnp.take_along_axis(link, chosen, axis=1)[:, 0]
        is_end = jnp.take_along_axis(link, chosen + 3, axis=1)[:, 0] > 0
        from_vertex = jnp.take_along_axis(link, chosen + 6, axis=1)
        to_vertex = jnp.take_along_axis(link, (chosen + 1) % 3 + 6, axis=1)
        done = exits & is_end
        edge = jnp.where(done[:, None], jnp.concatenate([from_vertex, to_vertex], axis=1), state[2])
        end_depth = jnp.where(done, best_depth, state[3])
        return number + 1, jnp.where(exits & ~is_end, following, -1), edge, end_depth

    state = (
        jnp.zeros((), jnp.int32),
        face,
        jnp.zeros((count, 2), jnp.int32),
        jnp.full(count, jnp.inf),
    )
    state = jax.lax.while_loop(lambda s: (s[0] < _MAX_STEPS) & (s[1] >= 0).any(), step, state)
    return state[2], state[3]
