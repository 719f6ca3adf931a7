"""What a ``.tflite`` file holds, in bounds: its tensors, the constants among them expanded once, and its operators.

The flatbuffer's schema comes from the package ``tflite``, imported only here. Sparse constants become dense ones,
quantised and float16 ones float32.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num

from flame_jax.files.budget import Budget, OverBudgetError
from flame_jax.files.outside import one_line, reason
from n2f_jax.runtime.outside_values import OutsideValueError, read_bytes

MAX_BYTES = 256 << 20
_IDENTIFIER = b"TFL3"
# Of one graph; the largest face network has 472 tensors.
_MAX_PARTS, _MAX_RANK, _MAX_ELEMENTS = 20_000, 8, 1 << 26
_DENSE, _COMPRESSED = 0, 1  # formats of a sparse tensor's levels
# MediaPipe's own: three whole numbers, of the padding and the strides.
TRANSPOSED = "custom operator Convolution2DTransposeBias"
# Enumerations of the schema that readers of a graph meet.
_ACTIVATIONS = ("none", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")
_PADDINGS = ("SAME", "VALID")
_DTYPES = {
    "FLOAT32": np.float32, "FLOAT16": np.float16, "INT32": np.int32, "UINT8": np.uint8, "INT64": np.int64,
    "INT16": np.int16, "INT8": np.int8, "BOOL": np.bool_, "FLOAT64": np.float64,
}  # fmt: skip
# Options of each operator that has some: the schema's table, then (our name, the schema's, what its number means).
_POOL = (
    ("padding", "Padding", _PADDINGS), ("stride_h", "StrideH", None), ("stride_w", "StrideW", None),
    ("height", "FilterHeight", None), ("width", "FilterWidth", None),
)  # fmt: skip
_CONVOLUTION = (
    ("padding", "Padding", _PADDINGS), ("stride_h", "StrideH", None), ("stride_w", "StrideW", None),
    ("dilation_h", "DilationHFactor", None), ("dilation_w", "DilationWFactor", None),
)  # fmt: skip
_ACTIVATION = (("activation", "FusedActivationFunction", _ACTIVATIONS),)
_KEEP = (("keep_dims", "KeepDims", None),)
_OPTIONS = {
    "CONV_2D": ("Conv2DOptions", _CONVOLUTION + _ACTIVATION),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", _CONVOLUTION + _ACTIVATION),
    "MAX_POOL_2D": ("Pool2DOptions", _POOL + _ACTIVATION),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _POOL + _ACTIVATION),
    "FULLY_CONNECTED": ("FullyConnectedOptions", (*_ACTIVATION, ("keep_dims", "KeepNumDims", None))),
    "ADD": ("AddOptions", _ACTIVATION),
    "SUB": ("SubOptions", _ACTIVATION),
    "MUL": ("MulOptions", _ACTIVATION),
    "DIV": ("DivOptions", _ACTIVATION),
    "CONCATENATION": ("ConcatenationOptions", (*_ACTIVATION, ("axis", "Axis", None))),
    "MEAN": ("ReducerOptions", _KEEP),
    "SUM": ("ReducerOptions", _KEEP),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", (("block", "BlockSize", None),)),
    "RESHAPE": ("ReshapeOptions", (("shape", "NewShapeAsNumpy", None),)),
    "RESIZE_BILINEAR": (
        "ResizeBilinearOptions",
        (("align_corners", "AlignCorners", None), ("half_pixel", "HalfPixelCenters", None)),
    ),
    "SOFTMAX": ("SoftmaxOptions", (("beta", "Beta", None),)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        (
            ("begin_mask", "BeginMask", None),
            ("end_mask", "EndMask", None),
            ("ellipsis_mask", "EllipsisMask", None),
            ("new_axis_mask", "NewAxisMask", None),
            ("shrink_axis_mask", "ShrinkAxisMask", None),
        ),
    ),
}


class TfliteError(OutsideValueError):
    """A ``.tflite`` file that is damaged, or asks for what is not known here; the message is one line that names it."""


@dataclasses.dataclass(frozen=True)
class Operator:
    """One step of a graph.

    Attributes:
        name: of the schema (``CONV_2D``).
        inputs: numbers of tensors; −1 for one that is left out.
        outputs: likewise.
        options: by the names of ``_OPTIONS``.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class TfliteFile:
    """A graph, its steps in an order in which each finds its inputs.

    Attributes:
        names: of its tensors.
        shapes: of its tensors, as the file says.
        constants: number of a tensor → float32 weights, or whole numbers (sizes, axes).
        operators: without those that only expand constants.
        inputs, outputs: numbers of tensors.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    constants: Mapping[int, Num[np.ndarray, "..."]]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def read_tflite(path: str | Path) -> TfliteFile:
    """The graph of a ``.tflite`` file.

    Files have at most 256 MiB and one graph; constants make at most 256 MiB and four times the file's size.

    Raises:
        FileNotFoundError: there is none.
        ImportError: ``tflite`` is not installed.
        TfliteError: no such file, damaged, or larger.
    """
    try:
        import tflite as schema
    except ImportError as error:
        raise ImportError(
            "reading .tflite files needs the package tflite: pip install 'n2f-jax[face-mesh]'"
        ) from error
    try:
        data = read_bytes(path, MAX_BYTES, ".tflite files")
    except OutsideValueError as error:
        raise TfliteError(str(error)) from error
    if data[4:8] != _IDENTIFIER:
        raise TfliteError(f"{path}: is no .tflite file")
    try:
        return _Reader(schema, data).file()
    except _Unsound as error:
        raise TfliteError(f"{path}: {error}") from error
    except OverBudgetError as error:
        raise TfliteError(f"{path}: {error}") from error
    except Exception as error:  # flatbuffers check nothing: whatever an offset into nowhere leads to
        raise TfliteError(f"{path}: is damaged: {reason(error)}") from error


class _Unsound(ValueError):
    """What is wrong, for the message."""


class _Reader:
    def __init__(self, schema: Any, data: bytes):
        self._schema = schema
        self._model = schema.Model.GetRootAs(data)
        self._budget = Budget(len(data))
        self._operator_names = _members(schema.BuiltinOperator)
        self._type_names = _members(schema.TensorType)
        if self._model.SubgraphsLength() != 1:
            raise _Unsound(f"holds {self._model.SubgraphsLength()} graphs; one is expected")
        self._graph = self._model.Subgraphs(0)
        _check_counts(self._graph.TensorsLength(), self._graph.OperatorsLength(), self._model.BuffersLength())
        self._tensors = [self._graph.Tensors(i) for i in range(self._graph.TensorsLength())]

    def file(self) -> TfliteFile:
        names = tuple(self._name(tensor) for tensor in self._tensors)
        shapes = tuple(self._shape(tensor) for tensor in self._tensors)
        constants = {
            i: constant
            for i, tensor in enumerate(self._tensors)
            if (constant := self._constant(tensor, shapes[i])) is not None
        }
        inputs, outputs = (
            self._numbers(x) for x in (self._graph.InputsAsNumpy(), self._graph.OutputsAsNumpy())
        )
        known, operators = set(constants) | set(inputs), []
        for i in range(self._graph.OperatorsLength()):
            operator = self._operator(self._graph.Operators(i))
            missing = [x for x in operator.inputs if x >= 0 and x not in known]
            if missing or -1 in operator.outputs or known & set(operator.outputs):
                raise _Unsound(f"step {i}, {operator.name}, does not follow from those before it")
            known |= set(operator.outputs)
            if operator.name in ("DEQUANTIZE", "DENSIFY") and operator.inputs[0] in constants:
                constants[operator.outputs[0]] = constants[operator.inputs[0]]
            else:
                operators.append(operator)
        if not set(outputs) <= known or not inputs or not outputs:
            raise _Unsound("has an output that no step gives, or none")
        for i in inputs:
            if self._dtype(self._tensors[i]) is not np.float32:
                raise _Unsound(
                    f"takes {self._type(self._tensors[i])}; only networks of float32 are known here"
                )
        used = {x for operator in operators for x in operator.inputs} | set(outputs)
        constants = {i: constant for i, constant in constants.items() if i in used}
        return TfliteFile(names, shapes, constants, tuple(operators), inputs, outputs)

    def _numbers(self, values: Any) -> tuple[int, ...]:
        """Numbers of tensors; flatbuffers give 0 where there are none."""
        if isinstance(values, int):
            return ()
        _check_counts(values.size)
        if values.size and (values.min() < -1 or values.max() >= len(self._tensors)):
            raise _Unsound("names a tensor that it does not hold")
        return tuple(values.tolist())

    def _name(self, tensor: Any) -> str:
        name = tensor.Name() or b""
        self._budget.take(len(name))
        return name.decode("utf-8", "replace")

    def _shape(self, tensor: Any) -> tuple[int, ...]:
        shape = tensor.ShapeAsNumpy()
        if isinstance(shape, int):
            return ()
        if len(shape) > _MAX_RANK or (shape < 0).any() or math.prod(shape.tolist()) > _MAX_ELEMENTS:
            raise _Unsound(f"holds a tensor of the shape {one_line(str(shape[:9].tolist()), 80)}")
        return tuple(shape.tolist())

    def _type(self, tensor: Any) -> str:
        return self._type_names.get(tensor.Type(), f"type {tensor.Type()}")

    def _dtype(self, tensor: Any) -> type:
        name = self._type(tensor)
        if name not in _DTYPES:
            raise _Unsound(f"holds a tensor of {name}, which is not known here")
        return _DTYPES[name]

    def _constant(self, tensor: Any, shape: tuple[int, ...]) -> np.ndarray | None:
        if not 0 <= tensor.Buffer() < self._model.BuffersLength():
            raise _Unsound("names a buffer that it does not hold")
        stored = self._model.Buffers(tensor.Buffer())
        if not stored.DataLength():
            return None
        dtype, count = self._dtype(tensor), math.prod(shape)
        self._budget.take(stored.DataLength() + 8 * count)
        data = stored.DataAsNumpy()
        if data.size % np.dtype(dtype).itemsize:
            raise _Unsound("holds a constant that ends within a number")
        values = data.view(np.dtype(dtype).newbyteorder("<"))
        if tensor.Sparsity() is not None:
            values = self._dense(values, tensor.Sparsity(), shape)
        if values.size != count:
            raise _Unsound(f"holds {values.size} numbers of a constant of {count}")
        return self._dequantised(values.reshape(shape), tensor)

    def _dequantised(self, values: np.ndarray, tensor: Any) -> np.ndarray:
        """Float32 of what stands for real numbers; whole numbers and truths as they are."""
        quantization = tensor.Quantization()
        if quantization is None or not quantization.ScaleLength():
            return values.astype(np.float32) if values.dtype.kind == "f" else values.copy()
        if values.dtype.kind not in "iu":
            raise _Unsound("quantises what are no whole numbers")
        scale = quantization.ScaleAsNumpy().astype(np.float32)
        zero = quantization.ZeroPointAsNumpy()
        zero = np.zeros(len(scale)) if isinstance(zero, int) or not len(zero) else zero
        axis = quantization.QuantizedDimension()
        along = values.shape[axis] if len(scale) > 1 and 0 <= axis < values.ndim else 1
        if len(scale) != along or len(zero) not in (1, along):
            raise _Unsound("has other scales of a quantised constant than it needs")
        form = [-1 if i == axis else 1 for i in range(values.ndim)] if along > 1 else [1] * values.ndim
        # In float32: whole numbers of 16 bits lose nothing, biases of 32 no more than LiteRT's own sums.
        return (values.astype(np.float32) - zero.astype(np.float32).reshape(form)) * scale.reshape(form)

    def _dense(self, values: np.ndarray, sparsity: Any, shape: tuple[int, ...]) -> np.ndarray:
        """A sparse constant laid out: its levels, in the order in which they are traversed, give each value's place.

        The last levels may be blocks within the dimensions that ``BlockMap`` names.
        """
        order = sparsity.TraversalOrderAsNumpy()
        blocks = sparsity.BlockMapAsNumpy()
        blocks = [] if isinstance(blocks, int) else blocks.tolist()
        levels = sparsity.DimMetadataLength()
        rank = len(shape)
        if isinstance(order, int) or sorted(order.tolist()) != list(range(levels)):
            raise _Unsound("holds a sparse constant whose order is none")
        if levels != rank + len(blocks) or any(not 0 <= axis < rank for axis in blocks):
            raise _Unsound("holds a sparse constant of another rank")
        places: dict[int, np.ndarray] = {}
        sizes = dict.fromkeys(range(rank), 1)
        count = 1
        for level, axis in enumerate(order.tolist()):
            metadata = sparsity.DimMetadata(level)
            if metadata.Format() == _DENSE:
                size = metadata.DenseSize()
                if not 0 < size <= max(values.size, math.prod(shape)) or count * size > values.size:
                    raise _Unsound("holds a sparse constant of another size")
                rows, found = np.repeat(np.arange(count), size), np.tile(np.arange(size), count)
                if axis >= rank:
                    sizes[axis] = size
            elif metadata.Format() == _COMPRESSED:
                segments, found = (
                    self._indices(metadata, name) for name in ("ArraySegments", "ArrayIndices")
                )
                lengths = np.diff(segments)
                if len(lengths) != count or (lengths < 0).any() or segments[0] or segments[-1] != len(found):
                    raise _Unsound("holds a sparse constant whose segments are not sound")
                rows = np.repeat(np.arange(count), lengths)
            else:
                raise _Unsound("holds a sparse constant of an unknown format")
            if len(rows) > values.size:
                raise _Unsound("holds a sparse constant of another size")
            self._budget.take(8 * len(rows) * (len(places) + 2))
            places = {other: place[rows] for other, place in places.items()}
            places[axis], count = found, len(rows)
        if count != values.size:
            raise _Unsound("holds a sparse constant of another size")
        for number, axis in enumerate(blocks):
            places[axis] = places[axis] * sizes[rank + number] + places.pop(rank + number)
        index = tuple(places[axis] for axis in range(rank))
        if any(
            len(place) and (place.min() < 0 or place.max() >= size)
            for place, size in zip(index, shape, strict=True)
        ):
            raise _Unsound("holds a sparse constant whose indices are not sound")
        dense = np.zeros(shape, values.dtype)
        dense[index] = values
        return dense

    def _indices(self, metadata: Any, name: str) -> np.ndarray:
        """Segments or indices of a level: a vector of one of three kinds of whole numbers."""
        kind, table = getattr(metadata, f"{name}Type")(), getattr(metadata, name)()
        vectors = _members(self._schema.SparseIndexVector)
        if table is None or vectors.get(kind) not in ("Int32Vector", "Uint16Vector", "Uint8Vector"):
            raise _Unsound("holds a sparse constant without indices")
        vector = getattr(self._schema, vectors[kind])()
        vector.Init(table.Bytes, table.Pos)
        self._budget.take(8 * vector.ValuesLength())
        return vector.ValuesAsNumpy().astype(np.int64)

    def _operator(self, stored: Any) -> Operator:
        if not 0 <= stored.OpcodeIndex() < self._model.OperatorCodesLength():
            raise _Unsound("names an operator that it does not list")
        code = self._model.OperatorCodes(stored.OpcodeIndex())
        # Files from before the list grew beyond 127 have the number in the deprecated place.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self._operator_names.get(number, f"operator {number}")
        if name == "CUSTOM":
            name = f"custom operator {one_line((code.CustomCode() or b'').decode('utf-8', 'replace'), 60)}"
        inputs, outputs = self._numbers(stored.InputsAsNumpy()), self._numbers(stored.OutputsAsNumpy())
        if not inputs or not outputs:
            raise _Unsound(f"has a step, {name}, without input or output")
        return Operator(name, inputs, outputs, self._options(name, stored))

    def _options(self, name: str, stored: Any) -> dict[str, Any]:
        if name == TRANSPOSED:
            raw = (
                stored.CustomOptionsAsNumpy()
                if stored.CustomOptionsLength() == 12
                else np.zeros(12, np.uint8)
            )
            padding, width, height = np.asarray(raw, np.uint8).view("<i4").tolist()
            return {"padding": padding, "stride_w": width, "stride_h": height}
        if name not in _OPTIONS:
            return {}
        table_name, fields = _OPTIONS[name]
        table = stored.BuiltinOptions()
        options = getattr(self._schema, table_name)()
        if table is None:  # all as the schema has it
            return {ours: meanings[0] if meanings else 0 for ours, _, meanings in fields}
        if _members(self._schema.BuiltinOptions).get(stored.BuiltinOptionsType()) != table_name:
            raise _Unsound(f"has a step, {name}, with the options of another")
        options.Init(table.Bytes, table.Pos)
        found = {}
        for ours, theirs, meanings in fields:
            value = getattr(options, theirs)()
            if isinstance(value, np.ndarray):  # a vector
                value = tuple(value[: _MAX_RANK + 1].tolist())
            if meanings is not None and not 0 <= value < len(meanings):
                raise _Unsound(f"has a step, {name}, whose {ours} is {value}")
            found[ours] = value if meanings is None else meanings[value]
        return found


def _members(enumeration: Any) -> dict[int, str]:
    """Names of an enumeration of the schema by their numbers."""
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def _check_counts(*counts: int) -> None:
    if max(counts) > _MAX_PARTS:
        raise _Unsound(f"says that it holds {max(counts)} parts; networks of faces have hundreds")
