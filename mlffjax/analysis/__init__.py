"""Observables of trajectories: streamed in blocks, computed on the device, with errors."""

from mlffjax.analysis.angles import AngleDistribution as AngleDistribution
from mlffjax.analysis.pairs import RadialDistribution as RadialDistribution
