"""Reference data: frames, readers, baselines, splits, reports, batches."""

from mlffjax.data.ase_frames import frames_from_atoms as frames_from_atoms
from mlffjax.data.baseline import Baseline as Baseline
from mlffjax.data.baseline import fit_baseline as fit_baseline
from mlffjax.data.baseline import subtract_baseline as subtract_baseline
from mlffjax.data.builtin import load_builtin as load_builtin
from mlffjax.data.extxyz import write_extxyz as write_extxyz
from mlffjax.data.frames import Frame as Frame
from mlffjax.data.hdf5 import write_hdf5 as write_hdf5
from mlffjax.data.readers import read_frames as read_frames
from mlffjax.data.readers import read_structures as read_structures
from mlffjax.data.sets import DataSets as DataSets
from mlffjax.data.sets import load_sets as load_sets
from mlffjax.data.splits import Split as Split
from mlffjax.data.splits import make_split as make_split
