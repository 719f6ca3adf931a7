"""Masks told by normals: of heads that the network was not trained on, at any size, and what no file of it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.data.sampler import SyntheticConfig, held_out_key, make_batch
from n2f_jax.models.face_mask import SIZE, FaceMaskNetwork, predict_masks, read_face_mask
from n2f_jax.models.pretrained import PretrainedError
from n2f_jax.render import HeadTopology


@pytest.fixture(scope="module")
def heads(open_head):
    """Normals that nobody segmented, and their masks."""
    topology = HeadTopology.from_model(open_head)
    hidden = {"hair_share": 0.5, "occluder_share": 0.5}
    draw = lambda **more: jax.jit(  # noqa: E731
        lambda key: make_batch(
            key, open_head, topology, SyntheticConfig(image_size=SIZE, **hidden, **more), 12
        )
    )(held_out_key(7, 0))
    return np.asarray(draw(unmasked_share=1.0)["normals"]), np.asarray(draw()["mask"])


def overlaps(found, masks):
    found, masks = np.asarray(found) > 0.5, masks > 0.5
    return (found & masks).sum(axis=(1, 2)) / (found | masks).sum(axis=(1, 2))


def test_masks_of_heads_before_anything(heads):
    normals, masks = heads
    # The whole picture has normals, so that no length gives the face away.
    assert (np.linalg.norm(normals, axis=-1) > 0.5).mean() > masks.mean() + 0.1
    found = overlaps(predict_masks(normals), masks)
    assert np.median(found) > 0.94 and found.min() > 0.8, found


def test_masks_of_larger_maps_are_the_same(heads):
    normals, masks = heads
    large = normals.repeat(2, axis=1).repeat(2, axis=2)
    found = predict_masks(large)
    assert found.shape == (12, 2 * SIZE, 2 * SIZE) and set(np.unique(found)) == {0.0, 1.0}
    assert np.median(overlaps(found, masks.repeat(2, axis=1).repeat(2, axis=2))) > 0.94


def test_where_there_is_no_surface_there_is_no_face(heads):
    normals = heads[0].copy()
    normals[:, 40:80] = 0.0
    assert not np.asarray(predict_masks(normals))[:, 40:80].any()
    assert not np.asarray(predict_masks(jnp.zeros((1, SIZE, SIZE, 3)))).any()


def test_another_file_is_refused(tmp_path):
    with pytest.raises(PretrainedError, match="is missing"):
        read_face_mask(tmp_path / "none.safetensors")
    from safetensors.numpy import save_file

    save_file({"enter/kernel": np.zeros((3, 3, 16, 16), np.float32)}, tmp_path / "one.safetensors")
    with pytest.raises(PretrainedError, match="does not hold the weights"):
        read_face_mask(tmp_path / "one.safetensors")
    assert isinstance(read_face_mask(), FaceMaskNetwork)
