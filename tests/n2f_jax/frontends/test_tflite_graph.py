"""Networks of ``.tflite`` files in JAX against LiteRT: each operator, each network and (slow) each tensor of it."""

import functools

import jax
import numpy as np
import pytest
import skimage.data

from n2f_jax.frontends.tflite_file import TfliteError, read_tflite
from n2f_jax.frontends.tflite_graph import TfliteGraph
from n2f_jax.runtime.assets_cache import FACE_LANDMARKER, MEDIAPIPE, asset_path

pytest.importorskip("ai_edge_litert")
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from .tflite_files import by_litert, constant, empty, one_step, packed, sound, step, tensor

NETWORKS = {
    name: archive
    for archive in (MEDIAPIPE, FACE_LANDMARKER)
    for name in archive.names
    if name.endswith(".tflite")
}
TOLERANCE = 1e-4  # of an output's range
rng = np.random.default_rng(0)


def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)


def whole(*values):
    return np.array(values, np.int32)


def conv(**options):
    return schema.Conv2DOptionsT(**{"strideH": 1, "strideW": 1, **options})


def depthwise(**options):
    return schema.DepthwiseConv2DOptionsT(**{"strideH": 1, "strideW": 1, "depthMultiplier": 1, **options})


def pool(**options):
    return schema.Pool2DOptionsT(
        **{"strideH": 2, "strideW": 2, "filterHeight": 3, "filterWidth": 2, **options}
    )


VALID = 1
RELU, RELU_N1, RELU6 = 1, 2, 3
# name, input, output, options, constants
STEPS = {
    "conv, stride 2": (
        "CONV_2D",
        (1, 7, 8, 3),
        (1, 4, 4, 5),
        conv(strideH=2, strideW=2),
        (normal(5, 3, 3, 3), normal(5)),
    ),
    "conv, dilated": (
        "CONV_2D",
        (1, 9, 9, 2),
        (1, 5, 5, 3),
        conv(padding=VALID, dilationHFactor=2, dilationWFactor=2),
        (normal(3, 3, 3, 2), normal(3)),
    ),
    "conv, groups": (
        "CONV_2D",
        (1, 5, 5, 4),
        (1, 5, 5, 6),
        conv(fusedActivationFunction=RELU6),
        (normal(6, 3, 3, 2), normal(6)),
    ),
    "conv, pointwise": (
        "CONV_2D",
        (1, 5, 4, 4),
        (1, 5, 4, 6),
        conv(fusedActivationFunction=RELU_N1),
        (normal(6, 1, 1, 4), normal(6)),
    ),
    "depthwise, 5²": (
        "DEPTHWISE_CONV_2D",
        (1, 8, 7, 4),
        (1, 4, 4, 4),
        depthwise(strideH=2, strideW=2, fusedActivationFunction=RELU),
        (normal(1, 5, 5, 4), normal(4)),
    ),
    "depthwise, dilated": (
        "DEPTHWISE_CONV_2D",
        (1, 8, 8, 3),
        (1, 8, 8, 3),
        depthwise(dilationHFactor=2, dilationWFactor=2),
        (normal(1, 3, 3, 3), normal(3)),
    ),
    "depthwise, multiplied": (
        "DEPTHWISE_CONV_2D",
        (1, 6, 6, 2),
        (1, 6, 6, 6),
        depthwise(depthMultiplier=3),
        (normal(1, 3, 3, 6), normal(6)),
    ),
    "max pool": ("MAX_POOL_2D", (1, 7, 7, 3), (1, 4, 4, 3), pool(), ()),
    "average pool": ("AVERAGE_POOL_2D", (1, 7, 7, 3), (1, 4, 4, 3), pool(), ()),
    "fully connected": (
        "FULLY_CONNECTED",
        (1, 2, 6),
        (2, 5),
        schema.FullyConnectedOptionsT(fusedActivationFunction=RELU_N1),
        (normal(5, 6), normal(5)),
    ),
    "fully connected, axes kept": (
        "FULLY_CONNECTED",
        (1, 2, 6),
        (1, 2, 5),
        schema.FullyConnectedOptionsT(keepNumDims=True),
        (normal(5, 6), None),
    ),
    "add, spread": (
        "ADD",
        (1, 4, 4, 3),
        (1, 4, 4, 3),
        schema.AddOptionsT(fusedActivationFunction=RELU),
        (normal(3),),
    ),
    "resize": (
        "RESIZE_BILINEAR",
        (1, 4, 5, 2),
        (1, 8, 7, 2),
        schema.ResizeBilinearOptionsT(),
        (whole(8, 7),),
    ),
    "resize, half pixels": (
        "RESIZE_BILINEAR",
        (1, 4, 5, 2),
        (1, 8, 7, 2),
        schema.ResizeBilinearOptionsT(halfPixelCenters=True),
        (whole(8, 7),),
    ),
    "resize, corners": (
        "RESIZE_BILINEAR",
        (1, 4, 5, 2),
        (1, 8, 7, 2),
        schema.ResizeBilinearOptionsT(alignCorners=True),
        (whole(8, 7),),
    ),
    "depth to space": (
        "DEPTH_TO_SPACE",
        (1, 2, 3, 8),
        (1, 4, 6, 2),
        schema.DepthToSpaceOptionsT(blockSize=2),
        (),
    ),
    "slice": (
        "STRIDED_SLICE",
        (1, 6, 5, 4),
        (1, 2, 5),
        schema.StridedSliceOptionsT(beginMask=1, endMask=5, shrinkAxisMask=8),
        (whole(0, 1, 0, 2), whole(0, 5, 0, 3), whole(1, 2, 1, 1)),
    ),
    "pad": ("PAD", (1, 3, 3, 2), (1, 6, 4, 2), None, (whole(0, 0, 1, 2, 0, 1, 0, 0).reshape(4, 2),)),
    "transpose": ("TRANSPOSE", (1, 3, 4, 2), (1, 2, 3, 4), schema.TransposeOptionsT(), (whole(0, 3, 1, 2),)),
    "mean": ("MEAN", (1, 3, 4, 2), (1, 1, 1, 2), schema.ReducerOptionsT(keepDims=True), (whole(1, 2),)),
    "hard swish": ("HARD_SWISH", (1, 3, 40, 2), (1, 3, 40, 2), None, ()),
    "softmax": ("SOFTMAX", (1, 7), (1, 7), schema.SoftmaxOptionsT(beta=0.5), ()),
    "prelu": ("PRELU", (1, 3, 3, 2), (1, 3, 3, 2), None, (normal(1, 1, 2),)),
    "squared difference": (
        "SQUARED_DIFFERENCE",
        (1, 4, 2),
        (1, 4, 2),
        schema.SquaredDifferenceOptionsT(),
        (normal(1, 1, 2),),
    ),
    "concatenation": (
        "CONCATENATION",
        (1, 4, 2),
        (1, 4, 5),
        schema.ConcatenationOptionsT(axis=-1),
        (normal(1, 4, 3),),
    ),
}


def jax_answer(tmp_path, content, value):
    path = tmp_path / "network.tflite"
    path.write_bytes(content)
    graph = TfliteGraph(path)
    (output,) = graph.apply(graph.weights, np.stack([value[0], np.zeros_like(value[0])])).values()
    return np.asarray(output[0])


@pytest.mark.parametrize("case", STEPS)
def test_each_operator_gives_what_litert_gives(tmp_path, case):
    content = one_step(*STEPS[case])
    value = normal(*STEPS[case][1])
    expected = by_litert(content, value)
    np.testing.assert_allclose(jax_answer(tmp_path, content, value), expected, rtol=1e-5, atol=2e-6)


def expanded(model, stored, shape):
    """A file that adds a constant, expanded by DEQUANTIZE or DENSIFY, to its input."""
    given, dense, output = tensor(model, (1, *shape)), tensor(model, shape), tensor(model, (1, *shape))
    step(model, stored[1], [stored[0]], dense)
    step(model, "ADD", [given, dense], output, schema.AddOptionsT())
    model.subgraphs[0].inputs, model.subgraphs[0].outputs = [given], [output]
    return packed(model)


@pytest.mark.parametrize("scales", [1, 3])
def test_quantised_constants_are_expanded(tmp_path, scales):
    model = empty()
    values = rng.integers(-128, 128, (3, 4)).astype(np.int8)
    quantization = schema.QuantizationParametersT(
        scale=np.linspace(0.01, 0.03, scales, dtype=np.float32),
        zeroPoint=np.arange(scales) * 3,
        quantizedDimension=0,
    )
    content = expanded(model, (constant(model, values, quantization=quantization), "DEQUANTIZE"), (3, 4))
    value = normal(1, 3, 4)
    np.testing.assert_allclose(jax_answer(tmp_path, content, value), by_litert(content, value), atol=1e-6)


def sparse_levels(blocks):
    """A matrix of 4 × 6 whose rows are dense and columns compressed, in blocks of 2 × 3 or without."""
    dense = np.zeros((4, 6), np.float32)
    dense[:2, 3:], dense[2:, :3] = normal(2, 3), normal(2, 3)

    def level(size):
        return schema.DimensionMetadataT(format=0, denseSize=size)

    def compressed(segments, indices):
        vectors = [schema.Int32VectorT(values=values) for values in (segments, indices)]
        kind = schema.SparseIndexVector.Int32Vector
        return schema.DimensionMetadataT(
            format=1,
            arraySegmentsType=kind,
            arraySegments=vectors[0],
            arrayIndicesType=kind,
            arrayIndices=vectors[1],
        )

    if blocks:
        levels = [level(2), compressed([0, 1, 2], [1, 0]), level(2), level(3)]
        return dense, np.concatenate([dense[:2, 3:].ravel(), dense[2:, :3].ravel()]), levels, [0, 1]
    indices = [3, 4, 5, 3, 4, 5, 0, 1, 2, 0, 1, 2]
    return dense, dense[dense != 0], [level(4), compressed([0, 3, 6, 9, 12], indices)], None


@pytest.mark.parametrize("blocks", [False, True])
def test_sparse_constants_are_expanded(tmp_path, blocks):
    dense, values, levels, block_map = sparse_levels(blocks)
    sparsity = schema.SparsityParametersT(
        traversalOrder=list(range(len(levels))), blockMap=block_map, dimMetadata=levels
    )
    model = empty()
    stored = tensor(model, dense.shape, values, sparsity=sparsity)
    content = expanded(model, (stored, "DENSIFY"), dense.shape)
    value = normal(1, *dense.shape)
    np.testing.assert_array_equal(jax_answer(tmp_path, content, value), value + dense[None])
    np.testing.assert_array_equal(by_litert(content, value), value + dense[None])


def test_an_unknown_operator_is_named(tmp_path):
    path = tmp_path / "network.tflite"
    path.write_bytes(
        one_step("SPACE_TO_DEPTH", (1, 4, 4, 1), (1, 2, 2, 4), schema.SpaceToDepthOptionsT(blockSize=2))
    )
    with pytest.raises(TfliteError, match=r"network\.tflite: asks for SPACE_TO_DEPTH"):
        TfliteGraph(path)


def test_a_step_that_cannot_be_is_named(tmp_path):
    path = tmp_path / "network.tflite"
    path.write_bytes(one_step("RESHAPE", (1, 4), (1, 5), None, (whole(1, 5),)))
    with pytest.raises(TfliteError, match=r"network\.tflite: step 0, RESHAPE"):
        TfliteGraph(path)


def test_a_small_file_is_read_as_it_is(tmp_path):
    path = tmp_path / "network.tflite"
    path.write_bytes(sound())
    file = read_tflite(path)
    assert [operator.name for operator in file.operators] == ["CONV_2D", "RESHAPE"]
    assert (
        file.operators[0].options["activation"] == "relu" and file.operators[0].options["padding"] == "SAME"
    )
    value = normal(1, 4, 4, 2)
    np.testing.assert_allclose(jax_answer(tmp_path, sound(), value), by_litert(sound(), value), atol=1e-6)


@functools.cache
def graph(name):
    return TfliteGraph(asset_path(NETWORKS[name], name))


def picture(shape):
    """What a network is shown: a face, or, of the blendshape network, places."""
    if len(shape) == 2:
        return normal(*shape)
    crop = skimage.data.astronaut()[20:276, 96:352].astype(np.float32)
    rows = (np.arange(shape[0]) + 0.5) * 256 / shape[0]
    return crop[rows.astype(int)][:, rows.astype(int)] / 255


# Its last step is an operator of MediaPipe's, which LiteRT's plain kernels lack and its delegate has.
DELEGATED = "selfie_segmentation.tflite"


def litert_tensors(name, value):
    plain = {
        "experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "experimental_preserve_all_tensors": True,
    }
    interpreter = Interpreter(
        model_path=str(asset_path(NETWORKS[name], name)), **({} if name == DELEGATED else plain)
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value[None])
    interpreter.invoke()
    return interpreter


def difference(found, expected):
    """The largest, over the range of what is expected, or over its size where it is one number."""
    scale = np.ptp(expected) if expected.size > 1 else np.abs(expected).max()
    return np.abs(found - expected).max() / max(float(scale), 1e-3)


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_gives_what_litert_gives(name):
    network, value = graph(name), picture(graph(name).input_shape)
    interpreter = litert_tensors(name, value)
    # Not compiled: six programs would take half a minute.
    found = network.apply(network.weights, value[None])
    details = interpreter.get_output_details()
    assert {detail["name"] for detail in details} == set(found)
    for detail in details:
        expected = interpreter.get_tensor(detail["index"])
        assert difference(np.asarray(found[detail["name"]][0]), expected) < TOLERANCE


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {DELEGATED}))
def test_each_tensor_of_each_network_is_litert_s(name):
    network, value = graph(name), picture(graph(name).input_shape)
    interpreter = litert_tensors(name, value)
    found = jax.jit(network.tensors)(network.weights, value[None])
    worst = {}
    for detail in interpreter.get_tensor_details():
        number = detail["index"]
        if number in found:
            worst[detail["name"]] = difference(np.asarray(found[number][0]), interpreter.get_tensor(number))
    assert len(worst) > 60 and max(worst.values()) < TOLERANCE, max(worst.items(), key=lambda item: item[1])
