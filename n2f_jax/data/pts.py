"""The ``.pts`` landmark format of 300W and menpo.

::

    version: 1
    n_points: 68
    {
    446.000 91.000
    …
    }

Pixel centres count from 1, as in MATLAB: the centre of the image's first pixel is (1, 1), which is (0.5, 0.5)
in this project's pixels. So ``u = u_pts − 0.5``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from flame_jax.files.outside import MissingFileError, OutsideFileError, one_line, read_regular_file, reason
from n2f_jax.runtime.atomic_files import write_text

_MAX_BYTES = 1 << 24


class PtsError(ValueError):
    """A file that holds no landmarks; the message names it and says why."""


class MissingPtsError(PtsError, FileNotFoundError):
    """There is no such file."""


def read_pts(path: str | Path) -> Float[np.ndarray, "n 2"]:
    """Landmarks of a ``.pts`` file.

    As menpo's reader: whatever stands before the brace is a header, of which only ``n_points`` is looked at, and of
    each line the first two numbers count.

    Args:
        path: the file.

    Returns:
        ``(n, 2)`` float64 in pixels, u = 0 the image's left edge. NaN where the file has NaN: a point nobody marked.

    A file has at most 16 MiB; reading takes about 20 times its size.

    Raises:
        PtsError: missing (``MissingPtsError``), no regular file, larger, or the file does not hold what its header
            announces; the message is one line.
    """
    try:
        text = read_regular_file(path, _MAX_BYTES, "landmark files").decode("utf-8-sig", errors="replace")
    except MissingFileError as error:
        raise MissingPtsError(f"{path}: {error}") from error
    except OutsideFileError as error:
        raise PtsError(f"{path}: {error}") from error
    header, _, rest = text.partition("{")
    body, closing, _ = rest.partition("}")
    if not closing:
        raise PtsError(f"{path}: no point list between braces")
    try:
        lines = [line.split() for line in body.splitlines() if line.strip()]
        points = np.array([[float(u), float(v)] for u, v, *_ in lines])
        announced = [int(line.split(":")[1]) for line in header.splitlines() if line.startswith("n_points")]
    except (ValueError, IndexError) as error:
        raise PtsError(f"{path}: not a .pts file ({reason(error)})") from error
    if not len(points) or announced not in ([], [len(points)]):
        raise PtsError(f"{path}: {len(points)} points, header says {one_line(str(announced), 60)}")
    if np.isinf(points).any():
        raise PtsError(f"{path}: a point that is infinite")
    return points - 0.5


def write_pts(path: str | Path, landmarks: Float[np.ndarray, "n 2"]) -> None:
    """Writes landmarks, given in pixels with u = 0 at the image's left edge; written atomically."""
    points = np.asarray(landmarks, np.float64) + 0.5
    lines = [f"{u:.3f} {v:.3f}" for u, v in points]
    text = "\n".join(["version: 1", f"n_points: {len(points)}", "{", *lines, "}"])
    write_text(path, text + "\n")
