"""Refinement from the network's answer: better than it, in photographs and in folders of stored faces."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.data.preprocessed import StoredFace, read_face
from n2f_jax.data.pseudo_truth import read_truth, truth_path
from n2f_jax.data.sampler import SyntheticConfig, make_batch
from n2f_jax.fitting.gauss_newton import gauss_newton_steps
from n2f_jax.geometry.camera import intrinsics_matrix
from n2f_jax.models.pretrained import HeadModelIdentity
from n2f_jax.preprocessing.fit_folder import fit_folder
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.render import HeadTopology

from ..data.stored import write_folder
from .conftest import BATCH, CROP_SCALE, SIZE

pytestmark = pytest.mark.medium

STORED = 40  # pixels; what the network is shown lies within


@pytest.fixture(scope="module")
def faces(open_head):
    """Four heads as stored, the last without landmarks."""
    config = SyntheticConfig(image_size=STORED, crop_scale=CROP_SCALE * STORED / SIZE)
    make = jax.jit(make_batch, static_argnums=(3, 4))
    batch = jax.device_get(make(jax.random.key(1), open_head, HeadTopology.from_model(open_head), config, 4))
    intrinsics = np.asarray(intrinsics_matrix(batch["camera"]), np.float64)
    stored = [
        StoredFace(
            normals=batch["normals"][i],
            mask=batch["mask"][i],
            crop=np.array([10.0, 20.0, 400.0]),
            landmarks_68=batch["landmarks_2d"][i],
            intrinsics=intrinsics[i],
            focal_source="given",
            image_size=(500, 500),
            source=f"{i}.png",
        )
        for i in range(4)
    ]
    stored[3] = dataclasses.replace(stored[3], landmarks_68=np.full((68, 2), np.nan, np.float32))
    return stored


@pytest.fixture(scope="module")
def refining(checkpoint, open_head):
    return Reconstructor.from_pretrained(checkpoint, open_head, None, refine=2, batch_size=BATCH)


def test_a_folder_gets_its_pseudo_truth(refining, checkpoint, open_head, faces, tmp_path):
    keys = {f"images/{i}.png": [face] for i, face in enumerate(faces)}
    ids = [name for (name,) in write_folder(tmp_path / "fitted", keys).values()]
    counts = fit_folder(tmp_path / "fitted", refining, progress=False)
    assert counts == {"written": 3, "no landmarks": 1}
    write_folder(tmp_path / "network", keys)
    plain = Reconstructor.from_pretrained(checkpoint, open_head, None, refine=0, batch_size=BATCH)
    fit_folder(tmp_path / "network", plain, progress=False)
    for name, face in zip(ids[:3], faces, strict=False):
        fitted, network = (read_truth(truth_path(tmp_path / part, name)) for part in ("fitted", "network"))
        assert not HeadModelIdentity.of(open_head).differences(fitted.head_model)
        assert fitted.method == "untrained, 2 Gauss–Newton steps"
        np.testing.assert_allclose(fitted.intrinsics, face.intrinsics, rtol=1e-6)
        for error in ("landmarks_px", "normals_deg"):
            assert fitted.errors[error] < 0.8 * network.errors[error], (error, fitted.errors, network.errors)
    # Again: nothing is done twice; and each shard does its own.
    first = truth_path(tmp_path / "fitted", ids[0])
    content = first.read_bytes()
    first.unlink()
    parts = [fit_folder(tmp_path / "fitted", refining, shard=(i, 2), progress=False) for i in range(2)]
    assert sum(part["written"] for part in parts) == 1
    assert sum(part["before"] for part in parts) == 2
    assert first.read_bytes() == content
    assert read_face(first.with_name(first.name.replace(".truth.npz", ".face.zip"))).size == STORED


def test_without_points_normals_and_mask_serve(checkpoint, open_head, refining, faces):
    """A front end that gives no landmarks."""
    views = [np.zeros((BATCH, SIZE, SIZE, 3), np.float32), np.zeros((BATCH, SIZE, SIZE), np.float32)]
    for i, face in enumerate(faces[:BATCH]):
        views[0][i], views[1][i] = face.normals[4:36, 4:36], face.mask[4:36, 4:36]
    focal = jnp.asarray([face.intrinsics[0, 0] for face in faces[:BATCH]], jnp.float32)
    centre = jnp.asarray([face.intrinsics[:2, 2] - 4 for face in faces[:BATCH]], jnp.float32)
    # Of NumPy, so that the dtype is no weaker than in the test above, and its program serves.
    shapes = ((68, 2), (468, 3))
    nowhere = (jnp.asarray(np.full((BATCH, *shape), np.nan, np.float32)) for shape in shapes)
    result = refining.predict(*map(jnp.asarray, views), focal, centre, *nowhere)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result))
    assert float(jnp.abs(result.params.shape).max()) > 0.01


def test_wrong_use_is_refused(checkpoint, open_head, refining):
    with pytest.raises(ValueError, match="refine is at least 0"):
        Reconstructor.from_pretrained(checkpoint, open_head, None, refine=-1)
    with pytest.raises(ValueError, match="at least one step"):
        gauss_newton_steps(0)
    assert [stage.steps for stage in gauss_newton_steps(12).stages] == [4, 8]
    assert [stage.steps for stage in gauss_newton_steps(1).stages] == [1]


def test_how_many_steps_is_left_to_what_the_front_end_sees(checkpoint, open_head):
    class Named:
        name = "face_mesh"

    for frontend, steps in ((None, 12), (Named(), 2)):
        made = Reconstructor.from_pretrained(checkpoint, open_head, frontend, refine=None)
        assert made.refine == steps
