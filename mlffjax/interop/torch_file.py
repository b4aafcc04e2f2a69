"""Files of ``torch.save``, read without torch and without running anything in them.

Such a file is a zip archive of raw arrays and of one pickle, which is a program: it may name any
function and call it. Here it can name a few harmless functions, listed below, which this module
implements itself. Classes of the packages in :data:`INERT_PACKAGES` become
:class:`TorchObject`, which only keeps what it is given; any other name is an error.
"""

import io
import pickle
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

#: Packages whose classes and functions are replaced by :class:`TorchObject`. ``__torch__`` is
#: the name space of compiled modules (TorchScript).
INERT_PACKAGES = (
    "__torch__",
    "argparse",
    "e3nn",
    "mace",
    "numpy",
    "opt_einsum_fx",
    "pathlib",
    "torch",
)

#: dtypes of stored arrays by the name of torch's storage class. ``bfloat16`` is widened.
STORAGES: Mapping[str, str] = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class TorchObject:
    """An object of a file that is kept as data: its class, constructor arguments and state.

    Attributes:
      kind: full name of its class, such as ``torch.nn.modules.container.ModuleList``.
      arguments: positional arguments of its construction.
      state: its attributes by name.
    """

    kind: str = ""
    arguments: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *arguments: Any) -> "TorchObject":
        self = object.__new__(cls)
        self.arguments, self.state = arguments, {}
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {"state": state}

    @property
    def name(self) -> str:
        """Name of its class without the module."""
        return self.kind.rpartition(".")[2]

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute ``name``, also where torch keeps it among parameters or submodules."""
        for place in (self.state, *(self.state.get(f"_{k}") for k in KINDS)):
            if isinstance(place, Mapping) and name in place:
                return place[name]
        return default


#: Where a torch module keeps what belongs to it.
KINDS = ("parameters", "buffers", "modules")


def read_torch_file(path: str | Path) -> Any:
    """The content of a file of ``torch.save`` (torch 1.6 or newer), without torch.

    Tensors are read-only NumPy arrays, plain containers are themselves, everything else is a
    :class:`TorchObject`. Nothing of the file is executed.

    Args:
      path: the file.

    Raises:
      ValueError: there is no such file, it is damaged or none of torch, or it names a class
        that is not read.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"got no file {path}; expected a torch checkpoint; check the path")
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"got {path}, which is no zip archive; expected a file of torch.save of torch 1.6 or "
            "newer; save it again with such a torch"
        )
    with zipfile.ZipFile(path) as archive:
        return _read(archive, str(path))


def read_torch_bytes(content: bytes, source: str) -> Any:
    """As :func:`read_torch_file`, of a file inside another.

    Args:
      content: the bytes of the inner file.
      source: what messages call it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return _read(archive, source)
    except zipfile.BadZipFile:
        raise ValueError(
            f"got a compiled module in {source} that is no zip archive; expected one of torch.jit"
        ) from None


def state_dict_of(module: TorchObject, source: str) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Parameters and buffers of a torch module by the names of ``Module.state_dict``.

    Compiled modules that e3nn stores as bytes inside the file are read too.

    Args:
      module: as :func:`read_torch_file` returns it.
      source: what messages call the file.

    Raises:
      ValueError: as :func:`read_torch_file`.
    """
    arrays, parts = dict(module.state), dict(module.state.get("_modules") or {})
    if not module.kind.startswith("__torch__."):  # compiled modules keep arrays as attributes
        places = [module.state.get(f"_{kind}") or {} for kind in KINDS[:2]]
        arrays = {name: value for place in places for name, value in place.items()}
    found = {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}
    compiled = module.state.get("__codegen__")
    if isinstance(compiled, Mapping):
        for name, content in compiled.items():
            parts[name] = read_torch_bytes(content, f"{source} ({name})")
    for name, part in parts.items():
        if isinstance(part, TorchObject):
            found |= {f"{name}.{k}": v for k, v in state_dict_of(part, source).items()}
    return found


def load_state_dict(path: str | Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Parameters of a torch checkpoint.

    Args:
      path: a file of ``torch.save``: a state dict, or a dictionary with one under
        ``state_dict`` or ``model_state_dict``. ``module.`` before all names, which data
        parallel training leaves once or twice, is removed.

    Raises:
      ValueError: as :func:`read_torch_file`, or there is no state dict in the file.
    """
    content = read_torch_file(path)
    for key in ("state_dict", "model_state_dict"):
        if isinstance(content, Mapping):
            content = content.get(key, content)
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, np.ndarray) for value in content.values())
    ):
        raise ValueError(
            f"got a file {path} without a state dict; expected a mapping of tensors, bare or "
            "under 'state_dict' or 'model_state_dict'"
        )
    names = {str(name): value for name, value in content.items()}
    while all(name.startswith("module.") for name in names):
        names = {name.removeprefix("module."): value for name, value in names.items()}
    return names


def _read(archive: zipfile.ZipFile, source: str) -> Any:
    entries = {name.partition("/")[2]: name for name in archive.namelist()}
    if "data.pkl" not in entries:
        raise ValueError(f"got {source} without data.pkl; expected a file of torch.save")
    order = b"little"
    if "byteorder" in entries:
        order = archive.read(entries["byteorder"])
    reader = _Reader(archive, entries, "<" if order == b"little" else ">", source)
    try:
        return reader.load()
    except ValueError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(
            f"got {source}, whose pickle cannot be read ({type(error).__name__}: {error}); "
            "expected a file of torch.save; check that it is complete"
        ) from error


class _Reader(pickle.Unpickler):
    """The unpickler that knows only what this module lists."""

    def __init__(
        self,
        archive: zipfile.ZipFile,
        entries: Mapping[str, str],
        order: str,
        source: str,
    ) -> None:
        super().__init__(io.BytesIO(archive.read(entries["data.pkl"])))
        self._archive, self._entries, self._order = archive, entries, order
        self._source = source
        self._inert: dict[str, type[TorchObject]] = {}
        self._storages: dict[str, np.ndarray] = {}

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """What a name of the pickle stands for here."""
        module = {"__builtin__": "builtins", "numpy._core.multiarray": "numpy.core.multiarray"}.get(
            module_name, module_name
        )
        name = f"{module}.{global_name}"
        if name in KNOWN:
            return KNOWN[name]
        if module.partition(".")[0] not in INERT_PACKAGES:
            raise ValueError(
                f"got the class or function {name} in {self._source}; expected only containers, "
                f"numbers, tensors and objects of {', '.join(INERT_PACKAGES[1:])}; save the "
                "parameters alone (the state dict), or the plain model without acceleration"
            )
        if name not in self._inert:
            self._inert[name] = type(global_name, (TorchObject,), {"kind": name})
        return self._inert[name]

    def persistent_load(self, pid: Any, /) -> Shaped[np.ndarray, "numbers"]:
        """The numbers of a storage, as torch refers to them from the pickle."""
        _, kind, key, _, count = pid
        if key in self._storages:
            return self._storages[key]
        storage = getattr(kind, "kind", str(kind)).rpartition(".")[2]
        if storage not in STORAGES:
            raise ValueError(
                f"got numbers of the kind {storage} in {self._source}; expected one of "
                f"{', '.join(STORAGES)}; convert the parameters to float32 or float64"
            )
        dtype = np.dtype(self._order + STORAGES[storage])
        numbers = np.frombuffer(self._archive.read(self._entries[f"data/{key}"]), dtype)
        if len(numbers) < count:
            raise ValueError(
                f"got {len(numbers)} numbers of the {count} of an array in {self._source}; "
                "expected all; check that the file is complete"
            )
        numbers = numbers.astype(dtype.newbyteorder("="), copy=False)
        if storage == "BFloat16Storage":
            numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
        self._storages[key] = numbers
        return numbers


def _tensor(
    storage: Shaped[np.ndarray, "numbers"],
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    *_: Any,
) -> Shaped[np.ndarray, "..."]:
    """A view of a storage, checked to stay inside it (``torch._utils._rebuild_tensor_v2``)."""
    if not (isinstance(storage, np.ndarray) and len(size) == len(stride)):
        raise ValueError("got a tensor without a storage; expected one; check the file")
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if min(offset, *size, *stride, 0) < 0 or (0 not in size and last >= len(storage)):
        raise ValueError("got a tensor that exceeds its storage; expected one inside; check it")
    strides = [s * storage.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides, writeable=False)


def _encode(text: str, encoding: str) -> bytes:
    """Bytes as pickles of protocol 2 spell them (``_codecs.encode``)."""
    if encoding != "latin1":
        raise ValueError(f"got bytes in the encoding {encoding!r}; expected 'latin1'")
    return text.encode("latin1")


class _NumpyDtype:
    """Kind and size of a NumPy number (``numpy.dtype``); objects are refused."""

    def __init__(self, code: str, *_: Any) -> None:
        if code.lstrip("<>|=")[:1] not in tuple("fiub"):
            raise ValueError(f"got NumPy data of the type {code!r}; expected numbers")
        self.code = code.lstrip("<>|=")

    def __setstate__(self, state: Any) -> None:
        self.code = f"{state[1]}{self.code}"


def _scalar(dtype: _NumpyDtype, content: bytes) -> float | int | bool:
    """A NumPy number (``numpy.core.multiarray.scalar``)."""
    return np.frombuffer(content, np.dtype(dtype.code))[0].item()


class _Function:
    """A function or class that a pickle can call, and can neither look into nor change."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("got a pickle that changes a function; expected only data; leave the file")


#: What the names of a pickle stand for, where not for an inert object.
KNOWN: Mapping[str, _Function] = {
    name: _Function(call)
    for name, call in {
        "_codecs.encode": _encode,
        "builtins.complex": complex,
        "builtins.frozenset": frozenset,
        "builtins.list": list,
        "builtins.dict": dict,
        "builtins.set": set,
        "builtins.slice": slice,
        "collections.Counter": Counter,
        "collections.OrderedDict": OrderedDict,
        "collections.defaultdict": defaultdict,
        "numpy.core.multiarray.scalar": _scalar,
        "numpy.dtype": _NumpyDtype,
        "torch.Size": tuple,
        "torch.jit._pickle.restore_type_tag": lambda value, _: value,
        "torch._utils._rebuild_parameter": lambda data, *_: data,
        "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._tensor._rebuild_from_type_v2": lambda call, _, arguments, *__: call(*arguments),
    }.items()
}
