"""Settings of ``mlffjax analyze``: which observables, of which frames, how finely."""

from typing import Literal, get_args

from pydantic import Field, PositiveFloat, PositiveInt

from mlffjax.config.base import Settings

ObservableName = Literal["thermo", "rdf", "adf", "msd", "spectrum", "shape", "dihedrals"]
OBSERVABLES: tuple[ObservableName, ...] = get_args(ObservableName)

Dihedral = tuple[int, int, int, int]


class AnalysisSettings(Settings):
    """What to read off a trajectory.

    Attributes:
      what: observables; those that the trajectory allows if not given. ``thermo``: temperature,
        pressure, density, energy; ``rdf``: radial distribution and coordination; ``adf``: bond
        angles; ``msd``: mean squared displacement and diffusion, along periodic directions;
        ``spectrum``: velocity autocorrelation and vibrational spectrum; ``shape``: radius of
        gyration and end-to-end distance; ``dihedrals``: their distributions and Ramachandran maps.
      start, stop, step: frames, as of a Python slice; ``start`` leaves out the equilibration.
        Of the log of a run only rows from the first to the last of them count.
      r_max: of the radial distribution in Angstrom; if not given, the size of a molecule or half
        the smallest height of a periodic cell (but 6 at least), and 10 at most.
      num_bins: of the radial distribution.
      angle_cutoff: between neighbours in Angstrom; if not given, 1.2 times the covalent radii.
      max_lag_fs: longest time of correlations in fs; if not given, a tenth of the trajectory
        and 2,000 frames at most.
      frame_fs: time between two frames of the file in fs, where it does not say.
      dihedrals: four atoms each; those of rotatable bonds if not given.
      ramachandran: two dihedral angles for each map; those of peptide residues if not given.
    """

    what: tuple[ObservableName, ...] | None = Field(default=None, min_length=1)
    start: int = 0
    stop: int | None = None
    step: PositiveInt = 1
    r_max: PositiveFloat | None = None
    num_bins: PositiveInt = 200
    angle_cutoff: PositiveFloat | None = None
    max_lag_fs: PositiveFloat | None = None
    frame_fs: PositiveFloat | None = None
    dihedrals: tuple[Dihedral, ...] | None = Field(default=None, min_length=1)
    ramachandran: tuple[tuple[Dihedral, Dihedral], ...] | None = Field(default=None, min_length=1)
