"""The 300 shape directions: random MakeHuman heads, rigidly aligned, and their principal components."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from n2f_jax.geometry.alignment import procrustes
from open_head.makehuman import MakeHumanArchive

ANCESTRIES = ("african", "asian", "caucasian")
SEXES = ("female", "male")
AGES = ("baby", "child", "young", "old")  # MakeHuman's 1, 10, 25 and 90 years
_AGE_KNOTS = (1.0, 10.0, 25.0, 90.0)

LOCAL_FOLDERS = (
    "head",
    "forehead",
    "eyebrows",
    "eyes",
    "nose",
    "mouth",
    "chin",
    "cheek",
    "ears",
    "neck",
    "asym",
)
# Left out: what moves the head against the body (undone by the alignment) and body targets in the folder of
# asymmetries.
_SKIP = ("head/head-trans", "head/head-angle", "neck/neck-trans", "neck/measure-neck-height", "asym/asymm-")
_OPPOSITES = (
    ("incr", "decr"),
    ("up", "down"),
    ("out", "in"),
    ("forward", "backward"),
    ("convex", "concave"),
    ("uncompress", "compress"),
)


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How random heads are drawn.

    Attributes:
        num_heads: heads drawn for the basis.
        local_std: standard deviation of a local target's weight.
        cap, mouth_cap: most a local target (one of the mouth) may move any vertex per standard deviation,
            metres. Beyond about 3 mm heads turn into caricatures, lips sooner than the rest.
        asymmetry: standard deviation of a left target's weight about the right one's, over ``local_std``.
        child_share: share of heads younger than 16; the rest are uniform from 16 to ``max_age``.
        min_age, max_age: years.
        size_exponent: power of MakeHuman's own head size that is kept, see :func:`compress_size`.
        size_std: standard deviation of an independent factor on all lengths. Small on purpose: a normal
            map does not show it.
    """

    num_heads: int = 3000
    local_std: float = 0.3
    cap: float = 0.0026
    mouth_cap: float = 0.0016
    asymmetry: float = 0.25
    child_share: float = 0.2
    min_age: float = 6.0
    max_age: float = 80.0
    size_exponent: float = 0.5
    size_std: float = 0.0175


@dataclasses.dataclass(frozen=True)
class LocalControl:
    """One slider: what it adds at positive and at negative weight (``(N, 3)`` each, either may be zero)."""

    name: str
    positive: Float[np.ndarray, "N 3"]
    negative: Float[np.ndarray, "N 3"]


def local_controls(
    archive: MakeHumanArchive, num_base: int, rows: Int[np.ndarray, "N"]
) -> list[LocalControl]:
    """The local targets as sliders; ``rows`` picks the base-mesh vertices that are kept."""
    names = [
        name
        for folder in LOCAL_FOLDERS
        for name in archive.target_names(folder)
        if not name.startswith(_SKIP)
    ]
    controls, used = [], set()
    for name in names:
        if name in used:
            continue
        stem, _, end = name.rpartition("-")
        positive, negative = name, None
        for high, low in _OPPOSITES:
            if end in (high, low) and f"{stem}-{high}" in names and f"{stem}-{low}" in names:
                positive, negative = f"{stem}-{high}", f"{stem}-{low}"
                break
        used |= {positive, negative}
        displacement = archive.target(positive, num_base)[rows]
        opposite = archive.target(negative, num_base)[rows] if negative else np.zeros_like(displacement)
        if max(np.abs(displacement).max(), np.abs(opposite).max()) > 1e-6:
            controls.append(LocalControl(positive, displacement, opposite))
    return controls


def macro_targets(
    archive: MakeHumanArchive, num_base: int, rows: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "3 2 4 N 3"]:
    """Macro targets by ancestry, sex and age (with average muscle and weight)."""
    result = np.zeros((len(ANCESTRIES), len(SEXES), len(AGES), len(rows), 3))
    for (j, sex), (k, age) in itertools.product(enumerate(SEXES), enumerate(AGES)):
        universal = archive.target(
            f"macrodetails/universal-{sex}-{age}-averagemuscle-averageweight", num_base
        )
        for i, ancestry in enumerate(ANCESTRIES):
            result[i, j, k] = (archive.target(f"macrodetails/{ancestry}-{sex}-{age}", num_base) + universal)[
                rows
            ]
    return result


def sample_heads(
    rng: np.random.Generator,
    base: Float[np.ndarray, "N 3"],
    macro: Float[np.ndarray, "3 2 4 N 3"],
    controls: list[LocalControl],
    config: SamplingConfig,
) -> Float[np.ndarray, "H N 3"]:
    """Draws random heads, not aligned.

    Ancestry, sex and age are drawn first; their targets are weighted by the product of the three. Local
    sliders are normal, left and right nearly together.
    """
    number = config.num_heads
    ancestry = rng.dirichlet((0.6,) * len(ANCESTRIES), number)
    male = rng.beta(0.7, 0.7, number)
    sex = np.stack([1 - male, male], axis=-1)
    child = rng.random(number) < config.child_share
    years = np.where(
        child, rng.uniform(config.min_age, 16.0, number), rng.uniform(16.0, config.max_age, number)
    )
    # Over the logarithm: heads grow most in the first years.
    knots, at = np.log(_AGE_KNOTS), np.log(years)
    age = np.stack([np.interp(at, knots, row) for row in np.eye(len(AGES))], axis=-1)
    product = np.einsum("hi,hj,hk->hijk", ancestry, sex, age).reshape(number, -1)
    heads = product @ macro.reshape(product.shape[1], -1)

    sides: dict[str, np.ndarray] = {}
    weights, targets = [], []
    for control in controls:
        folder, _, name = control.name.partition("/")
        common, own = rng.standard_normal((2, number))
        if name.startswith(("l-", "r-")):
            # The same common part for both sides of a slider; drawn when the first of them is met.
            common = sides.setdefault(f"{folder}/{name[2:]}", common)
            weight = (common + config.asymmetry * own) / np.hypot(1.0, config.asymmetry)
        else:
            weight = own
        if folder == "asym":
            weight = config.asymmetry * np.abs(weight)
        elif not control.negative.any():
            weight = np.abs(weight)
        weight = weight * config.local_std
        for part, amount in (
            (control.positive, np.maximum(weight, 0)),
            (control.negative, np.maximum(-weight, 0)),
        ):
            reach = np.linalg.norm(part, axis=-1).max() * config.local_std
            if reach > 0:
                cap = config.mouth_cap if folder == "mouth" else config.cap
                weights.append(amount * min(1.0, cap / reach))
                targets.append(part.reshape(-1))
    if weights:
        heads += np.stack(weights, axis=-1) @ np.stack(targets)
    return base + heads.reshape(number, *base.shape)


def compress_size(
    heads: Float[np.ndarray, "H N 3"], points: Int[np.ndarray, "n"], exponent: float
) -> Float[np.ndarray, "H N 3"]:
    """Scales each head about the origin: its size over the mean size is raised to ``exponent``.

    The size is the RMS distance of ``points`` from their middle. MakeHuman's sizes are exaggerated (a
    one-year-old's head at 0.64 of an adult's); half the logarithm is close to real growth.
    """
    chosen = heads[:, points]
    centred = chosen - chosen.mean(axis=1, keepdims=True)
    size = np.sqrt((centred**2).sum(axis=-1).mean(axis=1))
    return heads * ((size / np.exp(np.log(size).mean())) ** (exponent - 1.0))[:, None, None]


def rigid_align(
    heads: Float[np.ndarray, "H N 3"],
    reference: Float[np.ndarray, "N 3"],
    points: Int[np.ndarray, "n"],
) -> Float[np.ndarray, "H N 3"]:
    """Moves each head rigidly (no scale) onto ``reference`` by least squares over ``points``."""
    targets = np.broadcast_to(reference[points], (len(heads), len(points), 3))
    return procrustes(heads[:, points], targets).apply(heads)


def principal_components(
    heads: Float[np.ndarray, "H N 3"], mirror: Int[np.ndarray, "N"], count: int
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3 C"], Float[np.ndarray, "C"]]:
    """Mean, components scaled to unit-variance coefficients, and their RMS over vertices.

    Every head counts together with its mirror image, so that the mean is symmetric and every component is
    either symmetric or antisymmetric. The two kinds are found apart, which keeps them pure.
    """
    flip = np.array([-1.0, 1.0, 1.0])
    mean = heads.mean(axis=0)
    mean = (mean + mean[mirror] * flip) / 2
    offset = (heads - mean).astype(np.float32)
    image = offset[:, mirror] * flip.astype(np.float32)
    number = len(heads)
    components, deviations = [], []
    for part in ((offset + image) / 2, (offset - image) / 2):
        flat = part.reshape(number, -1)
        last = min(count, number) - 1
        values, vectors = scipy.linalg.eigh(
            (flat @ flat.T).astype(np.float64) / number, subset_by_index=[number - 1 - last, number - 1]
        )
        keep = np.flatnonzero(values > 1e-12 * values.max())
        # flatᵀ·v has length sqrt(λ·H); dividing by sqrt(H) leaves one standard deviation.
        components.append(flat.T @ (vectors[:, keep] / np.sqrt(number)).astype(np.float32))
        deviations.append(np.sqrt(values[keep]))
    basis, deviation = np.concatenate(components, axis=1), np.concatenate(deviations)
    order = np.argsort(-deviation)[:count]
    basis = basis[:, order]
    # A fixed sign: the largest coordinate is positive.
    basis *= np.sign(basis[np.abs(basis).argmax(axis=0), np.arange(basis.shape[1])])
    per_vertex = deviation[order] / np.sqrt(heads.shape[1])
    return mean, basis.reshape(*heads.shape[1:], -1), per_vertex
