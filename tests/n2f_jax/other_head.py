"""A head model of which much is known: the open head's people on another mesh, in another frame, by other numbers."""

import dataclasses
import itertools
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

import flame_jax
from flame_jax import HeadModel, LandmarkEmbedding, landmarks68
from n2f_jax.face_mesh.embedding import face_mesh_embedding
from n2f_jax.fitting.head_correspondence import HeadCorrespondence
from n2f_jax.metrics.skin import skin_vertices

GNM_VERTICES = 17_821
FRAME = Rotation.from_rotvec([0.05, -0.02, 0.03]).as_matrix(), np.array([0.004, -0.006, 0.01])


def other_head(
    model: HeadModel, num_shape: int, num_expression: int, seed=0, jaw=True, frame=True
) -> HeadModel:
    """The open head's dual mesh: a vertex in the middle of each triangle, a polygon around each vertex.

    Its mean is another person, and its coefficients a mixture of the open head's first ones, so that every head of
    those is one of its own, but for the faceting of the mesh. Without ``jaw`` the opening is an expression, as in GNM.

    Args:
        model: the open head.
        num_shape, num_expression: how many of its directions.
        seed: of the mixture and the mean.
        jaw: whether the jaw's joint turns something; False: three expressions more, which open it.
        frame: whether it lies turned and shifted (``FRAME``).
    """
    rng = np.random.default_rng(seed)
    faces = np.asarray(model.faces)
    middle = lambda x: np.asarray(x, np.float64)[faces].mean(axis=1)  # noqa: E731
    turn, shift = FRAME if frame else (np.eye(3), np.zeros(3))

    def mixed(directions, count):
        orthogonal = np.linalg.qr(rng.normal(size=(count, count)))[0]
        return np.einsum("dc,vck->vdk", turn, middle(directions)[..., :count] @ orthogonal)

    shapedirs, exprdirs = mixed(model.shapedirs, num_shape), mixed(model.exprdirs, num_expression)
    template = middle(model.v_template) @ turn.T + shift + shapedirs @ (0.5 * rng.normal(size=num_shape))
    weights = middle(model.weights)
    if not jaw:
        joint = np.asarray(model.J_regressor[2] @ model.v_template, np.float64) @ turn.T + shift
        swing = [weights[:, 2:3] * np.cross(turn[:, axis], template - joint) for axis in range(3)]
        # A standard deviation each of the jaw's angles: radians.
        exprdirs = np.concatenate([exprdirs, np.stack(swing, axis=-1) * np.radians([5.0, 1.0, 1.0])], axis=-1)
        weights[:, 1] += weights[:, 2]
        weights[:, 2] = 0.0
    regressor = np.zeros((5, len(faces)))
    for joint in range(5):  # the nearest vertices' mean is not the same point, but as good a joint
        here = np.asarray(model.J_regressor[joint] @ model.v_template) @ turn.T + shift
        near = np.argsort(np.linalg.norm(template - here, axis=1))[:20]
        regressor[joint, near] = 1 / 20
    own = _polygons(faces)
    inside = {}
    for name, indices in model.masks.items():
        of_mask = np.zeros(model.num_vertices, bool)
        of_mask[np.asarray(indices)] = True
        inside[name] = jnp.asarray(np.flatnonzero(of_mask[faces].sum(axis=1) >= 2), jnp.int32)
    marks = np.asarray(landmarks68(model, model.v_template)) @ turn.T + shift
    base = middle(model.v_template) @ turn.T + shift
    found, shares = _nearest_triangles(base, own, marks)
    as_float = lambda x: jnp.asarray(x, jnp.float32)  # noqa: E731
    return dataclasses.replace(
        model,
        v_template=as_float(template),
        shapedirs=as_float(shapedirs),
        exprdirs=as_float(exprdirs),
        posedirs=jnp.zeros((len(faces), 3, 36)),
        eyelids=as_float(np.stack([middle(lid) @ turn.T for lid in model.eyelids])),
        J_regressor=as_float(regressor),
        weights=as_float(weights),
        faces=jnp.asarray(own, jnp.int32),
        uv=jnp.zeros((0, 2)),
        uv_faces=jnp.zeros((0, 3), jnp.int32),
        landmarks=LandmarkEmbedding(found, shares, found[None, :17], shares[None, :17]),
        masks=inside,
        name="another head",
    )


def true_correspondence(model: HeadModel, other: HeadModel) -> HeadCorrespondence:
    """What registration finds nearly: vertex i of ``other_head`` is the middle of the open head's triangle i."""
    faces = np.asarray(model.faces)
    skin = np.isin(faces, skin_vertices(model)).all(axis=1) & np.isin(
        np.arange(len(faces)), np.asarray(other.faces)
    )
    pairs = np.flatnonzero(skin)[::3].astype(np.int32)
    base = np.asarray(model.v_template)[faces].mean(axis=1)
    points, shares = face_mesh_embedding(model)
    there = np.einsum("nk,nkc->nc", shares, np.asarray(model.v_template)[faces[np.asarray(points)]])
    point_faces, point_shares = _nearest_triangles(base, np.asarray(other.faces), there)
    return HeadCorrespondence(
        vertices=pairs,
        faces=pairs,
        barycentric=np.full((len(pairs), 3), 1 / 3, np.float32),
        weights=np.full(len(pairs), 1 / len(pairs), np.float32),
        rotation=FRAME[0].astype(np.float32),
        translation=FRAME[1].astype(np.float32),
        contour_faces=np.asarray(other.landmarks.dynamic_faces),
        contour_barycentric=np.asarray(other.landmarks.dynamic_barycentric),
        point_faces=np.asarray(point_faces),
        point_barycentric=np.asarray(point_shares),
        distance=0.0,
        paired=1.0,
    )


def flame_arrays(model: HeadModel) -> dict[str, np.ndarray]:
    """FLAME-named arrays of a head model, as an archive holds them."""
    marks = model.landmarks
    return {
        "v_template": np.asarray(model.v_template),
        "shapedirs": np.concatenate([model.shapedirs, model.exprdirs], axis=-1),
        "num_shape": np.array(model.num_shape),
        "J_regressor": np.asarray(model.J_regressor),
        "kintree_table": np.array([[2**32 - 1, *model.parents[1:]], range(5)], np.int64),
        "weights": np.asarray(model.weights),
        "f": np.asarray(model.faces),
        "l_eyelid": np.asarray(model.eyelids[0]),
        "r_eyelid": np.asarray(model.eyelids[1]),
        "full_lmk_faces_idx": np.asarray(marks.static_faces),
        "full_lmk_bary_coords": np.asarray(marks.static_barycentric),
        "dynamic_lmk_faces_idx": np.asarray(marks.dynamic_faces),
        "dynamic_lmk_bary_coords": np.asarray(marks.dynamic_barycentric),
        "shape_std": np.array(model.shape_std),
        "expression_std": np.array(model.expression_std),
        "name": np.array(model.name),
        **{f"mask_{name}": np.asarray(indices) for name, indices in model.masks.items()},
    }


def gnm_arrays(model: HeadModel) -> tuple[dict[str, np.ndarray], str]:
    """The same head, made without a jaw, as a file of GNM's schema and its landmarks' text; lids are expressions."""
    at = np.array([0.0, 0.25, 0.05])
    regressor = np.asarray(model.J_regressor, np.float64)[[0, 1, 3, 4]]
    masks = {name: np.asarray(indices) for name, indices in model.masks.items()}
    named = {
        "skin_region": masks["face"],
        "nose_region": masks["nose"],
        "ears": np.concatenate([masks["left_ear"], masks["right_ear"]]),
        "left_eye": masks["left_eyeball"],
        "right_eye": masks["right_eyeball"],
        "upper_teeth": masks["teeth"],
        "tongue": masks["tongue"],
        "eye_sockets": masks["eye_sockets"],
        "mouth_sock": masks["mouth_cavity"],
    }
    groups = np.zeros((len(named), model.num_vertices), np.float32)
    for row, indices in zip(groups, named.values(), strict=True):
        row[indices] = 1.0
    expressions = np.concatenate(
        [np.moveaxis(np.asarray(model.exprdirs), -1, 0), 0.3 * np.asarray(model.eyelids)]
    )
    identity = np.moveaxis(np.asarray(model.shapedirs), -1, 0)
    faces, shares = np.asarray(model.faces), np.asarray(model.landmarks.static_barycentric)
    rows = zip(faces[np.asarray(model.landmarks.static_faces)], shares, strict=True)
    text = "".join(" ".join(f"{v} {w:.6f}" for v, w in zip(*row, strict=True)) + "\n" for row in rows)
    return {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": np.asarray(np.asarray(model.v_template) + at, np.float32),
        "template_joint_positions": np.asarray(regressor @ np.asarray(model.v_template) + at, np.float32),
        "vertex_identity_basis": identity,
        "joint_identity_basis": np.einsum("jv,ivc->ijc", regressor, identity).astype(np.float32),
        "expression_basis": expressions.astype(np.float32),
        "joint_names": np.array(["neck", "head", "left_eye", "right_eye"]),
        "joint_parent_indices": np.array([-1, 0, 1, 1]),
        "skinning_weights": np.asarray(model.weights).T[[0, 1, 3, 4]],
        "triangles": faces,
        "joint_regressor": regressor.astype(np.float32),
        "vertex_groups": groups,
        "vertex_group_names": np.array(list(named)),
    }, text


def _polygons(faces):
    """Triangles of the polygons around all vertices that are not on a border."""
    after = [{} for _ in range(faces.max() + 1)]
    place = {}
    for index, (a, b, c) in enumerate(faces.tolist()):
        for first, second, third in ((a, b, c), (b, c, a), (c, a, b)):
            after[first][second] = index
            place[index, first] = third
    made = []
    for vertex, around in enumerate(after):
        if not around:
            continue
        start = at = next(iter(around))
        ring = []
        while at in around and len(ring) <= len(around):
            ring.append(around[at])
            at = place[around[at], vertex]
            if at == start:
                break
        if at == start and len(ring) == len(around):
            made += [(ring[0], second, third) for second, third in itertools.pairwise(ring[1:])]
    return np.array(made)


def _nearest_triangles(vertices, faces, points):
    corners = vertices[faces]
    middles = corners.mean(axis=1)
    found, shares = [], []
    for point in points:
        best = (np.inf, 0, np.array([1.0, 0.0, 0.0]))
        for face in np.argsort(np.linalg.norm(middles - point, axis=1))[:12]:
            a, b, c = corners[face]
            solved = np.linalg.lstsq(np.stack([b - a, c - a], axis=-1), point - a, rcond=None)[0]
            share = np.clip([1 - solved.sum(), *solved], 0, None)
            share = share / share.sum()
            best = min(best, (np.linalg.norm(share @ corners[face] - point), face, share), key=lambda x: x[0])
        found.append(best[1])
        shares.append(best[2])
    return jnp.asarray(found, jnp.int32), jnp.asarray(np.array(shares), jnp.float32)


def gnm_of_true_size(model: HeadModel) -> tuple[dict[str, np.ndarray], str]:
    """``gnm_arrays`` of GNM Head 3.0's sizes: 17,821 vertices, 253 identity and 383 expression directions, 35,404
    triangles (GNM's have about 35,000)."""
    other = other_head(model, 253, 100, jaw=False, frame=False)
    # Triangles of ``other`` in whose middle a vertex more comes.
    faces = np.asarray(other.faces, np.int64)
    count = GNM_VERTICES - other.num_vertices
    cut = np.linspace(0, len(faces) - 1, count).astype(np.int64)
    assert len(np.unique(cut)) == count
    corners = faces[cut]
    middle = lambda x: np.concatenate([np.asarray(x), np.asarray(x)[corners].mean(axis=1)])  # noqa: E731
    new = other.num_vertices + np.arange(count)
    kept = faces.copy()
    kept[cut] = np.stack([corners[:, 0], corners[:, 1], new], axis=1)
    more = [np.stack([corners[:, (k + 1) % 3], corners[:, (k + 2) % 3], new], axis=1) for k in (0, 1)]
    # As many expressions by mixing: the same people.
    turned = np.linalg.qr(np.random.default_rng(1).normal(size=(383, other.num_expression)))[0]
    masks = {}
    for name, indices in other.masks.items():
        inside = np.zeros(other.num_vertices, bool)
        inside[np.asarray(indices)] = True
        masks[name] = np.flatnonzero(np.concatenate([inside, inside[corners].all(axis=1)]))
    big = dataclasses.replace(
        other,
        v_template=jnp.asarray(middle(other.v_template)),
        shapedirs=jnp.asarray(middle(other.shapedirs)),
        exprdirs=jnp.asarray(middle(other.exprdirs) @ turned.T, jnp.float32),
        eyelids=jnp.zeros((2, GNM_VERTICES, 3)),
        posedirs=jnp.zeros((GNM_VERTICES, 3, 0)),
        J_regressor=jnp.concatenate([other.J_regressor, jnp.zeros((5, count))], axis=1),
        weights=jnp.asarray(middle(other.weights)),
        faces=jnp.asarray(np.concatenate([kept, *more]), jnp.int32),
        masks=masks,
    )
    arrays, text = gnm_arrays(big)
    arrays["expression_basis"] = arrays["expression_basis"][:383]
    return arrays, text


def main() -> None:
    """``python -m tests.n2f_jax.other_head gnm FOLDER``, or ``flame FOLDER``: such a file, to try commands with."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    open_head = flame_jax.load_open_head()
    if kind == "gnm":
        arrays, text = gnm_of_true_size(open_head)
        np.savez(folder / "gnm_head.npz", **arrays)
        (folder / "head_sparse_68.txt").write_text(text, encoding="utf-8")
    else:
        np.savez(folder / "head.npz", **flame_arrays(other_head(open_head, 300, 100)))


if __name__ == "__main__":
    main()
