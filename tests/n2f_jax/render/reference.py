"""A slow, plain rasteriser: float64 (integers for coverage), one triangle after the other."""

import numpy as np

SUBPIXEL = 256


def icosphere(subdivisions: int, radius: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float32 and counter-clockwise faces (F, 3) int32 of a sphere about the origin."""
    import trimesh

    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return np.asarray(mesh.vertices, np.float32), np.asarray(mesh.faces, np.int32)


def snap(vertices_cam, focal, center):
    """Projected vertices on the sub-pixel grid, int64 (computed in float32, as positions are), and depth."""
    vertices_cam = np.asarray(vertices_cam, np.float32)
    z = vertices_cam[:, 2:]
    with np.errstate(all="ignore"):
        pixels = np.float32(focal) * vertices_cam[:, :2] / z + np.asarray(center, np.float32)
        pixels = np.where(np.isfinite(pixels) & (np.abs(pixels) < 32768), pixels, 0.0)
    # A product by 256 is exact in float32, and so is the sum with 0.5 within the image.
    return np.floor(pixels.astype(np.float32) * np.float32(SUBPIXEL) + np.float32(0.5)).astype(np.int64)


def rasterize_reference(vertices_cam, faces, focal, center, size, near=0.01):
    """Nearest face (H, W), its inverse depth, that of every face at every pixel (0: not covered), times drawn.

    Coverage is exact integer arithmetic on snapped vertices with the top-left rule; depth is float64. Triangles without
    a projection on the grid are drawn from homogeneous coordinates.
    """
    height, width = size
    vertices = np.asarray(vertices_cam, np.float64)
    snapped = snap(vertices_cam, focal, center)
    rows, columns = np.mgrid[:height, :width]
    px, py = columns * SUBPIXEL + SUBPIXEL // 2, rows * SUBPIXEL + SUBPIXEL // 2
    best = np.zeros(size)
    winner = np.full(size, -1)
    drawn_times = np.zeros(size, int)
    inverse = []
    for number, face in enumerate(np.asarray(faces)):
        corners = vertices[face]
        if not np.isfinite(corners).all() or (corners[:, 2] < near).all():
            continue
        if has_projection(corners, focal, center, near):
            covered, value = _snapped_triangle(snapped[face], corners[:, 2], px, py)
        else:
            covered, value = homogeneous_triangle(corners, focal, center, size, near)
        value = np.where(covered, value, 0.0)
        inverse.append((number, value))
        drawn_times += covered
        winner = np.where(value > best, number, winner)
        best = np.maximum(best, value)
    return winner, best, dict(inverse), drawn_times


def has_projection(corners, focal, center, near):
    """Whether a triangle lies in front of the near plane, within the guard band, and is not too large."""
    if (corners[:, 2] < near).any():
        return False
    pixels = focal * corners[:, :2] / corners[:, 2:] + np.asarray(center)
    return (np.abs(pixels) < 32768).all() and (np.ptp(pixels, axis=0) < 16384).all()


def _snapped_triangle(snapped, z, px, py):
    x, y = snapped[:, 0], snapped[:, 1]
    area = (x[1] - x[0]) * (y[2] - y[0]) - (y[1] - y[0]) * (x[2] - x[0])
    if area >= 0:  # y is down: counter-clockwise seen from outside is negative
        return np.zeros(px.shape, bool), np.zeros(px.shape)
    covered = np.ones(px.shape, bool)
    weights = []
    for k in range(3):
        i, j = k, (k + 1) % 3
        dx, dy = x[j] - x[i], y[j] - y[i]
        edge = -(dx * (py - y[i]) - dy * (px - x[i]))
        # Inside lies to the right of a left edge and below a top edge.
        top_left = dy > 0 or (dy == 0 and dx < 0)
        covered &= (edge > 0) | ((edge == 0) & top_left)
        weights.append(edge)
    # Edge k is opposite corner k + 2.
    w = 1.0 / z
    return covered, (weights[0] * w[2] + weights[1] * w[0] + weights[2] * w[1]) / -area


def homogeneous_triangle(corners, focal, center, size, near):
    """Pixels of a triangle that may cross the near plane, and its inverse depth there, by ray and plane."""
    u, v = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    rays = np.stack([(u - center[0]) / focal, (v - center[1]) / focal, np.ones(size)], -1)
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    if corners[0] @ normal >= 0:  # turned away from the camera, or without area
        return np.zeros(size, bool), np.zeros(size)
    inverse_depth = rays @ normal / (corners[0] @ normal)
    with np.errstate(divide="ignore", invalid="ignore"):
        points = rays / inverse_depth[..., None]
        inside = inverse_depth > 0
        for k in range(3):
            a, b = corners[k], corners[(k + 1) % 3]
            inside &= np.cross(b - a, points - a) @ normal >= 0
        inside &= points[..., 2] >= near
    return inside, inverse_depth
