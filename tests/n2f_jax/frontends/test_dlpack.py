"""PyTorch's memory is JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from n2f_jax.frontends.dlpack import to_jax  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bfloat16])
def test_no_copy(dtype):
    tensor = (torch.rand(2, 64, 64, 3) * 200).to(dtype)
    assert tensor.data_ptr() % 64 == 0  # what JAX needs to take it as it is
    array = to_jax(tensor)
    assert isinstance(array, jax.Array) and array.unsafe_buffer_pointer() == tensor.data_ptr()
    assert np.array_equal(np.asarray(array.astype(jnp.float32)), tensor.float().numpy())


def test_the_array_outlives_the_tensor():
    tensor = torch.arange(1 << 16, dtype=torch.float32)
    array = to_jax(tensor)
    del tensor
    torch.full((1 << 16,), -1.0)  # would take the freed memory
    assert np.array_equal(array, np.arange(1 << 16))


def test_other_layouts_and_gradients():
    tensor = torch.rand(8, 3, 16, requires_grad=True).permute(0, 2, 1)
    assert np.array_equal(to_jax(tensor), tensor.detach().numpy())
