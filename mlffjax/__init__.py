"""Machine-learned force fields in JAX: train by force matching, simulate with JAX-MD.

The names below are loaded when they are first used, so that ``import mlffjax`` is quick and
leaves JAX alone until something computes.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mlffjax.allocator import keep_freed_memory as keep_freed_memory
    from mlffjax.calculator import MLFFCalculator as MLFFCalculator
    from mlffjax.checkpoint import load as load
    from mlffjax.checkpoint import save as save
    from mlffjax.config.base import ConfigError as ConfigError
    from mlffjax.config.explore import HoppingSettings as HoppingSettings
    from mlffjax.config.explore import RelaxSettings as RelaxSettings
    from mlffjax.config.md import MDSettings as MDSettings
    from mlffjax.config.run import RunSettings as RunSettings
    from mlffjax.config.training import TrainingSettings as TrainingSettings
    from mlffjax.data.baseline import fit_baseline as fit_baseline
    from mlffjax.data.builtin import load_builtin as load_builtin
    from mlffjax.data.extxyz import write_extxyz as write_extxyz
    from mlffjax.data.frames import Frame as Frame
    from mlffjax.data.readers import read_frames as read_frames
    from mlffjax.explore.minima_hopping import hop as hop
    from mlffjax.explore.neb import nudged_elastic_band as nudged_elastic_band
    from mlffjax.explore.relax import relax as relax
    from mlffjax.explore.vibrations import vibrations as vibrations
    from mlffjax.fine_tuning import starting_potential as starting_potential
    from mlffjax.graph import AtomGraph as AtomGraph
    from mlffjax.graph import GraphSize as GraphSize
    from mlffjax.graph import batch as batch
    from mlffjax.graph import check_graph as check_graph
    from mlffjax.graph import pad as pad
    from mlffjax.md.engine import run_md as run_md
    from mlffjax.md.replicas import run_replicas as run_replicas
    from mlffjax.models import ARCHITECTURES as ARCHITECTURES
    from mlffjax.models import Architecture as Architecture
    from mlffjax.models import build as build
    from mlffjax.neighbors import atom_graph as atom_graph
    from mlffjax.neighbors import neighbor_list as neighbor_list
    from mlffjax.potential import Potential as Potential
    from mlffjax.potential import Prediction as Prediction
    from mlffjax.prediction import predict_frames as predict_frames
    from mlffjax.training.evaluate import evaluate as evaluate
    from mlffjax.training.loop import train as train
    from mlffjax.xla_flags import use_plain_loops as use_plain_loops

_HOMES = {
    "ARCHITECTURES": "mlffjax.models",
    "Architecture": "mlffjax.models",
    "AtomGraph": "mlffjax.graph",
    "ConfigError": "mlffjax.config.base",
    "Frame": "mlffjax.data.frames",
    "GraphSize": "mlffjax.graph",
    "HoppingSettings": "mlffjax.config.explore",
    "MDSettings": "mlffjax.config.md",
    "MLFFCalculator": "mlffjax.calculator",
    "Potential": "mlffjax.potential",
    "Prediction": "mlffjax.potential",
    "RelaxSettings": "mlffjax.config.explore",
    "RunSettings": "mlffjax.config.run",
    "TrainingSettings": "mlffjax.config.training",
    "atom_graph": "mlffjax.neighbors",
    "batch": "mlffjax.graph",
    "build": "mlffjax.models",
    "check_graph": "mlffjax.graph",
    "evaluate": "mlffjax.training.evaluate",
    "fit_baseline": "mlffjax.data.baseline",
    "hop": "mlffjax.explore.minima_hopping",
    "keep_freed_memory": "mlffjax.allocator",
    "load": "mlffjax.checkpoint",
    "load_builtin": "mlffjax.data.builtin",
    "neighbor_list": "mlffjax.neighbors",
    "nudged_elastic_band": "mlffjax.explore.neb",
    "pad": "mlffjax.graph",
    "predict_frames": "mlffjax.prediction",
    "read_frames": "mlffjax.data.readers",
    "relax": "mlffjax.explore.relax",
    "run_md": "mlffjax.md.engine",
    "run_replicas": "mlffjax.md.replicas",
    "save": "mlffjax.checkpoint",
    "starting_potential": "mlffjax.fine_tuning",
    "train": "mlffjax.training.loop",
    "use_plain_loops": "mlffjax.xla_flags",
    "vibrations": "mlffjax.explore.vibrations",
    "write_extxyz": "mlffjax.data.extxyz",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlffjax' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
