"""A folder of files as FLAME's users have it: the same formats, a random small model, real chumpy objects."""

import inspect
import io
import pickle
import struct
import sys
from pathlib import Path

import numpy as np
import scipy.sparse

from ..random_model import random_arrays

NUM_SHAPE, NUM_EXPRESSION = 300, 100


def flame_arrays(num_shape=NUM_SHAPE, num_expression=NUM_EXPRESSION):
    """FLAME's arrays with FLAME's number of directions on a small mesh."""
    return random_arrays(num_shape=num_shape, num_expression=num_expression)


def chumpy_array(monkeypatch):
    """``chumpy.array`` of a current fork, which pickles under the name of the original package."""
    # The fork still calls a function that Python 3.11 dropped.
    monkeypatch.setattr(inspect, "getargspec", inspect.getfullargspec, raising=False)
    import chumpy_fork
    import chumpy_fork.ch

    monkeypatch.setitem(sys.modules, "chumpy", chumpy_fork)
    monkeypatch.setitem(sys.modules, "chumpy.ch", chumpy_fork.ch)
    monkeypatch.setattr(chumpy_fork.ch.Ch, "__module__", "chumpy.ch")
    return chumpy_fork.array


class Python2Pickler(pickle._Pickler):
    """Protocol 2 as Python 2 wrote it: bytes are strings, NumPy's modules have their old names."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_bytes(self, obj):
        self.write(b"T" + struct.pack("<i", len(obj)) + obj)
        self.memoize(obj)

    dispatch[bytes] = save_bytes


def python2_dumps(value) -> bytes:
    stream = io.BytesIO()
    Python2Pickler(stream, 2, fix_imports=True).dump(value)
    return stream.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.").replace(b"_csc\n", b"csc\n")


def model_dict(arrays, array=lambda x: x):
    """What ``generic_model.pkl`` holds; ``array`` wraps what FLAME keeps in chumpy."""
    return {
        "v_template": array(arrays["v_template"]),
        "shapedirs": array(arrays["shapedirs"]),
        "posedirs": arrays["posedirs"],
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "J": np.zeros((5, 3)),
        "kintree_table": arrays["kintree_table"].astype(np.int64),
        "weights": array(arrays["weights"]),
        "f": arrays["f"].astype(np.uint32),
        "bs_style": "lbs",
        "bs_type": "lrotmin",
    }


def landmark_dict(arrays):
    """What DECA's ``landmark_embedding.npy`` holds, its tensors as arrays."""
    rng = np.random.default_rng(1)
    return {
        "static_lmk_faces_idx": arrays["full_lmk_faces_idx"][17:],
        "static_lmk_bary_coords": arrays["full_lmk_bary_coords"][17:],
        "dynamic_lmk_faces_idx": arrays["dynamic_lmk_faces_idx"],
        "dynamic_lmk_bary_coords": arrays["dynamic_lmk_bary_coords"],
        "full_lmk_faces_idx": arrays["full_lmk_faces_idx"][None],
        "full_lmk_bary_coords": arrays["full_lmk_bary_coords"][None],
        "unused": rng.normal(size=3),
    }


def write_flame_folder(folder: Path, arrays, *, dumps=python2_dumps, array=lambda x: x, eyelids=True) -> Path:
    """Writes model, landmarks, masks and (if asked) eyelids; returns the model's path."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "generic_model.pkl"
    model.write_bytes(dumps(model_dict(arrays, array)))
    np.save(folder / "landmark_embedding.npy", landmark_dict(arrays), allow_pickle=True)
    masks = {
        "face": np.arange(10),
        "lips": np.arange(3),
        "eye_region": np.arange(3, 9),
        "left_ear": np.array([7]),
    }
    (folder / "FLAME_masks.pkl").write_bytes(python2_dumps(masks))
    if eyelids:
        np.save(folder / "l_eyelid.npy", arrays["l_eyelid"].astype(np.float32))
        np.save(folder / "r_eyelid.npy", arrays["r_eyelid"].astype(np.float32))
    return model
