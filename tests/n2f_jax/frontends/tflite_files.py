"""Small ``.tflite`` files made for a test, by the schema that comes with LiteRT."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

_TYPES = {
    np.dtype(name): getattr(schema.TensorType, name.upper())
    for name in ("float32", "float16", "int32", "int8")
}


def tensor(model, shape, value=None, dtype=np.float32, **fields):
    """Adds a tensor to the only graph and gives its number; ``value``: of a constant."""
    graph = model.subgraphs[0]
    made = schema.TensorT(
        shape=list(shape), type=_TYPES[np.dtype(dtype)], name=f"t{len(graph.tensors)}", **fields
    )
    if value is not None:
        made.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT(data=np.frombuffer(value.astype(dtype).tobytes(), np.uint8)))
    graph.tensors.append(made)
    return len(graph.tensors) - 1


def constant(model, value, **fields):
    return tensor(model, value.shape, value, value.dtype, **fields)


def step(model, name, inputs, output, options=None):
    """Adds an operator; ``options``: a table of the schema's object interface."""
    code = getattr(schema.BuiltinOperator, name)
    model.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=min(code, 127), builtinCode=code, version=1)
    )
    made = schema.OperatorT(opcodeIndex=len(model.operatorCodes) - 1, inputs=list(inputs), outputs=[output])
    if options is not None:
        made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        made.builtinOptions = options
    model.subgraphs[0].operators.append(made)


def empty():
    graph = schema.SubGraphT(tensors=[], operators=[], inputs=[], outputs=[])
    return schema.ModelT(version=3, operatorCodes=[], subgraphs=[graph], buffers=[schema.BufferT()])


def packed(model):
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def one_step(name, shape, out_shape, options=None, constants=()):
    """A file of one operator: the input, then constants; None for one that is left out."""
    model = empty()
    given = tensor(model, shape)
    others = [-1 if value is None else constant(model, value) for value in constants]
    output = tensor(model, out_shape)
    step(model, name, [given, *others], output, options)
    model.subgraphs[0].inputs, model.subgraphs[0].outputs = [given], [output]
    return packed(model)


def sound():
    """A convolution with a float16 kernel, whose result is laid flat."""
    rng = np.random.default_rng(0)
    model = empty()
    given = tensor(model, (1, 4, 4, 2))
    half = constant(model, rng.normal(size=(3, 1, 1, 2)).astype(np.float16))
    kernel, bias = tensor(model, (3, 1, 1, 2)), constant(model, np.zeros(3, np.float32))
    convolved, flat = tensor(model, (1, 4, 4, 3)), tensor(model, (1, 48))
    step(model, "DEQUANTIZE", [half], kernel)
    options = schema.Conv2DOptionsT(strideH=1, strideW=1, fusedActivationFunction=1)
    step(model, "CONV_2D", [given, kernel, bias], convolved, options)
    step(model, "RESHAPE", [convolved, constant(model, np.array([1, 48], np.int32))], flat)
    model.subgraphs[0].inputs, model.subgraphs[0].outputs = [given], [flat]
    return packed(model)


def by_litert(content, value):
    """What LiteRT's plain kernels give for one input."""
    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], value)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
