"""Settings of reaction paths."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from mlffjax.config.base import Settings


class NEBSettings(Settings):
    """How a minimum energy path is found.

    Attributes:
      images: structures between the two ends.
      climb: drive the highest image to the saddle point.
      climb_below: the highest image climbs once no image has a force above this, in
        eV/Angstrom; before, which image is the highest may still change.
      spring: constant of the springs between images in eV/Angstrom^2; between the default of ASE,
        0.1, which at this ``fmax`` lets images lie 0.2 Angstrom from even, and that of VTST, 5.
      interpolation: first path: ``idpp`` (image-dependent pair potential: Smidstrup et al., J.
        Chem. Phys. 140, 214106, 2014) or ``linear``.
      align: turn and shift the end of a molecule onto its start first; not with fixed atoms.
      method: ``fire``, or ``lbfgs`` (Sheppard, Terrell and Henkelman, J. Chem. Phys. 128, 134106,
        2008), all images as one system.
      fmax: the path has converged when no atom of any image has a force above it, spring force
        along the path and true force across it, in eV/Angstrom.
      steps: of the optimiser, after which the path is given up.
      max_step: longest move of an atom in one step in Angstrom.
      memory: pairs of steps L-BFGS keeps.
      curvature: first guess of the second derivatives for L-BFGS in eV/Angstrom^2.
      chunk_steps: steps of one compiled stretch at most.
      end_fmax: a warning names an end with a force above it in eV/Angstrom.
      fixed_atoms: indices of atoms that do not move.
    """

    images: PositiveInt = 7
    climb: bool = True
    climb_below: PositiveFloat = 0.5
    spring: PositiveFloat = 1.0
    interpolation: Literal["idpp", "linear"] = "idpp"
    align: bool = True
    method: Literal["fire", "lbfgs"] = "lbfgs"
    fmax: PositiveFloat = 0.02
    steps: PositiveInt = 1000
    max_step: PositiveFloat = 0.1
    memory: PositiveInt = 20
    curvature: PositiveFloat = 70.0
    chunk_steps: PositiveInt = 100
    end_fmax: PositiveFloat = 0.05
    fixed_atoms: tuple[NonNegativeInt, ...] = ()
