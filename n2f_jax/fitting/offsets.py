"""Offsets of a registered head model's vertices: what of a scan its coefficients cannot express."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int
from scipy.sparse.linalg import spsolve

from n2f_jax.fitting.correspondences import ModelSkin, Pairs, ScanSurface
from n2f_jax.geometry.alignment import Similarity

# Weight of the squared difference of the offsets of two neighbours against that of a squared distance, from stiff on.
STIFFNESS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
_STEPS = 2
_MAX_DISTANCE = 0.008
# Of a landmark's distance against a surface's, before squaring.
_LANDMARK_WEIGHT = 0.5
# Of neighbours' weight: what keeps parts that nothing pulls at (teeth) where they are.
_REST = 1e-3


def fit_offsets(
    skin: ModelSkin,
    faces: Int[np.ndarray, "F 3"],
    vertices: Float[np.ndarray, "V 3"],
    similarity: Similarity,
    scan: ScanSurface,
    landmarks: Pairs,
    stiffness: tuple[float, ...] = STIFFNESS,
) -> Float[np.ndarray, "V 3"]:
    """Offsets that take the skin to a scan: least squares of point-to-plane distances and of neighbours' differences.

    Where the scan has holes the offsets run on smoothly from around. Amberg, Romdhani, Vetter: "Optimal step nonrigid
    ICP algorithms for surface registration", CVPR 2007, with translations in place of affine maps, since coefficients
    have turned everything already.

    Args:
        skin: of the model.
        faces: of the whole model, which say who is whose neighbour.
        vertices: registered, head frame, metres.
        similarity: head frame → scan frame.
        scan: the scan.
        landmarks: three pairs of each, along the axes, which hold the skin from sliding along itself.
        stiffness: from first to last.

    Returns:
        Head frame, metres.
    """
    scale = float(similarity.scale)
    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    count = len(vertices)
    rows = np.arange(len(edges))
    difference = sparse.coo_matrix(
        (np.tile([1.0, -1.0], len(edges)), (np.repeat(rows, 2), edges.ravel())), (len(edges), count)
    ).tocsr()
    laplacian = sparse.kron(
        difference.T @ difference + _REST * sparse.eye(count), sparse.eye(3), format="csc"
    )
    offsets = np.zeros_like(vertices)
    for stiff in stiffness:
        for _ in range(_STEPS):
            placed = similarity.apply(vertices + offsets)
            pairs = Pairs.joined(*skin.pairs(placed, scan, _MAX_DISTANCE * scale), landmarks)
            jacobian, wanted = _rows(pairs, vertices, similarity, count)
            weight = np.ones(len(wanted))
            weight[len(weight) - int(landmarks.counts.sum()) :] = _LANDMARK_WEIGHT
            jacobian, wanted = jacobian.multiply(weight[:, None]).tocsr(), weight * wanted
            solved = spsolve((jacobian.T @ jacobian + stiff * laplacian).tocsc(), jacobian.T @ wanted)
            offsets = solved.reshape(count, 3)
    return offsets


def _rows(pairs: Pairs, vertices: np.ndarray, similarity: Similarity, count: int):
    """The distances' derivatives by the offsets, and what they should be, where pairs count; head frame."""
    use = pairs.counts
    corners, weights = pairs.corners[use], pairs.weights[use]
    target = similarity.inverse(pairs.target[use])
    normal = pairs.normal[use] @ similarity.rotation
    points = np.einsum("nc,nci->ni", weights, vertices[corners])
    values = weights[:, :, None] * normal[:, None, :]
    columns = 3 * corners[:, :, None] + np.arange(3)
    row = np.repeat(np.arange(len(points)), 9)
    jacobian = sparse.coo_matrix((values.ravel(), (row, columns.ravel())), (len(points), 3 * count)).tocsr()
    return jacobian, ((target - points) * normal).sum(axis=1)
