"""Torch layouts and files."""

import sys

import numpy as np
import pytest

from mlffjax.interop.parameters import ReferenceParameters
from mlffjax.interop.torch_layers import linear, load_state_dict, mlp


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


def test_without_torch_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="install torch"):
        load_state_dict(tmp_path / "model.pt")


def test_state_dicts_are_read_bare_or_wrapped(tmp_path):
    torch = pytest.importorskip("torch")
    weight = torch.arange(3.0)
    for content in ({"module.a": weight}, {"model_state_dict": {"a": weight}}):
        torch.save(content, tmp_path / "model.pt")
        got = load_state_dict(tmp_path / "model.pt")
        np.testing.assert_array_equal(got["a"], weight.numpy())
    torch.save({"epoch": 3}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="state dict"):
        load_state_dict(tmp_path / "model.pt")
    with pytest.raises(ValueError, match="got no file"):
        load_state_dict(tmp_path / "nothing.pt")
