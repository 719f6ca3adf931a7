"""The picture that explains a head model: arrows where the axes are, moved parts where the parameters say."""

import numpy as np
import pytest

from n2f_jax.visualization.head_model_sheet import AXES, CELL, head_model_sheet

pytestmark = pytest.mark.medium

STRIP = 26


@pytest.fixture(scope="module")
def cells(open_head):
    sheet = head_model_sheet(open_head)
    rows, columns = sheet.shape[0] // (CELL + STRIP), sheet.shape[1] // CELL
    assert sheet.shape == (rows * (CELL + STRIP), columns * CELL, 3)
    return [
        sheet[r * (CELL + STRIP) + STRIP : (r + 1) * (CELL + STRIP), c * CELL : (c + 1) * CELL].astype(int)
        for r in range(rows)
        for c in range(columns)
    ]


def _centre_of(cell, colour):
    rows, columns = np.nonzero((np.abs(cell - colour) < 12).all(axis=-1))
    assert rows.size > 50
    return rows.mean(), columns.mean()


def test_arrows_point_along_the_axes(cells):
    front, side = cells[:2]
    _, column = _centre_of(front, AXES[0])
    assert column > CELL / 2 + 30  # x: to the subject's left, the picture's right
    assert _centre_of(front, AXES[1])[0] < CELL / 2 - 30  # y: up
    assert _centre_of(side, AXES[2])[1] < CELL / 2 - 30  # z: out of the face, which looks to the left here
    # The nose is the leftmost part of the side view's head.
    red, green, blue = np.moveaxis(side, -1, 0)
    skin = (red > green) & (green > blue) & (red - blue > 20) & (red - green < 80)
    assert CELL * 0.1 < np.nonzero(skin)[1].min() < CELL * 0.35


def test_each_parameter_moves_its_part(cells):
    # All from the front: cell 3 is the jaw, 9 the left lid; cell 11 (an expression) leaves the eyes alone.
    grey = [cell.mean(axis=-1) for cell in cells]
    lid, eye = grey[9], grey[8]
    changed = np.abs(lid - eye) > 20
    rows, columns = np.nonzero(changed)
    assert (columns > CELL / 2).mean() > 0.95  # the subject's left is at the right
    assert rows.mean() < CELL / 2
    jaw = np.abs(grey[3] - grey[11]) > 20
    assert np.nonzero(jaw)[0].mean() > CELL / 2
