"""Files as ``torch.save`` writes them, made without torch, honest ones and others."""

import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

STORAGES = {"float64": "DoubleStorage", "float32": "FloatStorage", "int64": "LongStorage"}


class Tensor:
    """A tensor of a file: an array, and optionally another shape and stride than it has."""

    def __init__(self, array: np.ndarray, size: tuple | None = None, stride: tuple | None = None):
        self.array = np.array(array)
        self.size = self.array.shape if size is None else size
        steps = tuple(s // self.array.itemsize for s in self.array.strides)
        self.stride = steps if stride is None else stride

    def __reduce__(self) -> tuple:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (Storage(self.array), 0, self.size, self.stride, False, OrderedDict())


class Storage:
    """The numbers of a tensor; pickled as a persistent id."""

    def __init__(self, array: np.ndarray):
        self.array = array


class _Writer(pickle.Pickler):
    def __init__(self, file: Any):
        super().__init__(file, protocol=2)
        self.storages: list[Storage] = []

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, Storage):
            return None
        self.storages.append(obj)
        kind = getattr(sys.modules["torch"], STORAGES[obj.array.dtype.name])
        return "storage", kind, str(len(self.storages) - 1), "cpu", obj.array.size


def save(content: Any, path: Path) -> Path:
    """Write ``content``, whose :class:`Tensor` s become tensors, as torch would."""
    with _named_like_torch(), zipfile.ZipFile(path, "w") as archive:
        with archive.open("archive/data.pkl", "w") as file:
            writer = _Writer(file)
            writer.dump(content)
        archive.writestr("archive/byteorder", "little")
        for k, storage in enumerate(writer.storages):
            archive.writestr(f"archive/data/{k}", storage.array.tobytes())
    return path


@contextmanager
def _named_like_torch() -> Iterator[None]:
    """Names that the pickle refers to; whoever reads the file does not need them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    vars(utils)["_rebuild_tensor_v2"] = _rebuild_tensor_v2
    kept = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        for name, module in kept.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
