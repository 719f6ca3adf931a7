"""Every file that FLAME's users have, made here in the same format, gives the same model."""

import logging
import pickle
import struct
from pathlib import Path

import jax
import numpy as np
import pytest

import flame_jax
from flame_jax import HeadModelError
from flame_jax.files.contents import FileError, read
from flame_jax.loading import head_model_from_arrays

from .flame_folder import (
    chumpy_array,
    flame_arrays,
    landmark_dict,
    model_dict,
    python2_dumps,
    write_flame_folder,
)
from .torch_programs import tensor_program

ARRAYS = flame_arrays()


def expected(arrays=ARRAYS, **without):
    return head_model_from_arrays({k: v for k, v in arrays.items() if k not in without}, default_name="x")


def assert_same(model, wanted, fields=None):
    fields = fields or (
        "v_template",
        "shapedirs",
        "exprdirs",
        "posedirs",
        "eyelids",
        "J_regressor",
        "weights",
        "faces",
    )
    for field in fields:
        np.testing.assert_allclose(getattr(model, field), getattr(wanted, field), atol=1e-7, err_msg=field)
    assert model.parents == wanted.parents


@pytest.mark.parametrize(
    "dumps", [python2_dumps, lambda x: pickle.dumps(x, 0), lambda x: pickle.dumps(x, 2), pickle.dumps]
)
def test_a_model_pickle_with_real_chumpy_arrays(tmp_path, monkeypatch, dumps):
    path = write_flame_folder(tmp_path / "flame", ARRAYS, dumps=dumps, array=chumpy_array(monkeypatch))
    model = flame_jax.load_head_model(path)
    assert_same(model, expected())
    assert (model.num_shape, model.num_expression, model.has_pose_correctives) == (300, 100, True)
    for a, b in zip(jax.tree.leaves(model.landmarks), jax.tree.leaves(expected().landmarks), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    np.testing.assert_array_equal(model.masks["mouth"], model.masks["lips"])
    assert {"face", "eyes", "left_ear"} <= set(model.masks)
    assert_same(flame_jax.load_head_model(tmp_path / "flame"), model)  # the folder will do


def test_a_model_with_100_and_50_directions_and_without_eyelids(tmp_path):
    arrays = flame_arrays(100, 50)
    path = write_flame_folder(tmp_path, arrays, eyelids=False)
    model = flame_jax.load_head_model(path)
    assert (model.num_shape, model.num_expression) == (100, 50)
    assert not np.asarray(model.eyelids).any()
    # Eyelids from elsewhere.
    other = write_flame_folder(tmp_path / "other", arrays).parent
    assert_same(flame_jax.load_head_model(path, eyelids=other), expected(arrays))


def test_smplx_landmark_files(tmp_path):
    path = write_flame_folder(tmp_path, ARRAYS)
    (tmp_path / "landmark_embedding.npy").unlink()
    landmarks = landmark_dict(ARRAYS)
    static = {
        "lmk_face_idx": landmarks["static_lmk_faces_idx"].astype(np.uint32),
        "lmk_b_coords": landmarks["static_lmk_bary_coords"],
    }
    moving = {
        "lmk_face_idx": landmarks["dynamic_lmk_faces_idx"],
        "lmk_b_coords": landmarks["dynamic_lmk_bary_coords"],
    }
    (tmp_path / "flame_static_embedding.pkl").write_bytes(python2_dumps(static))
    with pytest.raises(HeadModelError, match=r"flame_dynamic_embedding\.npy"):
        flame_jax.load_head_model(path)
    np.save(tmp_path / "flame_dynamic_embedding.npy", moving, allow_pickle=True)
    model = flame_jax.load_head_model(path)
    np.testing.assert_array_equal(model.landmarks.static_faces[17:], ARRAYS["full_lmk_faces_idx"][17:])
    np.testing.assert_array_equal(model.landmarks.static_faces[:17], ARRAYS["dynamic_lmk_faces_idx"][0])
    np.testing.assert_array_equal(model.landmarks.dynamic_faces, ARRAYS["dynamic_lmk_faces_idx"])


def test_landmarks_with_torch_tensors_in_them(tmp_path):
    """DECA's file: the contour's arrays are tensors inside the pickle; torch is not there."""
    path = write_flame_folder(tmp_path, ARRAYS)
    contents = landmark_dict(ARRAYS)
    tensors = {
        "dynamic_lmk_faces_idx": tensor_program(
            "LongStorage", contents["dynamic_lmk_faces_idx"].astype(np.int64)
        ),
        "dynamic_lmk_bary_coords": tensor_program("DoubleStorage", contents["dynamic_lmk_bary_coords"]),
    }
    rest = pickle.dumps({k: v for k, v in contents.items() if k not in tensors}, 2)
    extra = b"".join(
        b"X" + struct.pack("<i", len(key)) + key.encode() + program + b"s" for key, program in tensors.items()
    )
    program = rest[:-1] + extra + b"."
    # As np.save writes one object: a header, then the pickle of an array without axes.
    file = tmp_path / "landmark_embedding.npy"
    with file.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        stream.write(program)
    loaded = read(file)
    for key in contents:
        np.testing.assert_array_equal(loaded[key], contents[key], err_msg=key)
    assert_same(flame_jax.load_head_model(path), expected())
    file.write_bytes(file.read_bytes().replace(b"LongStorage", b"ByteStorage"))
    with pytest.raises(FileError, match="torch storage"):
        read(file)


def test_texture_coordinates(tmp_path):
    path = write_flame_folder(tmp_path, ARRAYS)
    vt, ft = np.random.default_rng(0).random((12, 2)), np.random.default_rng(1).integers(0, 12, (90, 3))
    lines = [f"v {x} 0 0" for x in range(60)] + [f"vt {u} {v}" for u, v in vt]
    corners = zip(ARRAYS["f"] + 1, ft + 1, strict=True)
    lines += ["f " + " ".join(f"{a}/{b}" for a, b in zip(v, t, strict=True)) for v, t in corners]
    (tmp_path / "head_template.obj").write_text("\n".join(lines))
    model = flame_jax.load_head_model(path)
    np.testing.assert_allclose(model.uv, vt, atol=1e-6)
    np.testing.assert_array_equal(model.uv_faces, ft)
    (tmp_path / "head_template.obj").write_text("f 1 2 3")
    with pytest.raises(HeadModelError, match="texture coordinates"):
        flame_jax.load_head_model(path)


def test_path_variable_and_log(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="flame_jax")
    monkeypatch.delenv("FLAME_MODEL_PATH", raising=False)
    assert flame_jax.load_head_model().name == "open-head"
    assert "open_head.npz (the open head, as no path was given)" in caplog.text
    path = write_flame_folder(tmp_path / "flame", ARRAYS)
    monkeypatch.setenv("FLAME_MODEL_PATH", str(path.parent))
    assert flame_jax.load_head_model().name == "generic_model"
    assert "with landmark_embedding.npy, FLAME_masks.pkl" in caplog.text
    assert "from FLAME_MODEL_PATH" in caplog.text
    monkeypatch.setenv("FLAME_MODEL_PATH", str(tmp_path / "absent.pkl"))
    with pytest.raises(HeadModelError, match=r"absent\.pkl.*flame\.is\.tue\.mpg\.de"):
        flame_jax.load_head_model()


def _smplx_dict():
    arrays = model_dict(ARRAYS)
    return arrays | {"kintree_table": np.zeros((2, 55), np.int64), "weights": np.ones((60, 55))}


WRONG = {
    "empty": (b"", "is empty"),
    "login page": (b"<!DOCTYPE html><html><title>Sign in</title>", "login page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "gzip": (b"\x1f\x8b\x08\x00", "unpack it"),
    "zip of other things": (None, "no .npz"),
    "truncated": (python2_dumps(model_dict(ARRAYS))[:-2000], "cut off"),
    "SMPL-X": (pickle.dumps(_smplx_dict(), 2), "not a FLAME-format model"),
    "other vertices": (
        pickle.dumps(model_dict(ARRAYS) | {"weights": np.ones((61, 5))}, 2),
        r"weights has shape \(61, 5\), expected \(60, 5\)",
    ),
    "no model": (pickle.dumps({"betas": np.zeros(10)}), "holds no v_template.*betas"),
    "a list": (pickle.dumps([1, 2]), "holds a list and no model"),
    "NaN": (pickle.dumps(model_dict(ARRAYS) | {"v_template": np.full((60, 3), np.nan)}), "not finite"),
    "words": (pickle.dumps(model_dict(ARRAYS) | {"v_template": np.full((60, 3), "a")}), "no numbers"),
    "a class of someone's": (pickle.dumps(model_dict(ARRAYS) | {"v_template": Path("x")}, 2), "pathlib"),
    "unusual number": (
        pickle.dumps(model_dict(ARRAYS) | {"shapedirs": np.zeros((60, 3, 33))}),
        "33 directions; say how many",
    ),
    "indices beyond": (pickle.dumps(model_dict(ARRAYS) | {"f": np.full((90, 3), 60)}), "indices outside"),
}


def _write_wrong(path: Path, content: bytes | None) -> Path:
    if content is None:
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "unpack me")
    else:
        path.write_bytes(content)
    return path


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_model_is_named_with_its_fault(tmp_path, case):
    content, message = WRONG[case]
    path = _write_wrong(tmp_path / "generic_model.pkl", content)
    with pytest.raises(HeadModelError, match=message) as caught:
        flame_jax.load_head_model(path)
    assert str(path) in str(caught.value)


def test_folders_without_a_clear_model(tmp_path):
    with pytest.raises(HeadModelError, match="no model file"):
        flame_jax.load_head_model(tmp_path)
    for name in ("a.pkl", "b.pkl"):
        (tmp_path / name).write_bytes(python2_dumps(model_dict(ARRAYS)))
    with pytest.raises(HeadModelError, match=r"several \.pkl files"):
        flame_jax.load_head_model(tmp_path)


@pytest.fixture(scope="module")
def convert():
    from n2f_jax.cli.convert import head_model

    return lambda *arguments: head_model([str(argument) for argument in arguments])


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_converting_and_reading_back(convert, tmp_path, capsys, monkeypatch, suffix):
    source = write_flame_folder(tmp_path / "in", ARRAYS, array=chumpy_array(monkeypatch))
    out = tmp_path / f"flame2020.{suffix}"
    assert convert(source, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "60 vertices, 90 triangles, 300 shape and 100 expression directions" in printed
    assert "without texture coordinates" in printed
    model, original = flame_jax.load_head_model(out), flame_jax.load_head_model(source)
    assert model.name == "flame2020"
    for a, b in zip(
        jax.tree.leaves((model.landmarks, model.masks)),
        jax.tree.leaves((original.landmarks, original.masks)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    for field in (
        "v_template",
        "shapedirs",
        "exprdirs",
        "posedirs",
        "eyelids",
        "J_regressor",
        "weights",
        "faces",
    ):
        np.testing.assert_array_equal(getattr(model, field), getattr(original, field), err_msg=field)


@pytest.mark.parametrize("case", WRONG)
def test_converting_what_is_no_model_is_one_line_and_exit_code_2(convert, tmp_path, capsys, case):
    source = _write_wrong(tmp_path / "in.pkl", WRONG[case][0])
    out = tmp_path / "out.npz"
    out.write_bytes(b"before")
    assert convert(source, "--out", out) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert out.read_bytes() == b"before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pkl", "out.npz"]


def test_a_wrong_suffix(convert, tmp_path, capsys):
    source = write_flame_folder(tmp_path / "in", ARRAYS)
    assert convert(source, "--out", tmp_path / "out.pkl") == 2
    assert "not .pkl" in capsys.readouterr().err
