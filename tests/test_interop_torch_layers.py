"""Layouts of torch."""

import numpy as np

from mlffjax.interop.parameters import ReferenceParameters
from mlffjax.interop.torch_layers import linear, mlp


def test_linear_layers_are_transposed():
    weight = np.arange(6.0).reshape(2, 3)
    source = ReferenceParameters({"net.0.weight": weight, "net.2.weight": weight.T})
    params = mlp(source, "net.")
    np.testing.assert_array_equal(params["layer_0"]["kernel"], weight.T)
    np.testing.assert_array_equal(params["layer_1"]["kernel"], weight)
    assert "bias" not in params["layer_0"]
    source = ReferenceParameters({"a.weight": weight, "a.bias": np.ones(2)})
    np.testing.assert_array_equal(linear(source, "a.")["bias"], np.ones(2))
    source.finish()
