"""Figures: numbers and a path in, a PNG out."""

from mlffjax.plots.distributions import bond_lengths as bond_lengths
from mlffjax.plots.distributions import radial_distribution as radial_distribution
from mlffjax.plots.dynamics import energy_drift as energy_drift
from mlffjax.plots.dynamics import temperature as temperature
from mlffjax.plots.exploration import phonon_bands as phonon_bands
from mlffjax.plots.exploration import reaction_path as reaction_path
from mlffjax.plots.exploration import scan_line as scan_line
from mlffjax.plots.exploration import scan_map as scan_map
from mlffjax.plots.exploration import vibrational_spectrum as vibrational_spectrum
from mlffjax.plots.exploration_minima import dihedral_density as dihedral_density
from mlffjax.plots.exploration_minima import disconnectivity as disconnectivity
from mlffjax.plots.exploration_minima import hopping_feedback as hopping_feedback
from mlffjax.plots.exploration_minima import minima_found as minima_found
from mlffjax.plots.html import Picture as Picture
from mlffjax.plots.html import Row as Row
from mlffjax.plots.html import write_report as write_report
from mlffjax.plots.learning import learning_curve as learning_curve
from mlffjax.plots.parity import energy_parity as energy_parity
from mlffjax.plots.parity import force_parity as force_parity
from mlffjax.plots.structure import structure as structure
