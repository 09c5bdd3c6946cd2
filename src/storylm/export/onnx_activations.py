"""The nonlinearities of `storylm.model.feedforward` in ONNX's operations, for whatever version of it."""

from collections.abc import Callable
from math import pi, sqrt

from storylm.export.onnx_graph import Graph


def _relu2(graph: Graph, x: str) -> str:
    x = graph("Relu", x)
    return graph("Mul", x, x)


def _silu(graph: Graph, x: str) -> str:
    return graph("Mul", x, graph("Sigmoid", x))


def _gelu(graph: Graph, x: str) -> str:
    error = graph("Erf", graph("Mul", x, graph.number(1 / sqrt(2))))
    return graph("Mul", graph("Mul", x, graph.number(0.5)), graph("Add", error, graph.number(1.0)))


def _gelu_tanh(graph: Graph, x: str) -> str:
    cube = graph("Mul", graph("Mul", graph("Mul", x, x), x), graph.number(0.044715))
    bent = graph("Tanh", graph("Mul", graph("Add", x, cube), graph.number(sqrt(2 / pi))))
    return graph("Mul", graph("Mul", x, graph.number(0.5)), graph("Add", bent, graph.number(1.0)))


ACTIVATIONS: dict[str, Callable[[Graph, str], str]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "relu": lambda graph, x: graph("Relu", x),
    "relu2": _relu2,
}
