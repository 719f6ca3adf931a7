"""Pixel3DMM's conventions around its network: mirrored averaging, order and signs, precision, batches."""

import pytest

torch = pytest.importorskip("torch")

from n2f_jax.frontends.pixel3dmm import predict  # noqa: E402

from .random_checkpoint import random_network  # noqa: E402

pytestmark = pytest.mark.slow

CROPS = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Constant(torch.nn.Module):
    """Predicts the same at every pixel of the images, and something else for their mirror images."""

    def __init__(self, prediction, plain, mirrored):
        super().__init__()
        self.name, self.values = prediction, torch.nn.Parameter(torch.tensor([plain, mirrored]))

    def forward(self, images):
        values = self.values.repeat_interleave(len(images) // 2, dim=0)
        return {self.name: values[:, :, None, None].expand(-1, -1, *images.shape[2:])}


def test_order_and_signs_of_normals():
    """The network says (x, −z, −y); a symmetric one says the same of the mirror image with x negated."""
    x, y, z = 0.48, 0.6, 0.64
    network = Constant("normals", [2 * x, -2 * z, -2 * y], [-2 * x, -2 * z, -2 * y])
    normals = predict.predict_normals(network, CROPS)
    assert normals.shape == (3, 64, 64, 3)
    assert torch.allclose(normals, torch.tensor([x, y, z]).expand_as(normals), atol=1e-6)


def test_order_and_signs_of_uv():
    """The network says 2u − 1 and 1 − 2v (v from the top); the mirror image's u is negated and 0.015 added."""
    network = Constant("uv_map", [0.4, -0.2], [-0.385, -0.2])
    uv = predict.predict_uv(network, CROPS)
    assert torch.allclose(uv, torch.tensor([0.4, 0.2]).expand(3, 64, 64, 2), atol=1e-6)
    beyond = predict.predict_uv(Constant("uv_map", [1.3, 1.3], [-1.3, 1.3]), CROPS)
    assert beyond[..., 0].max() <= 1 and beyond[..., 1].min() >= -1


@pytest.mark.parametrize("kind", ["normals", "uv_map"])
def test_a_mirrored_photograph_has_the_mirrored_prediction(kind):
    network = random_network((kind,))
    function = predict.predict_normals if kind == "normals" else predict.predict_uv
    plain, mirrored = function(network, CROPS), function(network, CROPS.flip(2)).flip(2)
    mirrored[..., 0] *= -1
    if kind == "uv_map":
        mirrored[..., 0] += predict.UV_MIRROR_SHIFT
    assert torch.allclose(plain, mirrored, atol=1e-5)
    assert plain.std() > 0.05


def test_batches_are_cut(monkeypatch):
    network = random_network()
    whole = predict.predict_normals(network, CROPS)
    monkeypatch.setattr(predict, "BATCH_SIZE", 2)
    assert torch.allclose(predict.predict_normals(network, CROPS), whole, atol=1e-5)


@pytest.mark.parametrize(("precision", "degrees"), [("bfloat16", 3.0), ("float16", 0.5)])
def test_reduced_precision(precision, degrees):
    network = random_network()
    full, reduced = (predict.predict_normals(network, CROPS, p) for p in ("float32", precision))
    assert reduced.dtype == torch.float32
    angle = torch.rad2deg(torch.arccos((full * reduced).sum(-1).clamp(-1, 1)))
    assert 0 < angle.mean() < degrees, angle.mean()
