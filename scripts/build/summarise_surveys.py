"""Means and standard deviations of head dimensions in two public surveys, as n2f_jax/evaluation/surveys.py has them.

    python scripts/build/summarise_surveys.py --niosh RespiratorUsersData-all-subjects.csv \\
        --ansur ANSUR_II_MALE_Public.csv ANSUR_II_FEMALE_Public.csv

The files hold a line a person: NIOSH's dataset RD-10130-2020-0, and the public files of ANSUR II. Prints a line a
dimension, survey and sex: number of people, mean, standard deviation (n − 1), millimetres; and of the logarithm of each
dimension over the person's overall size.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

MEN, WOMEN = "men", "women"
NIOSH_SEX = {"1": MEN, "2": WOMEN}
# NIOSH writes -9,999 for a dimension that was not taken.
_MISSING = -9000.0


def numbers(rows: Iterable[Mapping[str, str]], columns: Iterable[str]) -> np.ndarray:
    """``(people, columns)`` float64, NaN where a value is missing; "1,689" is 1689."""
    values = [[float((row[column] or "nan").replace(",", "")) for column in columns] for row in rows]
    table = np.array(values, np.float64)
    table[table <= _MISSING] = np.nan
    return table


def read_niosh(path: Path) -> dict[str, list[dict[str, str]]]:
    """Sex → rows. Empty rows at the end of the file are left out."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["SUBNO"].strip()]
    return {sex: [row for row in rows if row["SEX"] == code] for code, sex in NIOSH_SEX.items()}


def read_ansur(men: Path, women: Path) -> dict[str, list[dict[str, str]]]:
    """Sex → rows."""
    rows = {}
    for sex, path in ((MEN, men), (WOMEN, women)):
        # The men's file has one byte that is not ASCII, in the name of a place.
        with path.open(encoding="latin-1", newline="") as file:
            rows[sex] = list(csv.DictReader(file))
    return rows


def summary(values: np.ndarray) -> tuple[int, float, float]:
    """Number, mean and standard deviation of what is there."""
    values = values[np.isfinite(values)]
    return len(values), float(values.mean()), float(values.std(ddof=1))


def summarise(
    survey: str, rows: Mapping[str, list[dict[str, str]]], scale: Mapping[str, float]
) -> dict[tuple[str, str], tuple[int, float, float]]:
    """(dimension, sex) → number, mean and standard deviation in millimetres; "log DIMENSION/size" has no unit.

    Args:
        survey: its name in ``surveys.COLUMNS``.
        rows: sex → people.
        scale: millimetres of a unit, for columns in another unit.
    """
    from n2f_jax.evaluation.surveys import COLUMNS, SIZE, SIZE_DIMENSIONS

    columns = COLUMNS[survey]
    result = {}
    for sex, people in rows.items():
        table = numbers(people, columns.values()) * [scale.get(column, 1.0) for column in columns.values()]
        for index, dimension in enumerate(columns):
            result[dimension, sex] = summary(table[:, index])
        if set(SIZE_DIMENSIONS) <= set(columns):
            chosen = [list(columns).index(dimension) for dimension in SIZE_DIMENSIONS]
            logs = np.log(table[:, chosen])
            size = logs.mean(axis=1)
            result[SIZE, sex] = summary(np.exp(size))
            for dimension, log in zip(SIZE_DIMENSIONS, logs.T, strict=True):
                result[f"log {dimension}/size", sex] = summary(log - size)
    return result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--niosh", type=Path, metavar="CSV")
    parser.add_argument("--ansur", type=Path, nargs=2, metavar=("MEN_CSV", "WOMEN_CSV"))
    flags = parser.parse_args()
    if not flags.niosh and not flags.ansur:
        parser.error("name at least one survey's files")
    from n2f_jax.evaluation.surveys import ANSUR, NIOSH

    surveys = {}
    try:
        if flags.niosh:
            surveys[NIOSH] = summarise(NIOSH, read_niosh(flags.niosh), {})
        if flags.ansur:
            # The one column in tenths of a millimetre.
            tenths = {"interpupillarybreadth": 0.1}
            surveys[ANSUR] = summarise(ANSUR, read_ansur(*flags.ansur), tenths)
    except (OSError, KeyError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for survey, table in surveys.items():
        for (dimension, sex), (count, mean, deviation) in table.items():
            digits = 4 if dimension.startswith("log ") else 2
            print(f"{survey:12} {dimension:36} {sex:6} {count:5} {mean:8.{digits}f} {deviation:6.{digits}f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
