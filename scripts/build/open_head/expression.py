"""The 100 expression directions: a Gaussian over facial actions, and its principal directions."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from open_head.makehuman import MakeHumanArchive
from open_head.topology import HeadTopology

# Left out: what other parameters do (eyelids, eyeballs, jaw), and the tongue, which would pierce closed lips.
SKIPPED_ACTIONS = ("eyeBlink", "eyeLook", "eyeWide", "jawOpen", "mouthClose", "tongueOut")
SKIPPED_UNITS = ("closure", "opened-up", "mouth-open", "mouth-parling", "mouth-part-later")
UNIT_ANCESTRIES = ("african", "asian", "caucasian")
# They belong to the skull and stay where they are.
SKULL_PARTS = ("left_eyeball", "right_eyeball", "upper_teeth")
# Half the width over which a left half fades into the right one, metres.
_SIDE_BLEND = 0.012
# The paper's standard deviation of expression coefficients; the prior below is stated at it.
SAMPLED_STD = 0.5


@dataclasses.dataclass(frozen=True)
class ExpressionConfig:
    """Standard deviations of the facial actions' weights where coefficients are drawn from N(0, 0.5²).

    Attributes:
        action: both sides of an ARKit-like action together.
        unit: both sides of one of MakeHuman's expression units (mean over its three ancestries).
        variant: how the three ancestries' versions of a unit differ.
        side: one half of a face alone, relative to both together.
        cap: most an action may move any vertex per standard deviation, metres.
    """

    action: float = 0.2
    unit: float = 0.12
    variant: float = 0.08
    side: float = 0.3
    cap: float = 0.0025


def expression_actions(
    archive: MakeHumanArchive, num_base: int, topology: HeadTopology, config: ExpressionConfig
) -> dict[str, tuple[Float[np.ndarray, "V 3"], float]]:
    """Facial actions at full weight, each with the standard deviation of its weight.

    The eyeballs and the upper teeth belong to the skull and stay.
    """
    rows = topology.source
    faced = {name: archive.face_unit(name, num_base)[rows] for name in archive.face_unit_names()}
    actions: dict[str, tuple[np.ndarray, float]] = {}
    for name, action in faced.items():
        if name.startswith(SKIPPED_ACTIONS) or name.endswith("Right"):
            continue
        if name.endswith("Left") and f"{name.removesuffix('Left')}Right" in faced:
            name, action = name.removesuffix("Left"), action + faced[f"{name.removesuffix('Left')}Right"]
            if name in ("mouth", "jaw"):  # to the left, not of the left half: the two cancel out
                name, action = f"{name}Left", faced[f"{name}Left"]
        actions[name] = (action, config.action)
    # Lips that stay closed over a dropping jaw; neither half makes sense alone.
    actions["jawOpen+mouthClose"] = (0.5 * (faced["jawOpen"] + faced["mouthClose"]), config.action)
    for name in archive.target_names(f"expression/units/{UNIT_ANCESTRIES[0]}"):
        stem = name.rpartition("/")[2]
        if stem.endswith(SKIPPED_UNITS) or "-right-" in stem:
            continue
        versions = np.stack(
            [expression_unit(archive, ancestry, stem, num_base)[rows] for ancestry in UNIT_ANCESTRIES]
        )
        stem = stem.replace("-left-", "-")
        actions[stem] = (versions.mean(axis=0), config.unit)
        for ancestry, version in zip(UNIT_ANCESTRIES, versions - versions.mean(axis=0), strict=True):
            actions[f"{stem}/{ancestry}"] = (version, config.variant)
    for action, _ in actions.values():
        for part in SKULL_PARTS:
            action[topology.parts[part]] = 0.0
    return {name: pair for name, pair in actions.items() if np.abs(pair[0]).max() > 1e-5}


def expression_unit(
    archive: MakeHumanArchive, ancestry: str, stem: str, num_base: int
) -> Float[np.ndarray, "N 3"]:
    """One of MakeHuman's units at full weight; of a left half, both halves together."""
    unit = archive.target(f"expression/units/{ancestry}/{stem}", num_base)
    if "-left-" in stem:
        unit = unit + archive.target(
            f"expression/units/{ancestry}/{stem.replace('-left-', '-right-')}", num_base
        )
    return unit


def expression_basis(
    actions: dict[str, tuple[Float[np.ndarray, "V 3"], float]],
    vertices: Float[np.ndarray, "V 3"],
    mirror: Int[np.ndarray, "V"],
    count: int,
    config: ExpressionConfig,
) -> tuple[Float[np.ndarray, "V 3 C"], Float[np.ndarray, "C"]]:
    """Principal directions of independent normal weights on all actions, about the neutral face.

    Actions are split into a symmetric and an antisymmetric part; each also acts on one half of the face
    alone, which gives the opposite symmetry. So every direction is symmetric or antisymmetric.

    Returns:
        The directions per unit of coefficient, and their RMS over vertices in metres.

    Raises:
        ValueError: if the actions span fewer than ``count`` directions.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    half = np.tanh(vertices[:, :1] / _SIDE_BLEND)
    even, odd = [], []
    for action, deviation in actions.values():
        image = action[mirror] * flip
        largest = np.linalg.norm(action, axis=-1).max()
        for parity, same, other in ((1.0, even, odd), (-1.0, odd, even)):
            pure = (action + parity * image) / 2
            reach = np.linalg.norm(pure, axis=-1).max()
            if reach < 0.05 * largest:
                continue
            scale = min(deviation, config.cap / reach)
            same.append((scale * pure).reshape(-1))
            other.append((config.side * scale * pure * half).reshape(-1))
    components, deviations = [], []
    for rows in (np.stack(even), np.stack(odd)):
        values, vectors = np.linalg.eigh(rows @ rows.T)
        keep = values > 1e-10 * values.max()
        components.append(rows.T @ vectors[:, keep])
        deviations.append(np.sqrt(values[keep]))
    basis, deviation = np.concatenate(components, axis=1), np.concatenate(deviations)
    order = np.argsort(-deviation)[:count]
    if len(order) < count:
        raise ValueError(f"the facial actions span {len(order)} directions, {count} are wanted")
    basis = basis[:, order] / SAMPLED_STD
    basis *= np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(count)])
    rms = deviation[order] / SAMPLED_STD / np.sqrt(len(mirror))
    return basis.reshape(len(mirror), 3, count), rms
