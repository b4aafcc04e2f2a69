"""Files of torch are read without torch, and nothing in them is run."""

import os
import pickle
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from torch_files import Tensor, save

from mlffjax.interop.torch_file import TorchObject, load_state_dict, read_torch_file

#: Written by torch 2.13 with tensors of many kinds below ``state_dict``.
WRITTEN_BY_TORCH = Path(__file__).parent / "data" / "interop" / "state_dict.pt"


def test_what_torch_wrote_is_read_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    content = read_torch_file(WRITTEN_BY_TORCH)
    assert content["epoch"] == 3
    assert content["config"] == {"lr": 1e-3, "names": ("a", {"b"})}
    assert content["optimizer"]["param_groups"][0]["lr"] == 1e-3
    got = load_state_dict(WRITTEN_BY_TORCH)
    base = np.arange(12.0).reshape(3, 4)
    expected = {
        "transposed": base.T,
        "row": base[1],
        "expanded": np.ones(5, np.float32),
        "float16": np.array([0.5, -2], np.float16),
        "bfloat16": np.array([1.5, -3], np.float32),
        "int64": np.array([2**40, -1]),
        "bool": np.array([True, False]),
        "scalar": np.float32(3.25),
        "empty": np.zeros(0, np.float32),
        "parameter": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bias": np.array([0.5, -0.5], np.float32),
    }
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype, name
        np.testing.assert_array_equal(got[name], value)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"model_state_dict": x}])
def test_state_dicts_are_read_bare_or_wrapped(wrap, tmp_path):
    path = save(wrap({"module.a": Tensor(np.arange(3.0))}), tmp_path / "model.pt")
    np.testing.assert_array_equal(load_state_dict(path)["a"], np.arange(3.0))


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], {}])
def test_a_file_without_a_state_dict_is_an_error(content, tmp_path):
    with pytest.raises(ValueError, match="without a state dict"):
        load_state_dict(save(content, tmp_path / "model.pt"))


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "name"),
    [(os.system, "posix.system"), (eval, "builtins.eval"), (getattr, "getattr")],
)
def test_a_file_that_calls_something_is_refused_and_not_run(function, name, tmp_path):
    target = tmp_path / "touched"
    arguments = {os.system: (f"touch {target}",), eval: ("1 + 1",), getattr: (1, "real")}
    path = save({"a": Call(function, *arguments[function])}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=name):
        load_state_dict(path)
    assert not target.exists()


def test_classes_of_torch_are_data(tmp_path):
    path = tmp_path / "model.pt"
    # It calls torch.hub.load("x"), and gives the result the attribute k = 5.
    program = b"ctorch.hub\nload\nX\x01\x00\x00\x00x\x85R}X\x01\x00\x00\x00kK\x05sb."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + program)
    got = read_torch_file(path)
    assert isinstance(got, TorchObject)
    assert got.kind == "torch.hub.load"
    assert (got.arguments, got.get("k")) == (("x",), 5)


@pytest.mark.parametrize("name", [b"collections\nCounter", b"torch._utils\n_rebuild_tensor_v2"])
def test_a_file_cannot_change_what_it_names(name, tmp_path):
    path, kept = tmp_path / "model.pt", Counter.update
    # As if the state of an object: the attribute "update" becomes 1.
    program = b"\x80\x02c" + name + b"\nN}X\x06\x00\x00\x00updateK\x01s\x86b."
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(ValueError, match="changes a function"):
        read_torch_file(path)
    assert Counter.update is kept


def test_numpy_numbers_are_numbers_and_arrays_are_data(tmp_path):
    content = {"a": np.float64(2.5), "b": np.int32(-3), "c": np.arange(3)}
    got = read_torch_file(save(content, tmp_path / "model.pt"))
    assert (got["a"], got["b"]) == (2.5, -3)
    assert isinstance(got["c"], TorchObject)
    with pytest.raises(ValueError, match="'O8'; expected numbers"):
        read_torch_file(save({"a": np.array([None])}, tmp_path / "model.pt"))


@pytest.mark.parametrize(
    "options", [{"size": (4,)}, {"size": (2,), "stride": (3,)}, {"size": (-1,)}]
)
def test_a_tensor_beyond_its_storage_is_an_error(options, tmp_path):
    path = save({"a": Tensor(np.arange(3.0), **options)}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="exceeds its storage"):
        load_state_dict(path)


def test_files_that_are_none_are_errors(tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(ValueError, match="got no file"):
        load_state_dict(path)
    path.write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match="no zip archive"):
        load_state_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/other", b"")
    with pytest.raises(ValueError, match=r"without data\.pkl"):
        load_state_dict(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02X\xff")
    with pytest.raises(ValueError, match="cannot be read"):
        load_state_dict(path)


def test_numbers_cut_short_are_an_error(tmp_path):
    path = save({"a": Tensor(np.arange(3.0))}, tmp_path / "whole.pt")
    short = tmp_path / "short.pt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(short, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name)[: 16 if "/data/" in name else None])
    with pytest.raises(ValueError, match="2 numbers of the 3"):
        load_state_dict(short)
