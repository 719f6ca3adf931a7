"""Learning-rate groups by an ordered table of path patterns, and the optimiser built from them.

The first pattern that matches a parameter's whole path decides; a parameter that none matches is an error
which names it. The group ``frozen`` takes no gradient and is never written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from n2f_jax.models.parameters import flatten, unflatten

FROZEN = "frozen"

Table = Sequence[tuple[str, str]]
Flat = dict[str, Any]


def assign_groups(table: Table, paths: Sequence[str]) -> dict[str, str]:
    """Path → group, by the first pattern of ``table`` that matches the whole path.

    Raises:
        ValueError: paths that no pattern matches (all are named), or a pattern that decides no path, which is
            a misspelling more often than not.
    """
    compiled = [(re.compile(pattern), group) for pattern, group in table]
    groups: dict[str, str] = {}
    used = [False] * len(compiled)
    unmatched = []
    for path in paths:
        for index, (pattern, group) in enumerate(compiled):
            if pattern.fullmatch(path):
                groups[path] = group
                used[index] = True
                break
        else:
            unmatched.append(path)
    if unmatched:
        raise ValueError("no learning-rate group matches:\n  " + "\n  ".join(unmatched))
    idle = [pattern for (pattern, _), was_used in zip(table, used, strict=True) if not was_used]
    if idle:
        raise ValueError("these patterns of the learning-rate table decide no parameter: " + ", ".join(idle))
    return groups


def group_table(groups: Mapping[str, str], params: Mapping[str, Any], rates: Mapping[str, float]) -> str:
    """The groups as lines of text: name, peak learning rate, tensors, numbers."""
    flat = flatten(params)
    lines = [f"{'group':<18}{'peak rate':>12}{'tensors':>10}{'numbers':>14}"]
    for group in sorted(set(groups.values())):
        members = [path for path in groups if groups[path] == group]
        rate = "—" if group == FROZEN else f"{rates[group]:g}"
        numbers = sum(flat[path].size for path in members)
        lines.append(f"{group:<18}{rate:>12}{len(members):>10}{numbers:>14,}")
    total = sum(leaf.size for leaf in flat.values())
    lines.append(f"{'all':<18}{'':>12}{len(flat):>10}{total:>14,}")
    return "\n".join(lines)


# The root mean square of Adam's updates over its rate, as observed by Liu et al., "Muon is scalable for LLM
# training" (2025), section 2.2.
_ADAM_UPDATE_RMS = 0.2


def warmup_cosine(
    peak: float, *, steps: int, warmup_steps: int, final_fraction: float = 0.0
) -> optax.Schedule:
    """Linear to ``peak`` over ``warmup_steps``, then a cosine to ``peak·final_fraction`` at ``steps``.

    The first step already moves: its rate is ``peak / warmup_steps``, not 0.

    Raises:
        ValueError: the warm-up is not shorter than the run.
    """
    if not 0 <= warmup_steps < steps:
        raise ValueError(f"warm-up takes {warmup_steps} of {steps} steps; it must be shorter than the run")
    schedule = optax.cosine_decay_schedule(peak, steps - warmup_steps, final_fraction)
    if warmup_steps:
        rising = optax.linear_schedule(peak / warmup_steps, peak, max(warmup_steps - 1, 1))
        schedule = optax.join_schedules([rising, schedule], [warmup_steps])
    # optax mixes the integer count with floats, which strict promotion forbids.
    return lambda count: schedule(jnp.asarray(count, jnp.float32))


def build_optimizer(
    config: Any, groups: Mapping[str, str], steps: int
) -> tuple[optax.GradientTransformation, dict[str, optax.Schedule]]:
    """An optimiser per group, frozen parameters set to zero, one gradient clip over everything that is trained.

    Args:
        config: fields ``name`` (``'adam'``, the paper's, or ``'muon'``: matrices by orthogonalised momentum, its
            updates scaled to Adam's usual size so that one rate serves both, and everything else by Adam),
            ``rates`` (group → peak rate), ``b1``, ``b2``, ``eps``, ``weight_decay`` (decoupled, on
            tensors of two or more axes; 0 is plain Adam), ``clip_norm`` (0 is off), ``warmup_steps``,
            ``final_fraction``.
        groups: path → group, of every parameter.
        steps: length of the run.

    Returns:
        A transformation of flat dicts path → array, and each group's schedule.

    Raises:
        ValueError: a group has no rate, or ``name`` is unknown.
    """
    if config.name not in ("adam", "muon"):
        raise ValueError(f"optimizer.name is {config.name!r}; there are adam and muon")
    trained = sorted(set(groups.values()) - {FROZEN})
    missing = [group for group in trained if group not in config.rates]
    if missing:
        raise ValueError(f"no learning rate for group {', '.join(missing)}")
    schedules = {
        group: warmup_cosine(
            float(config.rates[group]),
            steps=steps,
            warmup_steps=int(config.warmup_steps),
            final_fraction=float(config.final_fraction),
        )
        for group in trained
    }

    def adam(schedule: optax.Schedule) -> optax.GradientTransformation:
        decay = lambda tree: jax.tree.map(lambda leaf: leaf.ndim >= 2, tree)  # noqa: E731
        return optax.chain(
            optax.scale_by_adam(b1=config.b1, b2=config.b2, eps=config.eps),
            optax.add_decayed_weights(config.weight_decay, mask=decay)
            if config.weight_decay
            else optax.identity(),
            optax.scale_by_learning_rate(schedule),
        )

    def muon(schedule: optax.Schedule) -> optax.GradientTransformation:
        return optax.contrib.muon(
            schedule,
            adam_b1=config.b1,
            adam_b2=config.b2,
            weight_decay=config.weight_decay,
            consistent_rms=_ADAM_UPDATE_RMS,
        )

    make = {"adam": adam, "muon": muon}[config.name]
    transforms: dict[str, optax.GradientTransformation] = {
        group: make(schedule) for group, schedule in schedules.items()
    }
    transforms[FROZEN] = optax.set_to_zero()
    partitioned = optax.partition(transforms, dict(groups))
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, partitioned), schedules


def split_frozen(params: Mapping[str, Any], groups: Mapping[str, str]) -> tuple[Flat, Flat]:
    """Trained and frozen leaves as flat dicts, so that gradients are taken of the trained ones alone."""
    flat = flatten(params)
    trained = {path: leaf for path, leaf in flat.items() if groups[path] != FROZEN}
    frozen = {path: leaf for path, leaf in flat.items() if groups[path] == FROZEN}
    return trained, frozen


def merge_frozen(trained: Flat, frozen: Flat) -> dict[str, Any]:
    """The nested dict again."""
    return unflatten(trained | frozen)


def apply_gradients(
    optimizer: optax.GradientTransformation,
    gradients: Flat,
    opt_state: optax.OptState,
    params: Mapping[str, Any],
    groups: Mapping[str, str],
) -> tuple[dict[str, Any], optax.OptState]:
    """One update. Frozen leaves are handed through untouched: adding a zero would still turn −0 into +0.

    Args:
        optimizer: from ``build_optimizer``.
        gradients: of the trained leaves, flat.
        opt_state: its state.
        params: all parameters, nested.
        groups: path → group.
    """
    flat = flatten(params)
    full = {
        path: gradients[path] if path in gradients else jnp.zeros_like(leaf) for path, leaf in flat.items()
    }
    # optax raises a Python float to the power of an integer counter, which strict promotion forbids.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(full, opt_state, flat)
    new = {
        path: leaf if groups[path] == FROZEN else leaf + updates[path].astype(leaf.dtype)
        for path, leaf in flat.items()
    }
    return unflatten(new), opt_state
