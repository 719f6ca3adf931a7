"""Learning-rate groups: every parameter in exactly one, frozen ones untouched to the bit."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from n2f_jax.models.parameters import flatten
from n2f_jax.training import optimizers

TABLE = (("a/special", "fast"), ("a/.*", "slow"), ("b/.*", "frozen"))


def _settings(**changes):
    return ml_collections.ConfigDict(
        {
            "name": "adam",
            "rates": {"fast": 1e-2, "slow": 1e-3},
            "b1": 0.9,
            "b2": 0.999,
            "eps": 1e-8,
            "weight_decay": 0.0,
            "clip_norm": 0.0,
            "warmup_steps": 0,
            "final_fraction": 1.0,
        }
        | changes
    )


def _params():
    return {
        "a": {"special": jnp.ones((3, 2)), "rest": jnp.full((2,), 2.0)},
        "b": {"x": jnp.asarray([-0.0, 0.0, 1e-30, np.nan])},
    }


def test_first_match_wins():
    groups = optimizers.assign_groups(TABLE, list(flatten(_params())))
    assert groups == {"a/special": "fast", "a/rest": "slow", "b/x": "frozen"}


def test_unmatched_parameters_are_named():
    with pytest.raises(ValueError, match=r"c/y\n  d"):
        optimizers.assign_groups(TABLE, ["a/special", "a/rest", "b/x", "c/y", "d"])


def test_a_pattern_matches_whole_paths_and_must_decide_something():
    with pytest.raises(ValueError, match="a/speciality"):
        optimizers.assign_groups((("a/special", "fast"),), ["a/special", "a/speciality"])
    with pytest.raises(ValueError, match="decide no parameter: a/specail"):
        optimizers.assign_groups((("a/specail", "fast"), ("a/.*", "slow")), ["a/special"])


def test_a_group_without_a_rate_is_an_error():
    groups = optimizers.assign_groups(TABLE, list(flatten(_params())))
    with pytest.raises(ValueError, match="no learning rate for group fast"):
        optimizers.build_optimizer(_settings(rates={"slow": 1e-3}), groups, 10)


def test_groups_move_at_their_rates_and_frozen_ones_not_a_bit():
    params = _params()
    groups = optimizers.assign_groups(TABLE, list(flatten(params)))
    optimizer, _ = optimizers.build_optimizer(_settings(), groups, 10)
    state = optimizer.init(flatten(params))
    # What is frozen gets no gradient; even one that is not finite must not reach it.
    gradients = {"a/special": jnp.full((3, 2), 5.0), "a/rest": jnp.full((2,), -7.0)}
    new, _ = jax.jit(lambda g, s, p: optimizers.apply_gradients(optimizer, g, s, p, groups))(
        gradients, state, params
    )
    # Adam's first step has the size of the rate, whatever the gradient's.
    np.testing.assert_allclose(new["a"]["special"], 1.0 - 1e-2, rtol=1e-5)
    np.testing.assert_allclose(new["a"]["rest"], 2.0 + 1e-3, rtol=1e-5)
    assert np.asarray(new["b"]["x"]).tobytes() == np.asarray(params["b"]["x"]).tobytes()


def test_frozen_parameters_hold_no_moments():
    params = _params()
    groups = optimizers.assign_groups(TABLE, list(flatten(params)))
    optimizer, _ = optimizers.build_optimizer(_settings(), groups, 10)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(optimizer.init(flatten(params))) if leaf.ndim)
    assert numbers == 2 * (6 + 2)  # two moments of the eight trained numbers


def test_matches_optax_adam_on_one_group():
    """Ten steps against ``optax.adam`` with the same schedule, all parameters in one group."""
    params = {"w": jnp.arange(6.0).reshape(2, 3)}
    settings = _settings(rates={"all": 1e-2}, warmup_steps=3, final_fraction=0.0)
    optimizer, schedules = optimizers.build_optimizer(settings, {"w": "all"}, 10)
    reference = optax.adam(schedules["all"])
    state, reference_state, other = optimizer.init(params), reference.init(params), params
    for step in range(10):
        gradient = {"w": jnp.sin(params["w"] + step)}
        params, state = optimizers.apply_gradients(optimizer, gradient, state, params, {"w": "all"})
        with jax.numpy_dtype_promotion("standard"):
            updates, reference_state = reference.update(
                {"w": jnp.sin(other["w"] + step)}, reference_state, other
            )
        other = optax.apply_updates(other, updates)
    np.testing.assert_allclose(params["w"], other["w"], rtol=1e-6)


def test_warmup_cosine_by_hand():
    schedule = optimizers.warmup_cosine(2.0, steps=12, warmup_steps=4, final_fraction=0.1)
    values = [float(schedule(step)) for step in range(13)]
    assert values[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert values[4] == pytest.approx(2.0)
    assert values[8] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))  # half way down
    assert values[12] == pytest.approx(0.2)
    with pytest.raises(ValueError, match="shorter than the run"):
        optimizers.warmup_cosine(1.0, steps=10, warmup_steps=10)


def test_both_stages_cover_the_network(initialised, small_run):
    """Each config's table decides every parameter, and the printed table counts each once."""
    config, params, _ = initialised
    paths = list(flatten(params))
    total = sum(leaf.size for leaf in flatten(params).values())
    for stage in (1, 2):
        optimizer = small_run(stage).optimizer
        groups = optimizers.assign_groups([tuple(row) for row in optimizer.groups], paths)
        assert set(groups) == set(paths)
        text = optimizers.group_table(groups, params, dict(optimizer.rates))
        assert text.splitlines()[-1].split()[-1] == f"{total:,}"
    stage1 = optimizers.assign_groups([tuple(row) for row in config.optimizer.groups], paths)
    assert stage1["backbone/patch_embedding/kernel"] == "patch_embedding"
    assert stage1["backbone/rope/periods"] == "frozen"
    assert {group for path, group in stage1.items() if path.startswith("camera/")} == {"frozen"}
