"""A head model's population beside the people of surveys, dimension by dimension."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from flame_jax import HeadModel
from n2f_jax.evaluation.anthropometry import measure_dimensions, overall_size
from n2f_jax.evaluation.surveys import NIOSH, PROPORTIONS, PUBLISHED, SIZE, Published


@dataclasses.dataclass(frozen=True)
class Row:
    """A dimension of the model's heads and of one survey's people.

    Attributes:
        dimension: its name in ``surveys.PUBLISHED``.
        mean, deviation: of the sampled heads, millimetres; the deviation with n − 1.
        published: of people.
        proportion_deviation: standard deviation of the heads' proportion (``surveys.PROPORTIONS``), where there is one.
    """

    dimension: str
    mean: float
    deviation: float
    published: Published
    proportion_deviation: float | None = None

    @property
    def difference(self) -> float:
        """Of the means, as a share of the published one."""
        return self.mean / self.published.mean - 1.0

    @property
    def deviation_ratio(self) -> float:
        """The heads' standard deviation over the people's."""
        return self.deviation / self.published.deviation

    @property
    def proportion_ratio(self) -> float | None:
        """The same of the proportions, size apart; None where the survey has none."""
        if self.proportion_deviation is None or self.published.survey != NIOSH:
            return None
        return self.proportion_deviation / PROPORTIONS[self.dimension].deviation


def compare_with_surveys(model: HeadModel, heads: int, seed: int, beta_std: float) -> list[Row]:
    """One row a dimension and survey, of heads drawn as the sampler draws them.

    Args:
        model: the head model.
        heads: how many are drawn.
        seed: of the draw.
        beta_std: standard deviation of the shape coefficients.

    Raises:
        AnthropometryError: the model lacks what the dimensions are defined by.
    """
    if heads < 2:
        raise ValueError(f"{heads} heads have no standard deviation")
    drawn = beta_std * np.random.default_rng(seed).standard_normal((heads, model.num_shape))
    measured = measure_dimensions(model, drawn)
    measured[SIZE] = overall_size(measured)
    rows = []
    for dimension, surveys in PUBLISHED.items():
        millimetres = 1000.0 * measured[dimension]
        mean, deviation = float(millimetres.mean()), float(millimetres.std(ddof=1))
        proportion = None
        if dimension in PROPORTIONS:
            proportion = float(np.log(measured[dimension] / measured[SIZE]).std(ddof=1))
        rows += [Row(dimension, mean, deviation, published, proportion) for published in surveys]
    return rows


def format_table(rows: Sequence[Row]) -> str:
    """Markdown: the table, and below it the means over the dimensions that NIOSH took.

    Mean ± standard deviation of heads, and of people with men and women weighted alike; how far the means differ; the
    heads' standard deviation over the people's, and that of proportions alone; coefficients of variation of both.
    """
    lines = [
        "| dimension | heads, mm | people, mm | means | SDs | SDs, size apart | CVs | men | women | survey |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        people = row.published
        men, women = (f"{sex.mean:.1f} ± {sex.deviation:.1f}" for sex in (people.men, people.women))
        variation = f"{100 * row.deviation / row.mean:.1f} / {100 * people.deviation / people.mean:.1f} %"
        apart = "" if row.proportion_ratio is None else f"× {row.proportion_ratio:.2f}"
        lines.append(
            f"| {row.dimension} | {row.mean:.1f} ± {row.deviation:.1f} | "
            f"{people.mean:.1f} ± {people.deviation:.1f} | {100 * row.difference:+.1f} % | "
            f"× {row.deviation_ratio:.2f} | {apart} | {variation} | {men} | {women} | {people.survey} |"
        )
    once = [row for row in rows if row.published.survey == NIOSH and row.dimension != SIZE]
    difference = np.mean([row.difference for row in once])
    ratio = np.exp(np.mean(np.log([row.deviation_ratio for row in once])))
    apart = [row.proportion_ratio for row in once if row.proportion_ratio is not None]
    lines += [
        "",
        f"Mean over the {len(once)} dimensions of {NIOSH}: means {100 * difference:+.1f} %, "
        f"standard deviations × {ratio:.2f} (geometric)"
        + (f", size apart × {np.exp(np.mean(np.log(apart))):.2f}." if apart else "."),
    ]
    return "\n".join(lines).replace(" -", " −")
