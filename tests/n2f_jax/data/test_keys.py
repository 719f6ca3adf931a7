"""No random key is used twice: what is drawn from one key twice is the same numbers."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from n2f_jax.data import degrade, sampler
from n2f_jax.data.degradation_presets import ESTIMATED, FRONT_END, FRONT_END_MEASURED
from n2f_jax.data.sampler import SyntheticConfig
from n2f_jax.face_mesh.coarse_mesh import load_coarse_mesh
from n2f_jax.render import HeadTopology

pytestmark = pytest.mark.medium

DRAWS = (
    "normal",
    "uniform",
    "bernoulli",
    "truncated_normal",
    "randint",
    "rademacher",
    "choice",
    "permutation",
)


@pytest.fixture
def uses(monkeypatch):
    """Fills up with (kind of use, key) while something runs; what is recorded must be traced anew."""
    found = []

    def record(name, use):
        def wrapper(key, *args, **kwargs):
            data = jax.random.key_data(key)
            jax.debug.callback(lambda bits: found.append((name, tuple(np.ravel(bits).tolist()))), data)
            return use(key, *args, **kwargs)

        return wrapper

    for name in (*DRAWS, "split", "fold_in"):
        monkeypatch.setattr(jax.random, name, record(name, getattr(jax.random, name)))
    return found


def used_twice(found):
    """Keys that two draws or splits take, or one and a ``fold_in``: a key may only be folded more than once."""
    taken = collections.Counter(key for name, key in found if name != "fold_in")
    folded = {key for name, key in found if name == "fold_in"}
    return {
        key: sorted(name for name, other in found if other == key)
        for key, count in taken.items()
        if count > 1 or key in folded
    }


def test_what_is_recorded_shows_a_key_used_twice(uses):
    def draw(key):
        return jax.random.normal(key) + jax.random.uniform(jax.random.split(key)[1])

    jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 3)).block_until_ready()
    jax.effects_barrier()
    twice = used_twice(uses)
    assert len(twice) == 3 and all(names == ["normal", "split"] for names in twice.values())
    # What makes it worth looking: a child by number is the same key however it is made.
    one, other = jax.random.split(jax.random.key(5), 3)[2], jax.random.fold_in(jax.random.key(5), 2)
    np.testing.assert_array_equal(jax.random.key_data(one), jax.random.key_data(other))


@pytest.mark.parametrize("points", [FRONT_END, FRONT_END_MEASURED["v1"]], ids=["guessed", "measured"])
def test_a_batch_with_everything_on_takes_every_key_once(uses, open_head, points):
    everything = ESTIMATED | points | {"front_end_share": 0.5, "closed_eyes_share": 0.5}
    config = SyntheticConfig(image_size=32, **everything)
    mesh = jax.tree.map(jnp.asarray, load_coarse_mesh())

    def draw(key, model, topology, mesh):
        return sampler.make_batch(key, model, topology, config, 4, coarse_mesh=mesh, targets=True)

    jax.block_until_ready(
        jax.jit(draw)(jax.random.key(0), open_head, HeadTopology.from_model(open_head), mesh)
    )
    jax.effects_barrier()
    draws = [name for name, _ in uses if name in DRAWS]
    assert len(draws) > 4 * 30 and {"normal", "uniform", "bernoulli", "truncated_normal"} <= set(draws)
    assert not used_twice(uses)


def test_what_a_mask_loses_and_whether_are_independent():
    """Erosion and dilation are drawn each by itself, and neither says which of the two it is."""
    mask = jnp.zeros((48, 48)).at[12:36, 12:36].set(1.0)
    normals = jnp.zeros((48, 48, 3)).at[..., 2].set(1.0)
    keys = jax.random.split(jax.random.key(3), 3000)

    def side_of(**settings):
        cut = lambda key: degrade.degrade_maps(key, normals, mask, **settings)[1]  # noqa: E731
        return np.asarray(jax.jit(jax.vmap(lambda key: jnp.max(jnp.sum(cut(key), axis=0))))(keys))

    eroded, dilated = side_of(mask_erosion=0.2), side_of(mask_dilation=0.2)
    both = side_of(mask_erosion=0.2, mask_dilation=0.2)
    assert eroded.std() > 4.0 and dilated.std() > 4.0
    assert abs(np.corrcoef(eroded, dilated)[0, 1]) < 5 / np.sqrt(len(keys))
    # Which of the two it is shows where neither radius is zero.
    shows = (eroded < 24) & (dilated > 24)
    for amount in (eroded, dilated):
        assert abs(np.corrcoef(both[shows] > 24, amount[shows])[0, 1]) < 5 / np.sqrt(shows.sum())
