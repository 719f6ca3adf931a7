"""Pixel3DMM's checkpoints: read without OmegaConf and Lightning, sized by their tensors, refused with the reason."""

import os
import sys

import pytest

torch = pytest.importorskip("torch")

from n2f_jax.frontends.files import FrontendFileError  # noqa: E402
from n2f_jax.frontends.pixel3dmm.checkpoint import load_network  # noqa: E402
from n2f_jax.frontends.torch_checkpoint import read_lightning  # noqa: E402

from .random_checkpoint import random_network, write_checkpoint  # noqa: E402

pytestmark = pytest.mark.slow

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("network", "settings", "prediction"),
    [
        ({}, {}, "normals"),
        (
            {"predictions": ("uv_map",), "num_views": 0, "view_width": 0},
            {"prediction_type": "uv_map"},
            "uv_map",
        ),
        (
            {"predictions": ("uv_map", "normals"), "disentangled": True, "position_side": 4},
            {"prediction_type": ["uv_map", "normals"], "pred_disentangled": True},
            "normals",
        ),
    ],
)
def test_the_network_comes_back(tmp_path, network, settings, prediction):
    written = random_network(**network)
    loaded = load_network(write_checkpoint(tmp_path / "some.ckpt", written, settings), prediction)
    assert loaded.config == written.config and not loaded.training
    expected, found = written(IMAGES), loaded(IMAGES)
    assert expected.keys() == found.keys()
    for name, values in expected.items():
        assert torch.allclose(values, found[name], atol=1e-5) and values.shape[2:] == (64, 64)
    # The prediction depends on the picture, and on where in it something is.
    moved = loaded(IMAGES.roll(16, dims=-1))[prediction].roll(-16, dims=-1)
    assert (moved - found[prediction])[..., 16:-16].abs().max() > 1e-3


def test_settings_lost(tmp_path):
    """Without settings it is taken for a released one: 8 heads, and it predicts what was asked for."""
    written = random_network(width=64, num_heads=8)
    loaded = load_network(write_checkpoint(tmp_path / "some.ckpt", written), "normals")
    assert torch.allclose(loaded(IMAGES)["normals"], written(IMAGES)["normals"], atol=1e-5)


def test_hyper_parameters_are_plain(tmp_path):
    state, parameters = read_lightning(write_checkpoint(tmp_path / "some.ckpt", random_network(), {}))
    assert parameters["gpu_id"] == [0] and parameters["model"]["num_heads"] == 2
    assert parameters["model"]["use_uv_enc"] is False and "vertex_weight_mask" in state


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"feature_map_type": "sapiens"}, "backbone is sapiens, the released ones' is DINO"),
        ({"use_uv_enc": True}, "use_uv_enc, and needs more than an image"),
        ({"n_facial_components": 6}, "FLAME parameters, not maps"),
        ({"prediction_type": "uv_map"}, "last layer has 12 outputs, which do not make uv_map"),
        (
            {"prediction_type": "albedo"},
            "predicts albedo, not normals: --pixel3dmm-normals takes the other one",
        ),
    ],
)
def test_other_networks_are_refused(tmp_path, settings, message):
    path = write_checkpoint(tmp_path / "some.ckpt", random_network(), settings)
    with pytest.raises(FrontendFileError, match=message):
        load_network(path, "normals")


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(FrontendFileError, match=r"is needed: .*third_party/README\.md.*--pixel3dmm-uv=FILE"):
        load_network(None, "uv_map")
    with pytest.raises(FrontendFileError, match=r"missing at .*nowhere\.ckpt"):
        load_network(tmp_path / "nowhere.ckpt", "normals")
    page = tmp_path / "page.ckpt"
    page.write_text("<!DOCTYPE html><title>Google Drive - Quota exceeded</title>")
    with pytest.raises(FrontendFileError, match="web page"):
        load_network(page, "normals")

    good = write_checkpoint(tmp_path / "good.ckpt", random_network(), {})
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    with pytest.raises(FrontendFileError, match="cut off: download it again"):
        load_network(cut, "normals")
    torch.save({"weights": torch.ones(3)}, tmp_path / "other.ckpt")
    with pytest.raises(FrontendFileError, match="no 'state_dict'"):
        load_network(tmp_path / "other.ckpt", "normals")

    lacking = write_checkpoint(tmp_path / "lacking.ckpt", random_network(), {}, drop=("t_conv2.bias",))
    with pytest.raises(FrontendFileError, match=r"does not fit .*98b5d79: no t_conv2\.bias"):
        load_network(lacking, "normals")
    none = write_checkpoint(
        tmp_path / "none.ckpt", random_network(), {}, drop=("img_encoder.model.pos_embed",)
    )
    with pytest.raises(FrontendFileError, match=r"it has no 'img_encoder\.model\.pos_embed'"):
        load_network(none, "normals")


def test_an_old_pytorch_is_named(tmp_path, monkeypatch):
    path = write_checkpoint(tmp_path / "good.ckpt", random_network(), {})
    monkeypatch.setattr(torch, "__version__", "2.3.1+cu118")
    with pytest.raises(ImportError, match=r"PyTorch 2\.3\.1.*pip install 'torch>=2\.6'"):
        load_network(path, "normals")


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Imported:
    def __reduce__(self):
        return __import__, ("antigravity",)


def test_nothing_in_the_file_is_run(tmp_path):
    attack = write_checkpoint(
        tmp_path / "bad.ckpt", random_network(), {}, extra=Attack(str(tmp_path / "attacked"))
    )
    with pytest.raises(FrontendFileError, match="safely"):
        load_network(attack, "normals")
    assert not (tmp_path / "attacked").exists()
    harmless = write_checkpoint(tmp_path / "odd.ckpt", random_network(), {}, extra=Imported())
    load_network(harmless, "normals")
    assert "antigravity" not in sys.modules
