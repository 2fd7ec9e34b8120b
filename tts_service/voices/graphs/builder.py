"""This module writes an ONNX graph like an expression: an operation returns its value's name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 9
"""What the oldest ONNX Runtime that the project allows (1.20) reads."""

Array = NDArray[Any]
Weights = Mapping[str, NDArray[np.float32]]
"""A checkpoint's arrays under the names that Coqui's `state_dict` gives them."""

_ELEMENT_TYPES = {
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
}


class GraphBuilder:
    """A builder collects nodes, constants, inputs and outputs; `build` makes a checked model."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def input(self, name: str, shape: Sequence[int | str], kind: str = "float32") -> str:
        """Declare an input; a string in `shape` names a dimension that may vary."""
        self._inputs.append(helper.make_tensor_value_info(name, _ELEMENT_TYPES[kind], list(shape)))
        return name

    def output(
        self, name: str, value: str, shape: Sequence[int | str], kind: str = "float32"
    ) -> None:
        """Give `value` to the caller under `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, _ELEMENT_TYPES[kind], list(shape)))

    def constant(self, array: Array) -> str:
        """Add a constant; small equal ones are stored once."""
        array = np.ascontiguousarray(array)
        key = (array.dtype.str, array.shape, array.tobytes() if array.size <= 64 else b"")
        if array.size <= 64 and key in self._known:
            return self._known[key]
        name = f"c{len(self._constants)}"
        self._constants[name] = numpy_helper.from_array(array, name)
        if array.size <= 64:
            self._known[key] = name
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Add a node with one output and return that output's name."""
        (name,) = self.split(kind, 1, *inputs, domain=domain, **attributes)
        return name

    def split(
        self, kind: str, outputs: int, *inputs: str, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs."""
        names = [f"v{self._count + i}" for i in range(outputs)]
        self._count += outputs
        self._nodes.append(helper.make_node(kind, inputs, names, domain=domain, **attributes))
        return names

    def build(self, metadata: Mapping[str, str] | None = None) -> onnx.ModelProto:
        """Make the model; `onnx.checker` checks the operators that it knows."""
        graph = helper.make_graph(
            self._nodes, self.name, self._inputs, self._outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="speech-fleet"
        )
        helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model)
        return model


def fold_batch_norm(
    weights: Weights, convolution: str, norm: str, eps: float = 1e-5
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Fold a batch norm into the convolution or linear layer before it; returns weight and bias."""
    scale = weights[f"{norm}.weight"].astype(np.float64) / np.sqrt(
        weights[f"{norm}.running_var"].astype(np.float64) + eps
    )
    weight = weights[f"{convolution}.weight"].astype(np.float64)
    bias = weights.get(f"{convolution}.bias")
    shift = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
    if bias is not None:
        shift = shift + bias * scale
    folded = weight * scale.reshape(-1, *([1] * (weight.ndim - 1)))
    return folded.astype(np.float32), shift.astype(np.float32)
