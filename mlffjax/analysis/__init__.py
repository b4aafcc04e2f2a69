"""Observables of trajectories: streamed in blocks, computed on the device, with errors.

>>> from mlffjax.analysis import AnalysisSettings, analyze, open_frames
>>> with open_frames("md/trajectory.h5") as frames:  # doctest: +SKIP
...     analysis = analyze(frames, AnalysisSettings(what=("rdf", "msd"), start=100))
"""

from mlffjax.analysis.angles import AngleDistribution as AngleDistribution
from mlffjax.analysis.conformations import DihedralDistribution as DihedralDistribution
from mlffjax.analysis.conformations import Extent as Extent
from mlffjax.analysis.conformations import Ramachandran as Ramachandran
from mlffjax.analysis.correlation import Diffusion as Diffusion
from mlffjax.analysis.correlation import VelocityCorrelation as VelocityCorrelation
from mlffjax.analysis.pairs import RadialDistribution as RadialDistribution
from mlffjax.analysis.run import Analysis as Analysis
from mlffjax.analysis.run import analyze as analyze
from mlffjax.analysis.sources import open_frames as open_frames
from mlffjax.analysis.sources import open_replicas as open_replicas
from mlffjax.analysis.thermodynamics import Thermodynamics as Thermodynamics
from mlffjax.config.analysis import AnalysisSettings as AnalysisSettings
