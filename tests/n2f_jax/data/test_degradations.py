"""What each degradation does to maps, measured; what none of them may do; and nothing where they are off."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from n2f_jax.data import degrade, degrade_mask, degrade_normals, sampler
from n2f_jax.data.degradation_presets import CLEAN, ESTIMATED, STRONG
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.data.waves import smooth_field
from n2f_jax.render import HeadTopology

pytestmark = pytest.mark.medium

SIZE = 48
KEYS = jax.random.split(jax.random.key(0), 64)


def _disc():
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    return (np.hypot(u - 24, v - 26) < 17).astype(np.float32)


def _sphere():
    """Planes of a sphere's normals, zero outside the disc."""
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    x, y = (u - 24) / 18, -(v - 26) / 18
    planes = np.stack([x, y, np.sqrt(np.maximum(1 - x * x - y * y, 0))]) * _disc()
    return (planes / np.maximum(np.linalg.norm(planes, axis=0), 1e-9)).astype(np.float32)


def _degrees(a, b):
    return np.degrees(2 * np.arcsin(np.clip(np.linalg.norm(np.asarray(a) - b, axis=-3) / 2, 0, 1)))


def test_blur_is_scipys_over_the_normals_that_there_are():
    sphere = _sphere()
    found = np.asarray(jax.jit(lambda p, s: degrade_normals.gaussian_blur(p, s, 2.0))(sphere, 1.5))
    blurred = np.stack([ndimage.gaussian_filter(p, 1.5, mode="constant", truncate=4.0) for p in sphere])
    blurred *= _disc() / np.maximum(np.linalg.norm(blurred, axis=0), 1e-9)
    np.testing.assert_allclose(found, blurred, atol=2e-3)
    assert _degrees(found, sphere)[_disc() > 0].max() > 1.0


def test_the_smooth_field_has_its_spread_and_is_smooth():
    fields = np.asarray(
        jax.jit(jax.vmap(lambda k: smooth_field(k, (20, 30), 2)))(jax.random.split(KEYS[0], 500))
    )
    np.testing.assert_allclose(fields.std(axis=(0, 2, 3)), 1.0, rtol=0.1)
    assert abs(fields.mean()) < 0.1
    assert np.diff(fields[..., :: 30 // 15], axis=-1).std() < 0.8


def test_noise_tilts_each_normal_by_what_it_says():
    """About two of three axes: a Rayleigh distribution, whose mean square is 2 σ²."""
    sphere = _sphere()
    keys = jax.random.split(jax.random.key(1), 400)
    turned = jax.jit(
        jax.vmap(lambda k: degrade_normals.rotate_smoothly(k, jnp.asarray(sphere), np.radians(3.0)))
    )(keys)
    angles = _degrees(turned, sphere)[:, _disc() > 0]
    assert np.sqrt((angles**2).mean()) == pytest.approx(3.0 * np.sqrt(2), rel=0.1)


@pytest.mark.parametrize("offset", [(2.0, 0.0), (0.0, -3.0), (-1.25, 0.5), (0.0, 0.0)])
def test_shift_is_scipys(offset):
    sphere = _sphere()
    found = degrade_normals.shift(jnp.asarray(sphere), jnp.asarray(offset), 3)
    expected = ndimage.shift(sphere, (0, offset[1], offset[0]), order=1, mode="constant")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_estimates_have_less_error_than_one():
    sphere = _sphere()
    settings = {"noise_deg": 4.0}

    @jax.jit
    @jax.vmap
    def both(key):
        normals = jnp.moveaxis(sphere, 0, -1)
        one = degrade.degrade_normals(key, normals, **settings)
        return one, degrade.degrade_normals(key, normals, mirror_shift=1e-4, **settings)

    one, two = (np.moveaxis(np.asarray(x), -1, 1) for x in both(jax.random.split(jax.random.key(2), 200)))
    inside = _disc() > 0
    ratio = np.sqrt(
        (_degrees(two, sphere)[:, inside] ** 2).mean() / (_degrees(one, sphere)[:, inside] ** 2).mean()
    )
    assert ratio == pytest.approx(np.sqrt(0.5), rel=0.1)


def test_eight_bits_are_a_file_read_back():
    sphere = _sphere()
    stored = np.rint((sphere + 1) / 2 * 255).astype(np.uint8)
    expected = stored.astype(np.float64) / 255 * 2 - 1
    expected *= _disc() / np.linalg.norm(expected, axis=0)
    found = degrade_normals.eight_bits(jnp.asarray(sphere))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert 0.05 < _degrees(found, sphere).max() < 0.45


def test_dilation_is_scipys():
    disc = _disc()
    for radius in (0, 1, 3):
        found = degrade_mask.dilate(jnp.asarray(disc), jnp.asarray(radius), 4)
        expected = ndimage.binary_dilation(disc, iterations=radius) if radius else disc
        np.testing.assert_array_equal(found, expected)


def test_a_mask_grows_only_over_normals_and_either_grows_or_shrinks():
    disc = jnp.asarray(_disc())
    normals = jnp.zeros((SIZE, SIZE, 3)).at[..., 2].set(1.0).at[:, 36:].set(0.0)
    disc = disc.at[:, 36:].set(0.0)
    cut = jax.vmap(lambda k: degrade.degrade_maps(k, normals, disc, mask_erosion=0.1, mask_dilation=0.1))
    new_normals, masks = map(np.asarray, jax.jit(cut)(KEYS))
    np.testing.assert_array_equal(new_normals[..., 2], masks)
    assert not masks[:, :, 36:].any()
    difference = masks - np.asarray(disc)
    grows, shrinks = (difference > 0).any(axis=(1, 2)), (difference < 0).any(axis=(1, 2))
    assert not (grows & shrinks).any()
    assert 0.25 < grows.mean() < 0.6 and 0.25 < shrinks.mean() < 0.6


@pytest.fixture(scope="module")
def cuts():
    """The disc after each cut, for 64 keys."""
    functions = (degrade_mask.hair, degrade_mask.below_a_line, degrade_mask.bar)
    made = jax.jit(lambda m: [jax.vmap(lambda k, f=f: jnp.where(f(k, m), 0.0, m))(KEYS) for f in functions])(
        _disc()
    )
    for mask in made:
        assert mask.dtype == jnp.float32 and set(np.unique(mask)) == {0.0, 1.0}
        assert (np.asarray(mask) <= _disc()).all()
    return dict(zip(("hair", "lower", "bar"), map(np.asarray, made), strict=True))


def test_hair_comes_in_from_above(cuts):
    removed = _disc() - cuts["hair"]
    assert (removed.sum(axis=(1, 2)) > 0).mean() > 0.9
    upper, lower = removed[:, :26].sum(), removed[:, 26:].sum()
    assert upper > 2 * lower
    # What is removed hangs together with what lies outside above the face: no lock begins inside.
    for mask in cuts["hair"]:
        labels, _ = ndimage.label(np.pad(1 - mask, 1, constant_values=1), np.ones((3, 3)))
        loose = (labels > 0) & (labels != labels[0, 0])
        # But for the tips of the thinnest, which a pixel's width breaks into dots.
        assert not ndimage.binary_erosion(loose).any()


def test_the_lower_face_goes_below_a_line(cuts):
    disc = _disc()
    for mask in cuts["lower"]:
        kept = mask > 0
        # In every column all that is kept lies above all that is removed.
        gone = (disc > 0) & ~kept
        rows = np.arange(SIZE)[:, None]
        assert (np.where(kept, rows, -1).max(axis=0) < np.where(gone, rows, SIZE).min(axis=0)).all()
    kept = cuts["lower"].sum(axis=(1, 2)) / disc.sum()
    assert 0.2 < kept.min() < 0.5 and 0.7 < kept.max() < 0.99


def test_a_bar_reaches_the_outside(cuts):
    for mask in cuts["bar"]:
        labels, _ = ndimage.label(np.pad(1 - mask, 1, constant_values=1), np.ones((3, 3)))
        assert ((labels > 0) == (labels == labels[0, 0])).all()
    assert ((_disc() - cuts["bar"]).sum(axis=(1, 2)) > 0).mean() > 0.8


def test_cuts_come_as_often_as_asked():
    disc = jnp.asarray(_disc())
    normals = jnp.broadcast_to(disc[..., None], (SIZE, SIZE, 3))
    keys = jax.random.split(jax.random.key(4), 400)
    cut = jax.vmap(lambda k: degrade.degrade_maps(k, normals, disc, lower_face_share=0.3)[1])
    share = (np.asarray(jax.jit(cut)(keys)) != _disc()).any(axis=(1, 2)).mean()
    assert share == pytest.approx(0.3, abs=0.08)


@pytest.fixture(scope="module")
def batches(open_head):
    """A batch with everything on, a smaller one of the same key, and the clean one, with targets."""
    topology = HeadTopology.from_model(open_head)
    config = SyntheticConfig(
        image_size=64, **(ESTIMATED | {"crop_centre_jitter": 0.0, "crop_scale_jitter": 0.0})
    )

    def draw(key, model, topo, config, num):
        return sampler.make_batch(key, model, topo, config, num, targets=True)

    jitted = jax.jit(draw, static_argnums=(3, 4))
    run = lambda config, num: jax.device_get(jitted(jax.random.key(5), open_head, topology, config, num))  # noqa: E731
    return run(config, 5), run(config, 2), run(SyntheticConfig(image_size=64), 5)


def test_degraded_inputs_stay_unit_normals_in_their_mask(batches):
    normals, mask = batches[0]["normals"], batches[0]["mask"]
    assert normals.dtype == mask.dtype == np.float32
    assert set(np.unique(mask)) == {0.0, 1.0}
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), mask, atol=1e-5)
    assert not np.array_equal(mask, batches[2]["mask"])


def test_targets_stay_clean(batches):
    """Also where the whole head was drawn to dilate into."""
    degraded, _, clean = batches
    assert (degraded["target_mask"] != clean["target_mask"]).mean() < 1e-3
    differs = np.abs(degraded["target_normals"] - clean["target_normals"]).max(axis=-1) > 1e-3
    assert differs.mean() < 1e-3
    np.testing.assert_array_equal(degraded["landmarks_2d"], clean["landmarks_2d"])


def test_a_degraded_sample_does_not_depend_on_the_batch(batches):
    many, few, _ = batches
    np.testing.assert_array_equal(many["mask"][:2], few["mask"])
    np.testing.assert_allclose(
        many["normals"][:2], few["normals"], atol=2e-2
    )  # a level of 8 bits, at most two
    assert (np.abs(many["normals"][:2] - few["normals"]) > 1e-4).mean() < 1e-3


def test_a_picture_that_nobody_segmented():
    """Its mask says nothing; the face is as it was; what hides it and what lies beside it have normals too."""
    whole = jnp.asarray(np.moveaxis(_sphere(), 0, -1))
    v, u = np.mgrid[:SIZE, :SIZE] + 0.5
    face = (np.hypot(u - 24, v - 28) < 10).astype(np.float32)
    settings = {"occluder_share": 0.5, "bar_share": 0.5, "hair_share": 0.5, "lower_face_share": 0.5}

    @functools.partial(jax.jit, static_argnames="unmasked_share")
    def cut(keys, unmasked_share=0.0):
        one = functools.partial(degrade.degrade_maps, **settings, unmasked_share=unmasked_share)
        return jax.vmap(lambda key: one(key, whole, face))(keys)

    masked_normals, masked = map(np.asarray, cut(KEYS))
    normals, mask = map(np.asarray, cut(KEYS, unmasked_share=1.0))
    assert (mask == 1.0).all()
    left = masked > 0
    np.testing.assert_array_equal(normals[left], masked_normals[left])
    gone = (face > 0) & ~left
    there = np.linalg.norm(normals, axis=-1)
    assert gone.any(axis=(1, 2)).mean() > 0.5
    np.testing.assert_allclose(there[gone], 1.0, atol=1e-5)
    # What hides the face is not cut off at its border, where no mask is to be seen.
    changed = np.abs(normals - np.asarray(whole)).max(axis=-1) > 0.05
    beyond = (np.asarray(_disc()) > 0) & (face == 0)
    assert changed[:, beyond].any(axis=1).mean() > 0.6
    # Behind the head is nothing in a third of the pictures, but for what hides.
    outside = _disc() == 0
    blank = (there[:, outside] == 0).mean(axis=1) > 0.3
    assert 0.15 < blank.mean() < 0.5
    # The others are cut as ever, and lose what lies beyond.
    some_normals, some = map(np.asarray, cut(KEYS, unmasked_share=0.5))
    whole_ones = (some == 1.0).all(axis=(1, 2))
    assert 0.3 < whole_ones.mean() < 0.7
    np.testing.assert_array_equal(some_normals[~whole_ones], masked_normals[~whole_ones])


def test_off_is_off(batches):
    """The paper's config has every degradation off, and input and target are one map."""
    paper = dataclasses.asdict(SyntheticConfig())
    assert all(paper[name] == value for name, value in CLEAN.items())
    assert {name for setting in STRONG.values() for name in setting} == set(ESTIMATED)
    normals = jnp.ones((8, 8, 3))
    assert degrade.degrade_normals(KEYS[0], normals) is normals
    clean = batches[2]
    np.testing.assert_array_equal(clean["normals"], clean["target_normals"])
    np.testing.assert_array_equal(clean["mask"], clean["target_mask"])


def test_the_papers_batch_is_what_it_was_before(batches):
    """Numbers of the sampler on version 2 of the open head (the first four samples of key 5 at 64 pixels): what the
    degradations do when they are off, nothing, must not move them."""
    clean = batches[2]
    # A pixel or two on an edge may fall to either side on another processor.
    np.testing.assert_allclose(clean["mask"].sum(axis=(1, 2))[:4], [2033, 2061, 1651, 1667], atol=3)
    chin = [[19.4797, 54.5282], [33.1424, 54.8571], [34.5160, 43.9443], [29.0199, 54.8571]]
    np.testing.assert_allclose(clean["landmarks_2d"][:4, 8], chin, atol=1e-2)
    middle = [
        [0.21920, 0.13132, 0.96680],
        [0.46874, 0.02570, 0.88296],
        [-0.38542, -0.07800, 0.91944],
        [-0.41903, 0.29816, 0.85762],
    ]
    np.testing.assert_allclose(clean["normals"][:4, 32, 32], middle, atol=2e-3)
