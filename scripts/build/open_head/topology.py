"""Which part of MakeHuman's body is the head: the neck cut, the triangles, the mirror map, the UV layout."""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

from open_head.makehuman import BaseMesh

# One edge of the ring of edges along which the neck is cut: front midline vertex and its left neighbour.
NECK_RING_EDGE = (815, 7523)

# Helper geometry that belongs to a head; lashes, hair and clothes helpers do not.
PARTS = {
    "left_eyeball": "helper-l-eye",
    "right_eyeball": "helper-r-eye",
    "tongue": "helper-tongue",
    "lower_teeth": "helper-lower-teeth",
    "upper_teeth": "helper-upper-teeth",
}


@dataclasses.dataclass(frozen=True)
class HeadTopology:
    """The head cut out of the base mesh. V vertices, F triangles, T texture vertices.

    Attributes:
        source: ``(V,)`` index of each vertex in the base mesh.
        faces: ``(F, 3)`` counter-clockwise from outside; mirror symmetric as a set.
        uv: ``(T, 2)``; uv_faces: ``(F, 3)``.
        mirror: ``(V,)`` index of each vertex's mirror image.
        parts: part name → vertex indices: ``skin`` and the keys of ``PARTS`` (these share no vertex), and
            parts of the skin inside the openings: ``left_socket``, ``right_socket``, ``mouth_cavity``.
        neck_ring: vertices on the open rim of the neck, in order.
        edges: ``(E, 2)`` edges of the quad mesh (without the diagonals of the triangulation).
    """

    source: Int[np.ndarray, "V"]
    faces: Int[np.ndarray, "F 3"]
    uv: Float[np.ndarray, "T 2"]
    uv_faces: Int[np.ndarray, "F 3"]
    mirror: Int[np.ndarray, "V"]
    parts: dict[str, Int[np.ndarray, "n"]]
    neck_ring: Int[np.ndarray, "r"]
    edges: Int[np.ndarray, "E 2"]


def head_topology(mesh: BaseMesh) -> HeadTopology:
    """Cuts the head out of the body, with eyeballs, tongue and teeth.

    The neck is cut along a closed ring of quad edges, so that the hem is clean. Vertices keep the base mesh's
    order: skin, then the parts in the order of ``PARTS``.
    """
    body = mesh.quads["body"]
    ring = edge_ring(body, *NECK_RING_EDGE)
    top = int(np.argmax(np.where(np.isin(np.arange(len(mesh.vertices)), body), mesh.vertices[:, 1], -np.inf)))
    keep = faces_above_ring(body, ring, top)
    quads, uv_quads = [body[keep]], [mesh.uv_quads["body"][keep]]
    source, parts = [np.unique(body[keep])], {"skin": np.arange(len(np.unique(body[keep])))}
    offset = len(source[0])
    for part, group in PARTS.items():
        quads.append(mesh.quads[group])
        uv_quads.append(mesh.uv_quads[group])
        source.append(np.unique(mesh.quads[group]))
        parts[part] = np.arange(offset, offset + len(source[-1]))
        offset += len(source[-1])
    source = np.concatenate(source)
    to_head = np.full(len(mesh.vertices), -1)
    to_head[source] = np.arange(len(source))
    mirror = to_head[mesh.mirror[source]]
    if (mirror < 0).any():
        raise ValueError("the cut is not mirror symmetric")
    quads = to_head[np.concatenate(quads)]
    triangles, corners = triangulate(quads, mirror, mesh.vertices[source])
    uv_flat = np.concatenate(uv_quads)
    uv_faces = np.take_along_axis(uv_flat[corners[0]], corners[1], axis=1)
    used, uv_faces = np.unique(uv_faces, return_inverse=True)
    uv_faces = uv_faces.reshape(-1, 3)
    parts |= inner_surfaces(
        mesh.uv_quads["body"][keep], to_head[body[keep]], mesh.vertices[source], parts, to_head[ring]
    )
    edges = np.sort(np.concatenate([quads[:, [i, (i + 1) % 4]] for i in range(4)]), axis=1)
    return HeadTopology(
        source=source,
        faces=triangles.astype(np.int32),
        uv=pack_uv(mesh.uv[used], uv_faces),
        uv_faces=uv_faces.astype(np.int32),
        mirror=mirror,
        parts=parts,
        neck_ring=to_head[ring],
        edges=np.unique(edges, axis=0),
    )


def inner_surfaces(
    uv_quads: Int[np.ndarray, "Q 4"],
    quads: Int[np.ndarray, "Q 4"],
    vertices: Float[np.ndarray, "V 3"],
    parts: dict[str, Int[np.ndarray, "n"]],
    neck_ring: Int[np.ndarray, "r"],
) -> dict[str, Int[np.ndarray, "n"]]:
    """Eye sockets and mouth cavity: the texture islands of the skin but for the face's and the neck's."""
    label = uv_islands(uv_quads)[uv_quads[:, 0]]
    outer = np.isin(label, [np.bincount(label).argmax(), *label[np.isin(quads, neck_ring).any(axis=1)]])
    inner = np.setdiff1d(quads[~outer], quads[outer])
    near = {
        side: np.linalg.norm(vertices[inner] - vertices[parts[f"{side}_eyeball"]].mean(axis=0), axis=1) < 0.03
        for side in ("left", "right")
    }
    return {
        "left_socket": inner[near["left"]],
        "right_socket": inner[near["right"]],
        "mouth_cavity": inner[~near["left"] & ~near["right"]],
    }


def uv_islands(uv_faces: Int[np.ndarray, "F k"]) -> Int[np.ndarray, "T"]:
    """Which connected piece of the texture each texture vertex belongs to."""
    pairs = np.concatenate([uv_faces[:, [i, i + 1]] for i in range(uv_faces.shape[1] - 1)])
    number = int(uv_faces.max()) + 1
    graph = sp.coo_matrix((np.ones(len(pairs)), pairs.T), shape=(number, number))
    return connected_components(graph, directed=False)[1]


def edge_ring(quads: Int[np.ndarray, "Q 4"], start: int, second: int) -> Int[np.ndarray, "r"]:
    """Walks straight on over four-valent vertices from an edge until the loop closes.

    Raises:
        ValueError: if the walk meets an irregular vertex before it closes.
    """
    neighbours: dict[int, set] = {}
    faces_of: dict[frozenset, list] = {}
    for quad in quads.tolist():
        for a, b in zip(quad, quad[1:] + quad[:1], strict=True):
            neighbours.setdefault(a, set()).add(b)
            neighbours.setdefault(b, set()).add(a)
            faces_of.setdefault(frozenset((a, b)), []).append(quad)
    ring = [start, second]
    while True:
        a, b = ring[-2:]
        beside = set().union(*faces_of[frozenset((a, b))])
        ahead = neighbours[b] - beside
        if len(neighbours[b]) != 4 or len(ahead) != 1:
            raise ValueError(f"the ring of edges from {start} ends at the irregular vertex {b}")
        (following,) = ahead
        if following == start:
            return np.asarray(ring)
        ring.append(following)


def faces_above_ring(
    quads: Int[np.ndarray, "Q 4"], ring: Int[np.ndarray, "r"], seed: int
) -> Int[np.ndarray, "K"]:
    """Quads connected to the vertex ``seed`` over edges that are not on the ring, in ascending order."""
    size = int(quads.max()) + 1
    edges = np.sort(np.stack([quads, np.roll(quads, -1, axis=1)], axis=-1), axis=-1)
    keys = edges[..., 0] * size + edges[..., 1]
    cut = np.sort(np.stack([ring, np.roll(ring, -1)], axis=-1), axis=-1)
    open_edge = ~np.isin(keys, cut[:, 0] * size + cut[:, 1])
    face, _ = np.nonzero(open_edge)
    _, edge = np.unique(keys[open_edge], return_inverse=True)
    incidence = sp.csr_matrix((np.ones(len(face)), (face, edge)), shape=(len(quads), edge.max() + 1))
    _, label = connected_components(incidence @ incidence.T, directed=False)
    return np.flatnonzero(label == label[np.flatnonzero((quads == seed).any(axis=1))[0]])


def triangulate(
    quads: Int[np.ndarray, "Q 4"], mirror: Int[np.ndarray, "V"], vertices: Float[np.ndarray, "V 3"]
) -> tuple[Int[np.ndarray, "F 3"], tuple[Int[np.ndarray, "F"], Int[np.ndarray, "F 3"]]]:
    """Splits each quad along its shorter diagonal, a quad and its mirror image along the same one.

    Returns:
        The triangles, and for each the quad it came from and which of its corners it took.
    """
    diagonal_02 = np.linalg.norm(vertices[quads[:, 0]] - vertices[quads[:, 2]], axis=1)
    diagonal_13 = np.linalg.norm(vertices[quads[:, 1]] - vertices[quads[:, 3]], axis=1)
    use_13 = diagonal_13 < diagonal_02 - 1e-9
    index = {frozenset(quad): i for i, quad in enumerate(quads.tolist())}
    on_left = vertices[quads][..., 0].mean(axis=1) > 0
    for i in np.flatnonzero(~on_left):
        image = mirror[quads[i]]
        j = index[frozenset(image.tolist())]
        if on_left[j]:
            ends = quads[j][[1, 3]] if use_13[j] else quads[j][[0, 2]]
            use_13[i] = set(ends.tolist()) == {image[1], image[3]}
    corners = np.where(
        use_13[:, None, None],
        np.array([[0, 1, 3], [1, 2, 3]]),
        np.array([[0, 1, 2], [0, 2, 3]]),
    ).reshape(-1, 3)
    quad_of = np.repeat(np.arange(len(quads)), 2)
    return np.take_along_axis(quads[quad_of], corners, axis=1), (quad_of, corners)


def pack_uv(uv: Float[np.ndarray, "T 2"], uv_faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "T 2"]:
    """Lays the head's texture islands out in the unit square, the face upright on top.

    MakeHuman's atlas holds a whole body, the face lying on its side. The largest island (the outer skin) is
    turned upright and fills the upper part; the rest stand in equal cells in a row below it.
    """
    label = uv_islands(uv_faces)
    order = np.argsort(-np.bincount(label), kind="stable")
    packed = np.empty_like(uv)
    margin = 0.005
    main = label == order[0]
    upright = np.stack([uv[main, 1], -uv[main, 0]], axis=-1)
    extent = np.ptp(upright, axis=0)
    scale = (1 - 2 * margin) / extent[0]
    packed[main] = margin + (upright - upright.min(axis=0)) * scale
    height = extent[1] * scale + 2 * margin
    packed[main, 1] += 1.0 - height
    cell = min(1.0 / max(len(order) - 1, 1), 1.0 - height)
    for column, island in enumerate(order[1:]):
        inside = label == island
        box = uv[inside] - uv[inside].min(axis=0)
        packed[inside] = margin + box / box.max() * (cell - 2 * margin)
        packed[inside, 0] += column / max(len(order) - 1, 1)
    return packed
