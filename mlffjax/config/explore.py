"""Settings of relaxations and of minima hopping."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from mlffjax.config.base import Settings


class RelaxSettings(Settings):
    """How structures are relaxed.

    Attributes:
      method: ``lbfgs`` (Liu and Nocedal, Math. Program. 45, 503, 1989) or ``fire`` (Bitzek et
        al., Phys. Rev. Lett. 97, 170201, 2006).
      fmax: a structure has converged when no atom has a force above it, in eV/Angstrom, and,
        with ``cell``, no lattice component a generalised force above it (virial per atom, in eV,
        as in ASE's ``UnitCellFilter``).
      steps: force calls after which a structure is given up.
      cell: relax the cell too, all six components of the strain.
      pressure_gpa: external pressure on a relaxed cell in GPa.
      max_step: longest move of an atom in one step in Angstrom; ASE's default.
      memory: pairs of steps L-BFGS keeps; Liu and Nocedal recommend 3 to 20.
      curvature: first guess of the second derivatives in eV/Angstrom^2; ASE's default.
      batch_size: structures in one program; a converged one makes room for the next.
      chunk_steps: force calls of one compiled stretch at most.
      fixed_atoms: indices of atoms that stay where they are, the same in every structure; with
        ``cell`` they keep their fractional coordinates.
      fixed_bonds: pairs of atoms that keep their distance, that of the nearest images at the
        start; the same in every structure.
    """

    method: Literal["lbfgs", "fire"] = "lbfgs"
    fmax: PositiveFloat = 0.01
    steps: PositiveInt = 2000
    cell: bool = False
    pressure_gpa: float = 0.0
    max_step: PositiveFloat = 0.2
    memory: PositiveInt = 20
    curvature: PositiveFloat = 70.0
    batch_size: PositiveInt = 64
    chunk_steps: PositiveInt = 100
    fixed_atoms: tuple[NonNegativeInt, ...] = ()
    fixed_bonds: tuple[tuple[NonNegativeInt, NonNegativeInt], ...] = ()

    @model_validator(mode="after")
    def _goes_together(self) -> "RelaxSettings":
        if self.cell and self.fixed_bonds:
            raise ValueError(
                "got fixed_bonds with cell=true; a strain changes every bond; drop one"
            )
        if self.pressure_gpa and not self.cell:
            raise ValueError(
                f"got pressure_gpa {self.pressure_gpa} with a fixed cell; set cell=true"
            )
        return self


class HoppingSettings(Settings):
    """Minima hopping (Goedecker, J. Chem. Phys. 120, 9911, 2004).

    Defaults: temperature, energy difference, time step, force threshold and RMSD of Frank et al.,
    Nat. Commun. 15, 6539 (2024), sections II.G and IV.G; factors of the feedback and ``mdmin``
    those of ASE's ``MinimaHopping``.

    Attributes:
      walkers: searches that run at once and share what they know.
      steps: escapes of all walkers together.
      seed: of the random velocities.
      temperature: first ``T0`` of the velocities in kelvin; half of it is left on average, as
        the escape begins in a minimum.
      energy_difference: first ``E_diff`` in eV; a new minimum is accepted if it lies less than
        this above the present one.
      timestep_fs: of the escape.
      mdmin: minima of the potential energy along an escape at which it ends; 0 for escapes of
        always ``md_steps``, as in Frank et al. (1 ps).
      md_steps: longest escape.
      soften_steps: force calls that turn the velocities toward soft directions first (Sicher,
        Mohr and Goedecker, J. Chem. Phys. 134, 044106, 2011); 0 for random velocities.
      beta_same, beta_known, beta_new: factors on ``T0`` after an escape that led back, to a
        minimum of the history, and to a new one. After a failed or dissociated one, which was
        too hot, ``beta_new``.
      alpha_accepted, alpha_rejected: factors on ``E_diff``.
      rmsd: two minima closer than this are the same, in Angstrom.
      energy_tolerance: two minima further apart are different without alignment, in eV.
      permutations: atoms of one element are interchangeable.
      mirror: mirror images are the same.
      fragment_factor: a minimum is dissociated when a gap is this many times wider than the
        widest that the atoms of the start must bridge to hang together.
      keep_bonds: reject minima whose covalent bonds (1.3 times the sum of the radii) are not
        those of the start.
      relax: of the minima.
      save_interval: escapes between two saved states.
      chunk_steps: force calls of one compiled stretch at most.
    """

    walkers: PositiveInt = 8
    steps: PositiveInt = 1000
    seed: NonNegativeInt = 0
    temperature: PositiveFloat = 1000.0
    energy_difference: PositiveFloat = 2.0
    timestep_fs: PositiveFloat = 0.5
    mdmin: NonNegativeInt = 2
    md_steps: PositiveInt = 2000
    soften_steps: NonNegativeInt = 0
    beta_same: PositiveFloat = 1.1
    beta_known: PositiveFloat = 1.1
    beta_new: PositiveFloat = 1 / 1.1
    alpha_accepted: PositiveFloat = 0.98
    alpha_rejected: PositiveFloat = 1 / 0.98
    rmsd: PositiveFloat = 0.1
    energy_tolerance: PositiveFloat = 2e-3
    permutations: bool = False
    mirror: bool = False
    fragment_factor: PositiveFloat = 1.5
    keep_bonds: bool = False
    relax: RelaxSettings = RelaxSettings(fmax=1e-4, steps=5000)
    save_interval: PositiveInt = 20
    chunk_steps: PositiveInt = 500

    @model_validator(mode="after")
    def _free_relaxation(self) -> "HoppingSettings":
        relax = self.relax
        if relax.cell or relax.fixed_bonds or relax.fixed_atoms:
            raise ValueError("got a cell or fixed atoms in relax; minima hopping moves free atoms")
        return self
