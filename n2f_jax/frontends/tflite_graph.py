"""A ``.tflite`` network as a JAX function: each operator of its graph, in the layout of the file (channels last).

The runtime's own kernels are the reference (``tests/n2f_jax/frontends/test_tflite_graph.py``). Products are of full
float32 precision on every device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from flame_jax.files.outside import reason
from n2f_jax.frontends.tflite_file import TRANSPOSED, Operator, TfliteError, TfliteFile, read_tflite

_PRECISION = lax.Precision.HIGHEST
_LAYOUT = ("NHWC", "HWIO", "NHWC")
Weights = dict[str, Float[Array, "..."]]


class TfliteGraph:
    """A network whose weights are arguments, so that they are not copied into every program that uses them.

    >>> graph = TfliteGraph(path)
    >>> outputs = jax.jit(graph.apply)(graph.weights, images)  # (B, S, S, 3)

    Args:
        path: a file with one float32 input whose batch axis is one.

    Attributes:
        weights: float32 NumPy arrays, a plain dict.
        input_shape: of one sample, without batch axis.
        outputs: their names, in the file's order.

    Raises:
        FileNotFoundError: there is none.
        ImportError: ``tflite`` is not installed.
        TfliteError: damaged, or with an operator that is not known here, which the message names.
    """

    def __init__(self, path: str | Path):
        file = read_tflite(path)
        unknown = sorted({operator.name for operator in file.operators} - set(_OPERATORS))
        if unknown:
            raise TfliteError(f"{path}: asks for {', '.join(unknown[:5])}, which is not known here")
        if len(file.inputs) != 1 or file.shapes[file.inputs[0]][:1] != (1,):
            raise TfliteError(f"{path}: has other inputs than one with a batch axis of one")
        self._file = file
        self.weights: dict[str, np.ndarray] = {
            str(i): value for i, value in file.constants.items() if value.dtype == np.float32
        }
        self.input_shape = file.shapes[file.inputs[0]][1:]
        self.outputs = tuple(file.names[i] for i in file.outputs)
        try:  # nothing is computed: shapes alone
            jax.eval_shape(
                self.apply, self.weights, jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)
            )
        except TfliteError as error:
            raise TfliteError(f"{path}: {error}") from error

    @property
    def input_size(self) -> int:
        """Side of the square input image in pixels."""
        return self.input_shape[0]

    def apply(
        self, weights: Weights, images: Float[Array, "B ..."], tensors: Sequence[int] = ()
    ) -> dict[str, Float[Array, "B ..."]]:
        """Outputs by name, each with a batch axis before the axes that the file gives it.

        Args:
            weights: as ``weights``.
            images: ``(B, *input_shape)``.
            tensors: numbers of others that are wanted too; by ``tensor_name``.
        """
        found = self.tensors(weights, images)
        outputs = {name: found[i] for name, i in zip(self.outputs, self._file.outputs, strict=True)}
        return outputs | {tensor_name(i): found[i] for i in tensors}

    def tensors(self, weights: Weights, images: Float[Array, "B ..."]) -> dict[int, Float[Array, "B ..."]]:
        """Every tensor of the graph that depends on the input, by its number in the file."""
        return jax.vmap(functools.partial(_run, self._file), in_axes=(None, 0))(weights, images)


def tensor_name(number: int) -> str:
    """What a tensor that is no output goes by."""
    return f"tensor_{number}"


def _run(file: TfliteFile, weights: Weights, image: Float[Array, "..."]) -> dict[int, Float[Array, "..."]]:
    """One sample through the steps."""
    found = {file.inputs[0]: image[None]}
    for step, operator in enumerate(file.operators):
        (output,) = operator.outputs if len(operator.outputs) == 1 else (None,)
        arguments = [_argument(i, file, weights, found) for i in operator.inputs]
        try:
            if output is None:
                raise ValueError("more than one output")
            value = _OPERATORS[operator.name](operator, *arguments)
            if value.shape != file.shapes[output] or value.dtype != jnp.float32:
                raise ValueError(
                    f"gives {value.dtype}{value.shape} where the file says {file.shapes[output]}"
                )
        except Exception as error:  # damaged options and shapes make JAX raise anything
            raise TfliteError(f"step {step}, {operator.name}, cannot be: {reason(error)}") from error
        found[output] = value
    return found


def _argument(number: int, file: TfliteFile, weights: Weights, found: Mapping[int, Array]) -> Any:
    """A tensor: computed, a weight, whole numbers (NumPy, known while tracing), or None for one left out."""
    if number < 0:
        return None
    if number in found:
        return found[number]
    return weights[str(number)] if str(number) in weights else file.constants[number]


def _activated(x: Array, operator: Operator) -> Array:
    name = operator.options.get("activation", "none")
    if name == "sign_bit":
        raise ValueError("the activation sign_bit is not known here")
    return {
        "none": lambda x: x,
        "relu": lambda x: jnp.maximum(x, 0.0),
        "relu_n1_to_1": lambda x: jnp.clip(x, -1.0, 1.0),
        "relu6": lambda x: jnp.clip(x, 0.0, 6.0),
        "tanh": jnp.tanh,
    }[name](x)


def _same_rank(*arrays: Array) -> list[Array]:
    """Axes of one are put before the shorter shapes, as NumPy broadcasts."""
    rank = max(x.ndim for x in arrays)
    return [x.reshape((1,) * (rank - x.ndim) + x.shape) for x in arrays]


def _binary(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def step(operator, x, y):
        return _activated(function(*_same_rank(x, y)), operator)

    return step


def _conv_2d(operator, x, kernel, bias=None):
    """Kernel (out, height, width, in) of the file."""
    o = operator.options
    stride, dilation = (o["stride_h"], o["stride_w"]), (o["dilation_h"] or 1, o["dilation_w"] or 1)
    groups = x.shape[-1] // kernel.shape[-1]
    if kernel.shape[1:3] == stride == (1, 1) and groups == 1:
        out = jnp.einsum("nhwi,oi->nhwo", x, kernel[:, 0, 0], precision=_PRECISION)
    else:
        out = lax.conv_general_dilated(
            x,
            kernel.transpose(1, 2, 3, 0),
            stride,
            o["padding"],
            rhs_dilation=dilation,
            dimension_numbers=_LAYOUT,
            feature_group_count=groups,
            precision=_PRECISION,
        )
    return _activated(_plus(out, bias), operator)


def _transposed_conv_2d(operator, x, kernel, bias=None):
    """Kernel (out, height, width, in) of the file, as large as its strides: each pixel becomes a block of its own."""
    o = operator.options
    height, width = kernel.shape[1:3]
    if (height, width) != (o["stride_h"], o["stride_w"]):
        raise ValueError(f"a kernel of {height} × {width} whose copies overlap")
    blocks = jnp.einsum("nhwi,oabi->nhawbo", x, kernel, precision=_PRECISION)
    batch, rows, _, columns, _, channels = blocks.shape
    return _plus(blocks.reshape(batch, rows * height, columns * width, channels), bias)


def _depthwise_conv_2d(operator, x, kernel, bias=None):
    """Kernel (1, height, width, channels · multiplier) of the file."""
    o = operator.options
    stride, dilation = (o["stride_h"], o["stride_w"]), (o["dilation_h"] or 1, o["dilation_w"] or 1)
    height, width, channels = kernel.shape[1:]
    if channels == x.shape[-1]:
        out = _depthwise(x, kernel[0], stride, dilation, o["padding"])
    else:
        out = lax.conv_general_dilated(
            x,
            kernel.reshape(height, width, 1, channels),
            stride,
            o["padding"],
            rhs_dilation=dilation,
            dimension_numbers=_LAYOUT,
            feature_group_count=x.shape[-1],
            precision=_PRECISION,
        )
    return _activated(_plus(out, bias), operator)


def _depthwise(x, kernel, stride, dilation, padding):
    """A sum of shifted products, which compiles to one loop; XLA's grouped convolution is slow on CPUs."""
    height, width = kernel.shape[:2]
    window = [(n - 1) * d + 1 for n, d in zip((height, width), dilation, strict=True)]
    pads = lax.padtype_to_pads(x.shape[1:3], window, stride, padding)
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = ((n - w) // s + 1 for n, w, s in zip(x.shape[1:3], window, stride, strict=True))
    if rows < 1 or columns < 1:
        raise ValueError(f"a window of {window} in {x.shape}")
    total = 0.0
    for i in range(height):
        for j in range(width):
            v, u = i * dilation[0], j * dilation[1]
            part = x[
                :,
                v : v + (rows - 1) * stride[0] + 1 : stride[0],
                u : u + (columns - 1) * stride[1] + 1 : stride[1],
            ]
            total = total + part * kernel[i, j].reshape(1, 1, 1, -1)
    return total


def _plus(x, bias):
    return x if bias is None else x + bias.reshape((1,) * (x.ndim - 1) + (-1,))


def _fully_connected(operator, x, kernel, bias=None):
    """Kernel (out, in) of the file."""
    kept = x.shape[:-1] if operator.options["keep_dims"] else (x.size // kernel.shape[1],)
    flat = x.reshape(-1, kernel.shape[1])
    out = _plus(jnp.einsum("ni,oi->no", flat, kernel, precision=_PRECISION), bias)
    return _activated(out.reshape(*kept, kernel.shape[0]), operator)


def _pool(x, operator, start, function):
    o = operator.options
    window, stride = (1, o["height"], o["width"], 1), (1, o["stride_h"], o["stride_w"], 1)
    return lax.reduce_window(x, start, function, window, stride, o["padding"])


def _max_pool_2d(operator, x):
    return _activated(_pool(x, operator, -jnp.inf, lax.max), operator)


def _average_pool_2d(operator, x):
    """Over the pixels that there are: padding does not count."""
    count = _pool(jnp.ones_like(x), operator, 0.0, lax.add)
    return _activated(_pool(x, operator, 0.0, lax.add) / count, operator)


def _pad(operator, x, widths, value=None):
    pairs = [tuple(pair) for pair in widths.reshape(-1, 2).tolist()]
    if min(min(pair) for pair in pairs) < 0 or (value is not None and operator.name == "PAD"):
        raise ValueError("widths below 0, or more than two inputs")
    return jnp.pad(x, pairs, constant_values=0.0 if value is None else value.reshape(()))


def _resize_bilinear(operator, x, size):
    """Rows, then columns, each as a sum of two neighbours."""
    for axis, length in zip((1, 2), size.tolist(), strict=True):
        low, high, share = _neighbours(x.shape[axis], length, operator.options)
        form = [1] * x.ndim
        form[axis] = -1
        a, b = (jnp.take(x, index, axis=axis) for index in (low, high))
        x = a + (b - a) * share.reshape(form)
    return x


def _neighbours(before: int, after: int, options: Mapping[str, Any]):
    places = np.arange(after, dtype=np.float32)
    if options["align_corners"] and after > 1:
        places = places * np.float32((before - 1) / (after - 1))
    elif options["half_pixel"]:
        places = np.maximum((places + 0.5) * np.float32(before / after) - 0.5, 0)
    else:
        places = places * np.float32(before / after)
    low = np.minimum(np.floor(places).astype(np.int32), before - 1)
    return low, np.minimum(low + 1, before - 1), (places - low).astype(np.float32)


def _depth_to_space(operator, x):
    batch, height, width, depth = x.shape
    block = operator.options["block"]
    if block < 1 or depth % block**2:
        raise ValueError(f"blocks of {block} in {depth} channels")
    x = x.reshape(batch, height, width, block, block, depth // block**2)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, height * block, width * block, -1)


def _reshape(operator, x, shape=None):
    """Older files have the shape among the options."""
    return x.reshape(operator.options["shape"] if shape is None else shape.tolist())


def _concatenation(operator, *arrays):
    return _activated(jnp.concatenate(arrays, axis=operator.options["axis"]), operator)


def _reduced(function):
    def step(operator, x, axes):
        return function(x, axis=tuple(axes.ravel().tolist()), keepdims=bool(operator.options["keep_dims"]))

    return step


def _strided_slice(operator, x, begin, end, strides):
    o = operator.options
    if o["ellipsis_mask"] or o["new_axis_mask"] or not len(begin) == len(end) == len(strides) <= x.ndim:
        raise ValueError("an ellipsis, a new axis, or bounds of other lengths")
    index: list[Any] = []
    for axis, (first, last, step) in enumerate(
        zip(begin.tolist(), end.tolist(), strides.tolist(), strict=True)
    ):
        bit = 1 << axis
        if o["shrink_axis_mask"] & bit:
            index.append(first)
        else:
            index.append(
                slice(None if o["begin_mask"] & bit else first, None if o["end_mask"] & bit else last, step)
            )
    return x[tuple(index)]


def _prelu(operator, x, slope):
    x, slope = _same_rank(x, slope)
    return jnp.where(x >= 0, x, x * slope)


def _softmax(operator, x):
    return jax.nn.softmax(x * operator.options["beta"], axis=-1)


def _unary(function: Callable[[Array], Array]) -> Callable[..., Array]:
    return lambda operator, x: function(x)


_OPERATORS: dict[str, Callable[..., Array]] = {
    "ADD": _binary(jnp.add),
    "AVERAGE_POOL_2D": _average_pool_2d,
    "CONCATENATION": _concatenation,
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "DEPTH_TO_SPACE": _depth_to_space,
    "DIV": _binary(jnp.divide),
    "FULLY_CONNECTED": _fully_connected,
    "HARD_SWISH": _unary(lambda x: x * jnp.clip(x + 3.0, 0.0, 6.0) / 6.0),
    "LOGISTIC": _unary(jax.nn.sigmoid),
    "MAX_POOL_2D": _max_pool_2d,
    "MEAN": _reduced(jnp.mean),
    "MUL": _binary(jnp.multiply),
    "NEG": _unary(jnp.negative),
    "PAD": _pad,
    "PADV2": _pad,
    "PRELU": _prelu,
    "RELU": _unary(lambda x: jnp.maximum(x, 0.0)),
    "RELU6": _unary(lambda x: jnp.clip(x, 0.0, 6.0)),
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize_bilinear,
    "RSQRT": _unary(lax.rsqrt),
    "SOFTMAX": _softmax,
    "SQRT": _unary(jnp.sqrt),
    "SQUARED_DIFFERENCE": _binary(lambda x, y: jnp.square(x - y)),
    "STRIDED_SLICE": _strided_slice,
    "SUB": _binary(jnp.subtract),
    "SUM": _reduced(jnp.sum),
    "TANH": _unary(jnp.tanh),
    TRANSPOSED: _transposed_conv_2d,
    "TRANSPOSE": lambda operator, x, order: x.transpose(order.tolist()),
}
