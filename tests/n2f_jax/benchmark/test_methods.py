"""The runner on made-up methods, and the nearest head; networks and fits have tests of their own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flame_jax
from flame_jax import FlameParams
from n2f_jax.benchmark.methods import FITS, MEAN, Crops, Method, NearestHead, Prediction, make_methods
from n2f_jax.benchmark.run import run_methods

HEADS = 11


class Numbers:
    """Heads whose focal length is their number."""

    def __len__(self):
        return HEADS

    def crops(self, index):
        empty = jnp.zeros((1, 4, 4, 3)), jnp.zeros((1, 4, 4)), jnp.zeros((1, 68, 2))
        return Crops(*empty, focal=jnp.asarray([float(index)]), principal_point=jnp.zeros((1, 2)))


@pytest.fixture
def calls():
    return []


@pytest.fixture
def methods(calls):
    """Each gives a shape of the head's number and notes the numbers that it was given."""

    def method(name, **options):
        def predict(crops):
            calls.append((name, crops.focal.astype(int).tolist()))
            rest = (jnp.zeros((len(crops.focal), count)) for count in (2, 6, 2))
            return Prediction(FlameParams.resting(crops.focal[:, None], *rest), None)

        return Method(predict, **options)

    return {
        "quick": method("quick"),
        "blind": method("blind", accepts=lambda crops: False),
        "slow": method("slow", slow=True),
    }


def test_every_head_gets_its_own_prediction(methods, calls):
    finished = {}

    def finish(of, name, index, prediction, seconds):
        assert prediction.params.shape.tolist() == [[float(index)]]
        finished[of, name, index] = seconds

    done = lambda of, name, index: index == 3  # noqa: E731
    sets = {"a": Numbers(), "b": Numbers()}
    run_methods(sets, methods, finish, done=done, slow_heads=10, timed_slow=2, progress=False)
    quick = [i for i in range(HEADS) if i != 3]
    assert {key[2] for key in finished if key[:2] == ("b", "quick")} == set(quick)
    assert not any(name == "blind" for _, name, _ in finished)
    slow = {key: seconds for key, seconds in finished.items() if key[1] == "slow"}
    assert {key[2] for key in slow} == set(range(10)) - {3}
    # Timed are all of the quick method and the first two of the slow one in the first set.
    assert {key for key, seconds in slow.items() if seconds > 0} == {("a", "slow", 0), ("a", "slow", 1)}
    assert all(seconds > 0 for key, seconds in finished.items() if key[1] == "quick")
    # A first call of each that does not count, then batches of eight, filled up with their first head.
    assert [given for name, given in calls if name == "quick"] == [[0], *[[i] for i in quick * 2]]
    assert [given for name, given in calls if name == "slow"] == [
        *([0], [0], [1], [2, 4, 5, 6, 7, 8, 9, 2]),
        *([0, 1, 2, 4, 5, 6, 7, 8], [9] * 8),
    ]


def test_the_nearest_head_is_the_head_itself_where_the_model_has_it(open_head):
    rng = np.random.default_rng(0)
    true = dataclasses.replace(
        FlameParams.neutral(open_head, (2,)),
        shape=jnp.asarray(0.8 * rng.normal(size=(2, open_head.num_shape)), jnp.float32),
        expression=jnp.asarray(0.5 * rng.normal(size=(2, open_head.num_expression)), jnp.float32),
    )
    vertices, _ = flame_jax.decode(open_head, true)
    eyelids = jnp.full((2, 2), 0.3)
    found, camera = NearestHead(open_head)(vertices, true.jaw, eyelids)
    assert camera is None
    np.testing.assert_array_equal(found.eyelids, eyelids)
    again, _ = flame_jax.decode(open_head, dataclasses.replace(found, eyelids=true.eyelids))
    face = np.asarray(open_head.masks["face"])
    assert np.linalg.norm(np.asarray(again - vertices)[:, face], axis=-1).mean() < 1e-4


def test_without_a_network_fits_start_from_the_mean_head(open_head):
    methods = make_methods(open_head, {})
    assert set(methods) == {MEAN, *(name for name in FITS if name.endswith("mean"))}
    assert [name for name, method in methods.items() if method.slow] == ["Adam from mean"]
    prediction = jax.device_get(methods[MEAN](Numbers().crops(100)))
    assert not prediction.params.shape.any() and prediction.camera.translation[0, 2] > 0
