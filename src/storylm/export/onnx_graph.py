"""A graph of ONNX operations, put together by calls that read like the formulas they stand for.

Built rather than traced: sizes that are to stay free stay free, and it takes milliseconds.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from storylm.export.packages import package

OPSET = 18  # what onnxruntime has had since 1.14, in browsers too
IR_VERSION = 9  # of the file; from the same time


class Graph:
    """Values are names. `graph("MatMul", x, y)` adds an operation and returns the name of its result.

    >>> graph = Graph()                                                             # doctest: +SKIP
    >>> graph("Add", graph.input("x", ["batch", 3]), graph.number(1.0), name="y")   # doctest: +SKIP
    'y'
    """

    def __init__(self) -> None:
        self._onnx: Any = package("onnx")
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def __call__(self, operation: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add an operation; `name` is that of its result where it matters."""
        return self.several(operation, *inputs, names=[name], **attributes)[0]

    def several(self, operation: str, *inputs: str, names: Sequence[str], **attributes: Any) -> list[str]:
        """Add an operation with several results."""
        outputs = [name or f"{operation}_{len(self._nodes)}_{number}" for number, name in enumerate(names)]
        self._nodes.append(self._onnx.helper.make_node(operation, list(inputs), outputs, **attributes))
        return outputs

    def input(self, name: str, shape: Sequence[int | str], integer: bool = False) -> str:
        """What whoever runs the graph gives; a word in the shape is a size that is free."""
        self._inputs.append(self._info(name, shape, integer))
        return name

    def output(self, name: str, shape: Sequence[int | str]) -> None:
        """What the graph gives back."""
        self._outputs.append(self._info(name, shape, False))

    def weight(self, name: str, tensor: Tensor) -> str:
        """A parameter in fp32; one name is one copy in the file."""
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(tensor.float().contiguous().numpy(), name)
        return name

    def number(self, value: float) -> str:
        """A constant in fp32."""
        return self._constant(f"number_{value!r}", np.float32(value))

    def integer(self, value: int) -> str:
        return self._constant(f"integer_{value}", np.int64(value))

    def integers(self, *values: int) -> str:
        """A vector of integers, as for shapes and axes."""
        return self._constant("integers_" + "_".join(map(str, values)), np.array(values, np.int64))

    def model(self) -> Any:
        """The whole as a checked `ModelProto`."""
        helper = self._onnx.helper
        graph = helper.make_graph(
            self._nodes, "storylm", self._inputs, self._outputs, initializer=list(self._constants.values())
        )
        model = helper.make_model(
            graph, producer_name="storylm", opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        self._onnx.checker.check_model(model)
        return model

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        if name not in self._constants:
            self._constants[name] = self._onnx.numpy_helper.from_array(np.asarray(value), name)
        return name

    def _info(self, name: str, shape: Sequence[int | str], integer: bool) -> Any:
        kind = self._onnx.TensorProto.INT64 if integer else self._onnx.TensorProto.FLOAT
        return self._onnx.helper.make_tensor_value_info(name, kind, list(shape))
