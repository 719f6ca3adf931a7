"""The free head model as it is stored: its arrays, and what its parameters do to the mesh."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from open_head import checks
from open_head.posing import pose_heads
from open_head.preview import View, visible_faces

from flame_jax.loading import OPEN_HEAD_PATH
from flame_jax.model import JOINT_NAMES

pytestmark = pytest.mark.medium

FLIP = np.array([-1.0, 1.0, 1.0])
KEYS = {
    "v_template", "shapedirs", "num_shape", "posedirs", "J_regressor", "kintree_table", "weights", "f",
    "l_eyelid", "r_eyelid", "vt", "ft", "static_lmk_faces_idx", "static_lmk_bary_coords",
    "dynamic_lmk_faces_idx",
    "dynamic_lmk_bary_coords", "full_lmk_faces_idx", "full_lmk_bary_coords", "name", "version", "license",
}  # fmt: skip
REGIONS = {
    "face", "eyes", "nose", "mouth", "left_ear", "right_ear", "neck", "scalp", "eyeballs", "teeth", "tongue",
    "left_eyeball", "right_eyeball",
}  # fmt: skip


@pytest.fixture(scope="module")
def arrays():
    with np.load(OPEN_HEAD_PATH, allow_pickle=False) as stored:
        return {key: stored[key] for key in stored.files}


@pytest.fixture(scope="module")
def parts(open_head):
    return checks.HeadParts.from_model(open_head)


def test_file_is_complete_finite_and_small(arrays):
    assert set(arrays) >= KEYS | {f"mask_{region}" for region in REGIONS}
    vertices, faces = len(arrays["v_template"]), len(arrays["f"])
    assert arrays["shapedirs"].shape == (vertices, 3, 400)
    assert int(arrays["num_shape"]) == 300
    assert arrays["J_regressor"].shape == (5, vertices)
    assert arrays["weights"].shape == (vertices, 5)
    assert arrays["ft"].shape == (faces, 3)
    assert all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f")
    assert arrays["f"].max() == vertices - 1
    assert arrays["ft"].max() == len(arrays["vt"]) - 1
    assert arrays["vt"].min() >= 0 and arrays["vt"].max() <= 1
    assert OPEN_HEAD_PATH.stat().st_size <= 16e6


def test_weights_and_joints_are_convex(arrays):
    np.testing.assert_allclose(arrays["weights"].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(arrays["J_regressor"].sum(axis=1), 1, atol=1e-6)
    assert arrays["weights"].min() > -1e-6 and arrays["J_regressor"].min() >= 0
    assert (arrays["J_regressor"] > 0).sum() < 300


def test_template_basis_and_eyelids_are_mirror_symmetric(arrays):
    mirror = arrays["mirror"]
    template = arrays["v_template"]
    np.testing.assert_allclose(template[mirror] * FLIP, template, atol=1e-6)
    np.testing.assert_allclose(arrays["l_eyelid"][mirror] * FLIP, arrays["r_eyelid"], atol=1e-6)
    assert {frozenset(f) for f in mirror[arrays["f"]].tolist()} == {
        frozenset(f) for f in arrays["f"].tolist()
    }
    basis = arrays["shapedirs"].astype(np.float32)
    image = basis[mirror] * FLIP.astype(np.float32)[:, None]
    scale = np.abs(basis).max(axis=(0, 1))
    off = np.minimum(np.abs(image - basis).max(axis=(0, 1)), np.abs(image + basis).max(axis=(0, 1)))
    # Each direction is symmetric or antisymmetric, up to half precision.
    assert (off < 2e-3 * scale).all()


def test_triangles_face_outwards(open_head, parts):
    vertices = np.asarray(open_head.v_template)
    for yaw in (0.0, 1.0, 2.0, 3.0, -1.0, -2.0):
        # From above, where nobody looks into the open neck.
        view = dataclasses.replace(checks.FRONT, yaw=yaw, pitch=0.7)
        seen = visible_faces(vertices, parts.faces, view, cull=False)
        front = visible_faces(vertices, parts.faces, view, cull=True)
        assert (seen != front).mean() < 0.002


def test_masks_are_consistent(arrays):
    mirror = arrays["mirror"]
    for region in REGIONS:
        index = arrays[f"mask_{region}"]
        assert len(index) > 20 and len(np.unique(index)) == len(index), region
        swap = {"left": "right", "right": "left"}.get(region.split("_")[0])
        other = arrays[f"mask_{swap}_{region.split('_')[1]}"] if swap else index
        assert set(mirror[index]) == set(other), region
    outside = ["face", "left_ear", "right_ear", "neck", "scalp", "eyeballs", "teeth", "tongue"]
    together = np.concatenate([arrays[f"mask_{region}"] for region in outside])
    assert sorted(together) == list(range(len(arrays["v_template"])))
    for region in ("eyes", "nose", "mouth"):
        assert set(arrays[f"mask_{region}"]) <= set(arrays["mask_face"])
    left = arrays["v_template"][arrays["mask_left_ear"]]
    assert (left[:, 0] > 0).all()


def test_frame_and_size_are_a_heads(open_head, arrays):
    joints = np.asarray(open_head.J_regressor) @ np.asarray(open_head.v_template)
    jaw, left, right = (joints[JOINT_NAMES.index(name)] for name in ("jaw", "left_eye", "right_eye"))
    assert left[0] > 0.025 and right[0] < -0.025  # x to the subject's left
    assert jaw[1] < left[1] and jaw[2] < left[2]  # the hinge lies below and behind the eyes
    nose = arrays["v_template"][arrays["mask_nose"]]
    assert nose[:, 2].max() > left[2] + 0.02
    skull = arrays["v_template"][np.r_[arrays["mask_scalp"], arrays["mask_face"]]]
    assert 0.14 < np.ptp(skull[:, 0]) < 0.18


def test_joints_follow_shape(open_head):
    """A jaw pivot that stayed behind would tear the mouth of a large head."""
    regressor = np.asarray(open_head.J_regressor)
    shapedirs = np.asarray(open_head.shapedirs, np.float32)[..., :5]
    eyeball = np.asarray(open_head.masks["left_eyeball"])
    moved = np.einsum("v,vcs->cs", regressor[JOINT_NAMES.index("left_eye")], shapedirs)
    np.testing.assert_allclose(moved, shapedirs[eyeball].mean(axis=0), atol=2e-5)
    assert np.abs(np.einsum("v,vcs->cs", regressor[JOINT_NAMES.index("jaw")], shapedirs)).max() > 1e-3


def test_eyelids_close_the_eyes_each_its_own(open_head, parts):
    lids = np.array([[0, 0], [1, 1], [1, 0], [-0.3, -0.3]], np.float32)
    opened, closed, left_closed, wide = pose_heads(open_head, eyelids=lids)
    assert checks.visible_pixels(opened, parts, parts.eyeballs, checks.FRONT) > 200
    assert checks.open_lid_share(opened, closed, parts) < 0.01
    assert checks.open_lid_share(opened, wide, parts) > 1.1
    left = np.isin(parts.faces, np.asarray(open_head.masks["left_eyeball"])).all(axis=1)
    assert checks.visible_pixels(left_closed, parts, left, checks.FRONT) <= 2
    assert checks.visible_pixels(left_closed, parts, parts.eyeballs, checks.FRONT) > 100


def test_jaw_opens_the_mouth(open_head, parts):
    jaw = np.zeros((4, 3))
    jaw[:, 0] = np.deg2rad([0, 8, 16, 24])
    inside = parts.mouth_parts | parts.cavity
    shown = [
        checks.visible_pixels(head, parts, inside, checks.FRONT) for head in pose_heads(open_head, jaw=jaw)
    ]
    assert shown[0] < 30
    assert np.all(np.diff(shown) > 150)


def test_random_heads_have_few_defects(open_head):
    report = checks.defect_report(open_head, 12)
    assert report["teeth_through"] == 0
    assert report["inside_out"] == 0.0
    assert report["lids_open_2"] <= 1 / 12
    assert report["lids_open_mean"] < 0.01


def test_checks_see_planted_defects(open_head, parts):
    """The checks above mean something only if they find what they look for."""
    (head,) = pose_heads(open_head)
    teeth = head.copy()
    teeth[np.asarray(open_head.masks["teeth"])] += [0.0, 0.0, 0.025]
    assert checks.mouth_through_skin(head, parts, checks.FRONT) == 0
    assert checks.mouth_through_skin(teeth, parts, checks.FRONT) > 100
    folded = head.copy()
    folded[np.asarray(open_head.masks["nose"])] -= [0.0, 0.0, 0.05]
    assert checks.inside_out_share(head, parts, checks.FRONT) < 1e-3
    assert checks.inside_out_share(folded, parts, checks.FRONT) > 0.002


def test_pictures_show_the_nearest_triangle():
    """Two parallel squares: the nearer one hides the other, and only from its front."""
    square = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], float)
    vertices = np.concatenate([square, square + np.array([0, 0, 1])])
    faces = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    seen = visible_faces(vertices, faces, View((0, 0, 0), 4.0, 40))
    assert set(np.unique(seen)) == {-1, 2, 3}
    assert (seen >= 0).sum() == 20 * 20
    assert (visible_faces(vertices, faces, View((0, 0, 0), 4.0, 40, yaw=np.pi)) == -1).all()


def test_the_first_direction_alone_changes_the_heads_size(open_head, arrays):
    """Others leave the skull's and the face's root mean square distance from their middle as it is."""
    basis = arrays["shapedirs"][..., :300].astype(np.float64)
    template = arrays["v_template"].astype(np.float64)
    hidden = ("eyeballs", "teeth", "tongue")
    skin = np.setdiff1d(np.arange(len(template)), np.concatenate([arrays[f"mask_{name}"] for name in hidden]))
    # The neck's hem lies below; the limit is the builder's, taken on the generator's mean.
    from open_head.build import _SKULL_BELOW

    upper = skin[template[skin, 1] > _SKULL_BELOW]
    centred = template[upper] - template[upper].mean(axis=0)
    size = np.einsum("vc,vck->k", centred, basis[upper] - basis[upper].mean(axis=0)) / (centred**2).sum()
    assert 0.03 < size[0] < 0.06
    assert np.abs(size[1:]).max() < 0.1 * size[0]
    assert np.all(np.diff(arrays["shape_rms"][1:]) <= 1e-9)
