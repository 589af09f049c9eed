"""A network as an ONNX graph, built with `onnx.helper`: from crops to logits. Imports onnx (extra: export)."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from alexnet_jax.errors import ConfigError
from alexnet_jax.models import geometry
from alexnet_jax.training.augment import LUMA
from alexnet_jax.weights.exported import Exported

_OPSET, _IR = 17, 8


def model(network: Exported) -> Any:
    """ModelProto: `images` float32 [batch, 3, crop, crop], red, green, blue, 0 to 255 → `logits` [batch, classes].

    The graph also subtracts the mean of the centre crop and divides by augment.divide.

    Raises:
      ConfigError: unshared weights, or a response norm over an even number of channels.
    """
    return _Builder(network).build()


class _Builder:
    def __init__(self, network: Exported):
        self.network, self.config, self.at = network, network.config, "images"
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def build(self) -> Any:
        self._normalise()
        weights = self.network.channels_first()
        layers = self.network.layers
        for number, layer in enumerate(layers):
            kernel, bias = weights[layer.name]
            if layer.is_conv:
                self._conv(layer, kernel, bias)
            else:
                if number == 0 or layers[number - 1].is_conv:
                    self.node("Flatten", self.at, axis=1)
                self._dense(layer, kernel, bias)
            if layer.dropout and self.config.model.dropout_scale == "test":
                self.node("Mul", self.at, self.constant(np.float32(1 - self.config.model.dropout)))
        self.nodes[-1].output[0] = "logits"
        crop, classes = self.config.data.crop, layers[-1].features
        graph = helper.make_graph(
            self.nodes, "alexnet", [helper.make_tensor_value_info("images", TensorProto.FLOAT,
                                                                  ["batch", 3, crop, crop])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])], self.constants)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR,
                                 producer_name="alexnet_jax")
        helper.set_model_props(made, self.network.metadata)
        return made

    def node(self, kind: str, *inputs: str, **attributes: Any) -> None:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        self.at = name

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def _normalise(self) -> None:
        augment = self.config.augment
        if augment.grey:
            self.node("Mul", self.at, self.constant(np.asarray(LUMA, np.float32).reshape(1, 3, 1, 1)))
            self.node("ReduceSum", self.at, self.constant(np.asarray([1], np.int64)), keepdims=1)
        self.node("Sub", self.at, self.constant(self.network.crop_mean().transpose(2, 0, 1)[None]))
        if augment.divide:
            self.node("Div", self.at, self.constant(np.asarray(augment.divide, np.float32).reshape(1, -1, 1, 1)))

    def _conv(self, layer: geometry.Layer, kernel: np.ndarray, bias: np.ndarray) -> None:
        near, far = layer.padding
        self.node("Conv", self.at, self.constant(kernel, f"{layer.name}.weight"),
                  self.constant(bias, f"{layer.name}.bias"), strides=[layer.stride] * 2, pads=[near, near, far, far],
                  group=layer.columns if layer.sees == "own column" else 1)
        for step in layer.order:
            if step == "relu":
                self._activate()
            elif step == "lrn" and layer.lrn:
                self._lrn(layer)
            elif step == "pool" and layer.pool:
                self._pool(layer)

    def _activate(self) -> None:
        kind = self.config.model.activation
        if kind == "relu":
            self.node("Relu", self.at)
            return
        if kind == "scaled_tanh":
            self.node("Mul", self.at, self.constant(np.float32(2 / 3)))
        self.node("Tanh", self.at)
        if kind == "scaled_tanh":
            self.node("Mul", self.at, self.constant(np.float32(1.7159)))

    def _lrn(self, layer: geometry.Layer) -> None:
        lrn, own = self.config.model.lrn, self.config.model.lrn.window == "column" and layer.columns > 1
        if lrn.n % 2 == 0:
            raise ConfigError(f"config.model.lrn.n: {lrn.n} is even, and ONNX's response norm is over an odd number of "
                              "channels; export as .safetensors, .pth or .stablehlo")
        pooled = layer.pool and layer.order.index("pool") < layer.order.index("lrn")
        side = layer.out_size if pooled else layer.size
        if own:  # each column an image of its own
            self._reshape(-1, layer.features, side, side)
        # ONNX divides α by the number of channels, as Caffe and PyTorch do.
        self.node("LRN", self.at, size=lrn.n, alpha=lrn.alpha * (1 if lrn.alpha_over_n else lrn.n), beta=lrn.beta,
                  bias=lrn.k)
        if own:
            self._reshape(-1, layer.columns * layer.features, side, side)
        if layer.same_map:
            self._same_map()

    def _same_map(self) -> None:
        """x / (1 + α · mean of x² over the window)^β, the mean with the zeros beyond the edge."""
        norm, x = self.config.model.same_map, self.at
        before = norm.size // 2
        after = norm.size - 1 - before
        self.node("Mul", x, x)
        self.node("AveragePool", self.at, kernel_shape=[norm.size] * 2, pads=[before, before, after, after],
                  count_include_pad=1)
        self.node("Mul", self.at, self.constant(np.float32(norm.alpha)))
        self.node("Add", self.at, self.constant(np.float32(1)))
        self.node("Pow", self.at, self.constant(np.float32(norm.beta)))
        self.node("Div", x, self.at)

    def _pool(self, layer: geometry.Layer) -> None:
        pool = self.config.model.pool
        # The last window may reach beyond the edge; pixels there count for nothing.
        far = max(0, (layer.out_size - 1) * pool.stride + pool.window - layer.size)
        self.node("MaxPool" if layer.pool == "max" else "AveragePool", self.at, kernel_shape=[pool.window] * 2,
                  strides=[pool.stride] * 2, pads=[0, 0, far, far])

    def _dense(self, layer: geometry.Layer, kernel: np.ndarray, bias: np.ndarray) -> None:
        if layer.sees == "own column" and layer.columns > 1:
            self._reshape(-1, layer.columns, 1, layer.in_features)
            by_column = kernel.reshape(layer.columns, layer.features, layer.in_features).transpose(0, 2, 1)
            self.node("MatMul", self.at, self.constant(by_column, f"{layer.name}.weight"))
            self._reshape(-1, layer.columns * layer.features)
            self.node("Add", self.at, self.constant(bias, f"{layer.name}.bias"))
        else:
            self.node("Gemm", self.at, self.constant(kernel, f"{layer.name}.weight"),
                      self.constant(bias, f"{layer.name}.bias"), transB=1)
        if not layer.is_output:
            self._activate()

    def _reshape(self, *shape: int) -> None:
        self.node("Reshape", self.at, self.constant(np.asarray(shape, np.int64)))
