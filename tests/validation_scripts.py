"""The scripts of ``experiments/validation`` as modules, for the tests."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).parent.parent / "experiments" / "validation"


def script(name: str) -> ModuleType:
    """The script of that name; those it imports from its folder must be loaded before."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
