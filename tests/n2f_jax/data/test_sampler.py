"""The sampler against the paper's table, and the batch against its own camera."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import HeadModel
from flame_jax.rotations import matrix_to_euler, rotation_6d_to_matrix
from n2f_jax.data import sampler
from n2f_jax.data.sampler import SyntheticConfig, sample_params
from n2f_jax.geometry.camera import frontal_rotation, project
from n2f_jax.geometry.crop import Crop
from n2f_jax.render import HeadTopology, render_head

pytestmark = pytest.mark.medium

PAPER = SyntheticConfig()
NUM = 4000


@pytest.fixture(scope="module")
def samples(open_head):
    """4000 heads and cameras of the paper's sampler, without drawing them."""

    @jax.jit
    def draw(key):
        keys = sampler.sample_keys(key, NUM)
        of_params, of_camera = jax.vmap(jax.random.split, out_axes=1)(keys)
        params = jax.vmap(lambda k: sampler.sample_params(k, open_head, PAPER))(of_params)
        camera = jax.vmap(lambda k: sampler.sample_camera(k, PAPER))(of_camera)
        return params, camera

    return jax.tree.map(np.asarray, draw(jax.random.key(0)))


@pytest.fixture(scope="module")
def topology(open_head):
    return HeadTopology.from_model(open_head)


def _check_normal(values, mean, std):
    """Mean and deviation of a Gaussian sample within five standard errors."""
    values = np.asarray(values, np.float64)
    assert abs(values.mean() - mean) < 5 * std / np.sqrt(values.size)
    assert abs(values.std() / std - 1) < 5 / np.sqrt(2 * values.size)


def test_flame_parameters_follow_the_table(samples):
    params, _ = samples
    _check_normal(params.shape, 0.0, 1.0)  # the open head's; FLAME's are below
    _check_normal(params.expression, 0.0, 1.0)
    _check_normal(params.eyelids, 0.0, 0.3)
    jaw = np.degrees(matrix_to_euler(rotation_6d_to_matrix(jnp.asarray(params.jaw))))
    for axis, std in enumerate((15.0, 5.0, 5.0)):
        _check_normal(jaw[:, axis], 0.0, std)
    # Independent of each other: no correlation beyond chance among coefficients, or between the lids.
    correlation = np.corrcoef(params.shape[:, :20].T) - np.eye(20)
    assert np.abs(correlation).max() < 5 / np.sqrt(NUM)
    assert abs(np.corrcoef(params.eyelids.T)[0, 1]) < 5 / np.sqrt(NUM)


def test_flames_coefficients_have_the_papers_spread(open_head):
    """A model that does not say how its coefficients vary is FLAME; a number in the config goes before."""
    flame = dataclasses.replace(
        open_head, shape_std=HeadModel.shape_std, expression_std=HeadModel.expression_std
    )
    assert (PAPER.shape_std(flame), PAPER.expression_std(flame)) == (0.8, 0.5)
    assert (PAPER.shape_std(open_head), PAPER.expression_std(open_head)) == (1.0, 1.0)
    given = dataclasses.replace(PAPER, beta_std=0.3, psi_std=0.2)
    assert (given.shape_std(flame), given.expression_std(open_head)) == (0.3, 0.2)
    params = sample_params(jax.random.key(0), flame, PAPER)
    _check_normal(np.asarray(params.shape), 0.0, 0.8)


def test_cameras_follow_the_table(samples):
    _, camera = samples
    phi = np.degrees(matrix_to_euler(frontal_rotation(jnp.asarray(camera.rotation))))
    for axis, std in enumerate((15.0, 20.0, 10.0)):
        _check_normal(phi[:, axis], 0.0, std)
    _check_normal(camera.translation[:, :2], 0.0, 0.02)
    _check_normal(camera.focal / PAPER.s_orig, 1.2, 0.2)
    _check_normal(camera.principal_point / PAPER.s_orig, 0.5, 0.02)
    depth = camera.translation[:, 2]
    assert depth.min() >= 0.4 and depth.max() <= 1.6
    # A Gaussian cut at three deviations keeps 98.66 % of its deviation.
    _check_normal(depth, 1.0, 0.2 * 0.9866)


def test_truncation_reaches_the_bounds_of_a_wide_distribution():
    config = dataclasses.replace(PAPER, t_z_std=2.0)
    keys = sampler.sample_keys(jax.random.key(3), 2000)
    depth = jax.jit(jax.vmap(lambda k: sampler.sample_camera(k, config).translation[2]))(keys)
    assert 0.4 <= float(depth.min()) < 0.41
    assert 1.59 < float(depth.max()) <= 1.6


def test_closed_eyes_mix():
    config = dataclasses.replace(PAPER, closed_eyes_share=0.25)
    model = flame_jax.load_open_head()
    keys = sampler.sample_keys(jax.random.key(1), 4000)
    lids = np.asarray(jax.jit(jax.vmap(lambda k: sampler.sample_params(k, model, config).eyelids))(keys))
    together = lids[:, 0] == lids[:, 1]
    assert abs(together.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)
    assert lids[together].min() >= 0.0 and lids[together].max() <= 1.1
    _check_normal(lids[~together], 0.0, 0.3)


@pytest.fixture(scope="module")
def drawn(open_head, topology):
    """A paper batch at 64 pixels with targets, and the function that draws it."""
    config = dataclasses.replace(PAPER, image_size=64)
    make = jax.jit(lambda key, model, topo: sampler.make_batch(key, model, topo, config, 6, targets=True))
    return config, make, make(jax.random.key(5), open_head, topology)


def test_landmarks_fill_the_crop(drawn):
    """The box of the static landmarks is centred and its longer side is size/α."""
    config, _, batch = drawn
    landmarks = np.asarray(batch["landmarks_2d"])
    low, high = landmarks.min(axis=1), landmarks.max(axis=1)
    np.testing.assert_allclose((low + high) / 2, config.image_size / 2, atol=1e-2)
    np.testing.assert_allclose((high - low).max(axis=1), config.image_size / config.crop_scale, rtol=1e-3)


def test_the_crop_camera_projects_the_head_where_the_crop_shows_it(drawn, open_head):
    _, _, batch = drawn
    vertices, _ = flame_jax.decode(open_head, batch["params"])
    points = project(flame_jax.landmarks68(open_head, vertices), batch["camera"])
    np.testing.assert_allclose(points, batch["landmarks_2d"], atol=2e-2)


def test_maps_are_unit_normals_inside_the_mask(drawn):
    _, _, batch = drawn
    normals, mask = np.asarray(batch["normals"]), np.asarray(batch["mask"])
    assert set(np.unique(mask)) == {0.0, 1.0}
    length = np.linalg.norm(normals, axis=-1)
    np.testing.assert_allclose(length[mask == 1], 1.0, atol=1e-4)
    assert not normals[mask == 0].any()
    # The face is most of the crop, and looks at the camera.
    assert 0.2 < mask.mean() < 0.8
    assert normals[mask == 1][:, 2].mean() > 0.5


def test_input_is_the_full_render_in_the_papers_config(drawn, open_head, topology):
    config, _, batch = drawn
    np.testing.assert_array_equal(batch["normals"], batch["target_normals"])
    vertices, _ = flame_jax.decode(open_head, batch["params"])
    one = jax.tree.map(lambda x: x[2], batch["camera"])
    maps = jax.jit(lambda v, c, t: render_head(t, v, c, config.image_size))(vertices[2], one, topology)
    differs = np.abs(np.asarray(maps.normals - batch["normals"][2])).max(axis=-1) > 1e-3
    assert differs.mean() < 0.002  # a pixel on an edge may fall to either side


def test_a_batch_is_its_keys(drawn, open_head, topology):
    """The same key gives the same bits, another key other heads."""
    _, make, batch = drawn
    again = make(jax.random.key(5), open_head, topology)
    for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(again), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    other = make(jax.random.key(6), open_head, topology)
    assert not np.allclose(other["params"].shape, batch["params"].shape)


def test_a_sample_does_not_depend_on_the_batch_size(open_head):
    few = sampler.sample_keys(jax.random.key(2), 3)
    many = sampler.sample_keys(jax.random.key(2), 8)
    np.testing.assert_array_equal(jax.random.key_data(few), jax.random.key_data(many[:3]))


def test_jitter_moves_the_crop_by_what_it_says():
    config = dataclasses.replace(PAPER, crop_centre_jitter=0.05, crop_scale_jitter=0.1)
    crop = Crop(x0y0=jnp.asarray([100.0, 200.0]), side=jnp.asarray(80.0))
    keys = sampler.sample_keys(jax.random.key(4), 4000)
    moved = jax.jit(jax.vmap(lambda k: sampler.jitter_crop(k, crop, config)))(keys)
    centre = np.asarray(moved.x0y0 + 0.5 * moved.side[:, None])
    _check_normal(centre[:, 0], 140.0, 0.05 * 80)
    _check_normal(centre[:, 1], 240.0, 0.05 * 80)
    _check_normal(np.log(np.asarray(moved.side) / 80.0), 0.0, 0.1)
    assert sampler.jitter_crop(keys[0], crop, PAPER) is crop


def test_front_end_samples_come_first_and_are_the_coarse_mesh(open_head, topology):
    from n2f_jax.face_mesh.coarse_mesh import coarse_maps, load_coarse_mesh

    mesh = jax.tree.map(jnp.asarray, load_coarse_mesh())
    config = dataclasses.replace(PAPER, image_size=48, front_end_share=0.5)

    @jax.jit
    def draw(key, model, topo, mesh):
        batch = sampler.make_batch(key, model, topo, config, 4, coarse_mesh=mesh, targets=True)
        vertices, _ = flame_jax.decode(model, batch["params"])
        points = jax.vmap(lambda v, c: sampler.coarse_points(mesh, model, v, c))(vertices, batch["camera"])
        # What one of two devices draws: its share of the front end's samples, then of the others.
        odd = jnp.asarray([1, 3], jnp.int32)
        part = sampler.make_batch(key, model, topo, config, 2, coarse_mesh=mesh, targets=True, indices=odd)
        return batch, points, jax.vmap(lambda p: coarse_maps(p, 48, mesh))(points), part

    batch, points, (normals, mask), part = draw(jax.random.key(8), open_head, topology, mesh)
    assert config.num_front_end(4) == 2
    same = np.abs(np.asarray(batch["normals"][:2] - normals[:2])).max(axis=-1) < 1e-3
    assert same.mean() > 0.995
    np.testing.assert_array_equal(batch["normals"][2:], batch["target_normals"][2:])
    for name in ("normals", "target_normals"):
        differs = np.abs(np.asarray(part[name] - batch[name][1::2])).max(axis=-1) > 1e-3
        assert differs.mean() < 0.005, name
    # It covers the face that the full render shows, and shows normals near to its.
    both = np.asarray(mask * batch["target_mask"]) > 0
    assert both.sum() > 0.8 * np.asarray(mask).sum()
    cosine = np.sum(np.asarray(normals * batch["target_normals"]), axis=-1)[both]
    assert np.median(cosine) > 0.95
    # Depth: a point 1 cm nearer than the mean has z = −1 cm·f/t_z pixels; the nose tip (4) is
    # nearer than most, also where the head is turned or pitched.
    depth = np.asarray(points[..., 2])
    np.testing.assert_allclose(depth.mean(axis=1), 0.0, atol=0.05)
    assert (depth[:, 4] < np.quantile(depth, 0.3, axis=1)).all()


def test_front_end_samples_need_the_mesh(open_head, topology):
    config = dataclasses.replace(PAPER, image_size=32, front_end_share=0.5)
    with pytest.raises(ValueError, match=r"front_end_share = 0\.5"):
        sampler.make_batch(jax.random.key(0), open_head, topology, config, 4)
