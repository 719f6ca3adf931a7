"""What regressions on pictures of known people are judged by: people who are held out, and how far places are off."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int


def folds_of_people(people: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Which of five folds each picture is in; all pictures of a person are in one.

    Raises:
        ValueError: fewer than ten people.
    """
    names, people = np.unique(people, return_inverse=True)
    if len(names) < 10:
        raise ValueError(f"{len(names)} people are too few: take 10 or more")
    return np.random.default_rng(0).permutation(len(names))[people] % 5


def displacement(left: Float[np.ndarray, "N K"], gram: Float[np.ndarray, "K K"]) -> float:
    """Root mean square displacement of the places behind ``gram``."""
    return float(np.sqrt(np.mean(np.einsum("ns,st,nt->n", left, gram, left))))
