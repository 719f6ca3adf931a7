"""The correction on the surface: places decoded as the head model decodes them, what is read there, what it changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import flame_jax
from n2f_jax.data.assets import Assets
from n2f_jax.data.sampler import SyntheticConfig, coarse_points, make_batch, network_inputs
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.face_mesh.embedding import places_of_correction
from n2f_jax.fitting.head_tables import HeadTables
from n2f_jax.fitting.prior import AnswerModel
from n2f_jax.models.calibration import to_unknowns
from n2f_jax.models.correction import CorrectionConfig, Scene
from n2f_jax.models.n2fnet import N2FNet, camera_from_output, n2fnet_config
from n2f_jax.models.pretrained import InputSpec, from_pretrained, save_pretrained
from n2f_jax.models.surface import (
    SurfacePlaces,
    decode_places,
    normals_of_places,
    observed_points,
    read_maps,
    residuals_at_places,
)
from n2f_jax.reconstruction.reconstructor import Reconstructor
from n2f_jax.render import HeadTopology, vertex_normals
from n2f_jax.training.calibrating import collect_answers

SIZE, COUNT = 64, 4
SMALL = CorrectionConfig(passes=2, num_normals=24, num_points=16, width=32, blocks=1)
CONFIG = SyntheticConfig(image_size=SIZE, front_end_share=0.5, point_errors="v1+v2", point_share=0.5)


@pytest.fixture(scope="module")
def model():
    return flame_jax.load_open_head()


@pytest.fixture(scope="module")
def places(model):
    return places_of_correction(model, SMALL)


@pytest.fixture(scope="module")
def batch(model):
    mesh = jax.tree.map(jnp.asarray, load_coarse_mesh())
    make = jax.jit(lambda key, *x: make_batch(key, *x[:2], CONFIG, 8, coarse_mesh=x[2]))
    return make(jax.random.key(1), model, HeadTopology.from_model(model), mesh)


@pytest.fixture(scope="module")
def network():
    config = n2fnet_config("tiny", width=64, depth=1, num_heads=1, mlp_width=64, input_size=SIZE)
    return N2FNet(dataclasses.replace(config, correction=SMALL), rngs=nnx.Rngs(0))


def moved(network):
    """The network as if trained: an untrained correction changes nothing."""
    graph, state = nnx.split(network)
    return nnx.merge(
        graph, jax.tree.map(lambda x: x + 0.01 if jnp.issubdtype(x.dtype, jnp.floating) else x, state)
    )


@pytest.fixture(scope="module")
def saved(network, model, tmp_path_factory):
    """The moved network from a checkpoint."""
    folder = tmp_path_factory.mktemp("correction")
    inputs = InputSpec(SIZE, 1.4)
    save_pretrained(folder, moved(network), network.config, head_model=model, inputs=inputs)
    return from_pretrained(folder, model)


@pytest.fixture(scope="module")
def answer(network, batch, places):
    """A network's output for the batch's maps and any scene; compiled once for all networks."""
    graph, _ = nnx.split(network)
    call = jax.jit(lambda state, scene: nnx.merge(graph, state)(*network_inputs(batch, CONFIG), scene))
    return lambda network, scene=None: call(nnx.split(network)[1], scene)


@pytest.fixture(scope="module")
def scene(batch, places):
    camera = batch["camera"]
    return Scene.of_crops(places, camera.focal, camera.principal_point, batch["points"])


def test_places_lie_where_the_head_model_puts_them(model, places, batch):
    vertices, _ = flame_jax.decode(model, batch["params"])
    own = decode_places(places, to_unknowns(batch["params"]))
    template = np.asarray(model.v_template)
    index = np.array(
        [np.flatnonzero((template == place).all(axis=1))[0] for place in np.asarray(places.template)]
    )
    np.testing.assert_allclose(own, np.asarray(vertices)[:, index], atol=1e-6)
    normals = np.asarray(vertex_normals(vertices[0], model.faces))[index[np.asarray(places.centres)]]
    np.testing.assert_allclose(normals_of_places(places, own)[0], normals, atol=1e-5)


def test_places_are_spread_over_the_visible_face(model, places):
    centres = np.asarray(places.template)[np.asarray(places.centres)]
    apart = np.linalg.norm(centres[:, None] - centres, axis=-1) + np.eye(len(centres))
    assert apart.min() > 0.01, "two places within a centimetre"
    face = np.asarray(model.v_template)[np.asarray(model.masks["face"])]
    assert np.linalg.norm(face[:, None] - centres, axis=-1).min(axis=1).mean() < 0.025
    with pytest.raises(ValueError, match="9000 places are asked for and there are"):
        SurfacePlaces.of_model(model, 9000, 4)


def test_maps_are_read_between_pixel_centres():
    ramp = jnp.broadcast_to(jnp.arange(8.0) + 0.5, (8, 8))
    maps = jnp.stack([ramp, ramp.T], axis=-1)[None]
    pixels = jnp.asarray([[[2.5, 3.5], [2.75, 3.25], [0.5, 7.5], [-3.0, 2.0], [9.0, 2.0], [jnp.nan, 1.0]]])
    read = np.asarray(read_maps(maps, pixels))[0]
    np.testing.assert_allclose(read[:3], [[2.5, 3.5], [2.75, 3.25], [0.5, 7.5]], atol=1e-6)
    assert not read[3:].any(), "what lies outside reads as nothing"


def test_a_head_that_is_right_leaves_nothing(model, places, batch):
    """Points of the true head give no residual; a head moved by 2 mm gives 2 mm, in the head's axes."""
    mesh = load_coarse_mesh()
    vertices, _ = flame_jax.decode(model, batch["params"])
    points = jax.vmap(lambda v, c: coarse_points(mesh, model, v, c))(vertices, batch["camera"])
    own = decode_places(places, to_unknowns(batch["params"]))
    seen = observed_points(places, points.at[0].set(jnp.nan))
    inputs = batch["camera"], *network_inputs(batch, CONFIG), *seen
    right = residuals_at_places(places, own, *inputs)
    # Depth is told from the mean of these few points, and that of the 468 is another by perspective.
    assert np.abs(right.points).max() < 2e-3 and not np.any(right.known[0]) and np.all(right.known[1:])
    # Renders, not the front end's maps: seen places mostly show their normal.
    off = np.linalg.norm(right.normals[4:], axis=-1)[np.asarray(right.seen[4:]) > 0.5]
    assert np.median(off) < 0.1
    moved = residuals_at_places(places, own + jnp.asarray([0.002, 0.0, 0.0])[None, None], *inputs)
    change = np.asarray(moved.points - right.points)[1:].mean(axis=(0, 1))
    np.testing.assert_allclose(change, [-0.002, 0.0, 0.0], atol=3e-4)


def test_untrained_it_changes_no_head_and_puts_the_camera_on_the_points(network, batch, answer, scene):
    camera = batch["camera"]
    plain, corrected = answer(network), answer(network, scene)
    assert plain.earlier == () and len(corrected.earlier) == SMALL.passes
    np.testing.assert_allclose(corrected.shape, plain.shape, atol=1e-6)
    np.testing.assert_allclose(corrected.jaw, plain.jaw, atol=1e-5)
    known = np.isfinite(np.asarray(batch["points"])).all(axis=(1, 2))
    assert known[:4].all() and 0 < known[4:].sum() < 4
    before, after = (
        camera_from_output(one, camera.focal, camera.principal_point, SIZE).translation
        for one in (plain, corrected)
    )
    shifted = np.linalg.norm(np.asarray(after - before), axis=-1) > 1e-4
    np.testing.assert_array_equal(shifted, known)


def test_samples_lose_maps_or_points_and_never_both(model, batch):
    """The rest of each sample stays; as blank maps count only those of samples whose points are known."""
    mesh = jax.tree.map(jnp.asarray, load_coarse_mesh())
    config = dataclasses.replace(CONFIG, drop_maps=0.5, drop_points=0.5)
    make = jax.jit(lambda key, *x: make_batch(key, *x[:2], config, 8, coarse_mesh=x[2]))
    dropped = jax.device_get(make(jax.random.key(1), model, HeadTopology.from_model(model), mesh))
    blank = dropped["mask"].max(axis=(1, 2)) == 0
    lost = np.isnan(dropped["points"]).any(axis=(1, 2)) & np.isfinite(batch["points"]).all(axis=(1, 2))
    assert blank.any() and lost[:4].any() and not lost[4:].any() and not (blank & lost).any()
    assert np.isfinite(dropped["points"][blank]).all() and (dropped["normals"][blank] == 0).all()
    np.testing.assert_allclose(dropped["normals"][~blank], np.asarray(batch["normals"])[~blank], atol=1e-6)
    with pytest.raises(ValueError, match="set point_share above 0"):
        SyntheticConfig(drop_maps=0.1)


def test_gradients_are_finite_and_reach_the_backbone(network, batch, scene):
    graph, state = nnx.split(moved(network))

    @jax.jit
    @jax.grad
    def gradient(state):
        answer = nnx.merge(graph, state)(*network_inputs(batch, CONFIG), scene)
        return jnp.sum(answer.shape**2)

    found = gradient(state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(found["backbone"]))


def test_a_checkpoint_keeps_its_correction(network, saved, answer, scene):
    assert saved.config == network.config
    np.testing.assert_array_equal(answer(saved.network, scene).shape, answer(moved(network), scene).shape)


def test_a_reconstructor_takes_the_corrected_answer(saved, model, batch, answer, scene):
    """What is predicted from maps and points is the last pass's head, weighed against people."""
    reconstructor = Reconstructor(saved, model, refine=0, maps="face_mesh_v2")
    camera, nowhere = batch["camera"], jnp.full((8, 68, 2), jnp.nan)
    maps, mask = network_inputs(batch, CONFIG)
    found = reconstructor.predict(maps, mask, camera.focal, camera.principal_point, nowhere, batch["points"])
    output = answer(saved.network, scene)
    answers = AnswerModel.make(HeadTables.from_model(model))
    expected = answers.prior(output.flame_params()).heads(model.num_shape)
    own = answers.prior(output.earlier[0].flame_params()).heads(model.num_shape)
    np.testing.assert_allclose(found.params.shape, expected.shape, atol=1e-4)
    assert np.abs(found.params.shape - own.shape).max() > 1e-2


@pytest.mark.slow
def test_calibration_is_of_the_corrected_answer(saved, model, places):
    """Maps of the front end come with points there, as they do where the calibration is used."""
    mesh = jax.tree.map(jnp.asarray, load_coarse_mesh())
    assets = Assets(model, HeadTopology.from_model(model), mesh, places=places)
    corrected = collect_answers(saved, assets, "face_mesh_v2", 2, batch_size=2)
    plain = collect_answers(saved, dataclasses.replace(assets, places=None), "face_mesh_v2", 2, batch_size=2)
    np.testing.assert_array_equal(corrected.truths, plain.truths)
    assert np.abs(corrected.answers - plain.answers).max() > 1e-2
