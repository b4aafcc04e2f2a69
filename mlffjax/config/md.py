"""Settings of a molecular dynamics run: the ``md`` section of a YAML file."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mlffjax.config.base import Settings

Ensemble = Literal["nve", "langevin", "nose-hoover", "csvr", "npt-nose-hoover", "npt-scr"]
CellMotion = Literal["isotropic", "orthorhombic", "flexible"]


class MDSettings(Settings):
    """What to simulate and what to keep of it.

    Attributes:
      ensemble: ``nve`` (velocity Verlet); at constant temperature ``langevin`` (BAOAB
        splitting), ``nose-hoover`` (deterministic chain) or ``csvr`` (stochastic velocity
        rescaling); at constant temperature and pressure ``npt-nose-hoover`` (deterministic,
        isotropic) or ``npt-scr`` (stochastic cell rescaling with stochastic velocity
        rescaling).
      steps: number of time steps.
      timestep_fs: time step in fs; 0.5 resolves the fastest C-H vibrations (about 11 fs).
      temperature: target in kelvin; for NVE only the temperature of the initial velocities.
      temperature_end: target at the end of the run in kelvin; the target goes there in equal
        steps. Constant if not given.
      initial_temperature: of the initial velocities in kelvin; ``temperature`` if not given.
      exact_temperature: scale initial velocities that are drawn to have exactly this temperature
        (``force_temp`` of ASE); the kinetic energies of a canonical ensemble, which are the
        default, scatter about it, those of few atoms much.
      pressure_gpa: target in GPa, for the ensembles at constant pressure.
      pressure_end_gpa: target at the end of the run in GPa; constant if not given.
      friction_per_ps: friction of the Langevin thermostat in 1/ps.
      thermostat_period_fs: period of the Nose-Hoover chain, or relaxation time of the velocity
        rescaling, in fs. If not given 100 time steps for a chain, the default of JAX-MD, and
        100 fs for the rescaling, as in the examples of Bussi, Donadio and Parrinello (2007).
      barostat_period_fs: period of the Nose-Hoover barostat, or relaxation time of the cell
        rescaling, in fs; 1000 time steps if not given, the default of JAX-MD.
      compressibility_per_gpa: of the system, roughly, for ``npt-scr``: the true relaxation time
        is ``barostat_period_fs`` times true over given compressibility. The default lies
        between that of liquids (water 0.45/GPa) and of solids (silicon 0.01/GPa).
      cell_motion: for ``npt-scr``: ``isotropic``; ``orthorhombic``, where the lengths along x, y
        and z vary by themselves; or ``flexible``, where angles vary too.
      chain_length: variables of the Nose-Hoover chain; 3 is the default of JAX-MD for chains.
      chain_steps: integration steps of the chain for each half time step.
      suzuki_yoshida_steps: factors of the splitting of each chain step.
      remove_drift: subtract the motion of the centre of mass from initial velocities that are
        drawn; under a thermostat that keeps the centre of mass at rest (all but Langevin's
        without ``fix_center``) from given ones too.
      remove_rotation: subtract the overall rotation too, for a frame without periodic
        directions. Noise and direct forces bring it back, so that it then counts in the
        temperature.
      fix_center: keep the centre of mass at rest in Langevin dynamics too, which otherwise
        moves it like a particle.
      replicas: copies run in one program, the k-th with the seed plus k; more than one only for
        ``mlffjax md`` and :func:`mlffjax.md.replicas.run_replicas`.
      seed: of the initial velocities and of all noise.
      skin: in Angstrom; the neighbour list is made this much wider than the cutoff and remade
        when an atom has moved half of it. Chosen by the size of the system if not given.
      compress: compute the filters of SO3krates and SchNet from splines where that is faster: with
        more than 16 atoms, in single precision, on a CPU. It changes forces by less than rounding
        does (:meth:`mlffjax.Potential.compressed`). Last digits depend on ``OMP_NUM_THREADS``:
        a run goes on bit for bit with the same.
      thermo_interval: steps between two rows of energies (without the element energies E0, which
        frames of the trajectory have) and temperature.
      frame_interval: steps between two frames of the trajectory.
      record_pressure: log pressure and volume at constant volume too.
      chunk_steps: steps of one compiled call, after which frames are handed to the writers.
        If not given whole frame intervals of up to 500 steps together, or one if it is longer;
        fewer steps in a large system.
      trajectory_format: ``extxyz``, ``traj`` (of ASE) or ``h5md``.
      restart_interval: steps between two restart files, rounded up to whole compiled calls;
        by ``restart_seconds`` if not given.
      restart_seconds: seconds between two restart files.
      explosion_temperature: the run stops above this temperature in kelvin; the larger of
        10,000 K and ten times the target if not given.
      bond_check: stop where a bond of the start has become 50 % longer or shorter.
    """

    ensemble: Ensemble = "langevin"
    steps: PositiveInt = 10_000
    timestep_fs: PositiveFloat = 0.5
    temperature: float = Field(default=300.0, ge=0)
    temperature_end: float | None = Field(default=None, ge=0)
    initial_temperature: float | None = Field(default=None, ge=0)
    exact_temperature: bool = False
    pressure_gpa: float = 0.0
    pressure_end_gpa: float | None = None
    friction_per_ps: PositiveFloat = 1.0
    thermostat_period_fs: PositiveFloat | None = None
    barostat_period_fs: PositiveFloat | None = None
    compressibility_per_gpa: PositiveFloat = 0.05
    cell_motion: CellMotion = "isotropic"
    chain_length: int = Field(default=3, ge=2)
    chain_steps: PositiveInt = 2
    suzuki_yoshida_steps: Literal[1, 3, 5, 7] = 3
    remove_drift: bool = True
    remove_rotation: bool = True
    fix_center: bool = False
    replicas: PositiveInt = 1
    seed: int = 0
    skin: float | None = Field(default=None, ge=0)
    compress: bool = True
    thermo_interval: PositiveInt = 10
    frame_interval: PositiveInt = 100
    record_pressure: bool = False
    chunk_steps: PositiveInt | None = None
    trajectory_format: Literal["extxyz", "traj", "h5md"] = "extxyz"
    restart_interval: PositiveInt | None = None
    restart_seconds: PositiveFloat = 60.0
    explosion_temperature: PositiveFloat | None = None
    bond_check: bool = False

    @property
    def moving_cell(self) -> bool:
        """Whether the cell changes."""
        return self.ensemble.startswith("npt")

    @property
    def ramped(self) -> bool:
        """Whether a target changes over the run, so that its number of steps matters."""
        return self.temperature_end is not None or self.pressure_end_gpa is not None

    @model_validator(mode="after")
    def _thermostat_has_a_target(self) -> "MDSettings":
        targets = (self.temperature, self.temperature_end)
        cold = [t for t in targets if t is not None and t <= 0]
        if self.ensemble != "nve" and cold:
            raise ValueError(
                f"got temperature {cold[0]} for {self.ensemble}; expected more than 0 K; "
                "raise it, or choose nve"
            )
        return self

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> "MDSettings":
        if self.temperature_end is not None and self.ensemble == "nve":
            raise ValueError(
                "got temperature_end for nve; expected an ensemble with a thermostat; choose one, "
                "or leave temperature_end out"
            )
        if self.pressure_end_gpa is not None and not self.moving_cell:
            raise ValueError(
                f"got pressure_end_gpa for {self.ensemble}; expected npt-nose-hoover or npt-scr; "
                "choose one, or leave pressure_end_gpa out"
            )
        if self.fix_center and not self.remove_drift:
            raise ValueError(
                "got fix_center with remove_drift=false; expected a centre of mass that is kept at "
                "rest or one that is not; leave one of the two out"
            )
        if self.cell_motion != "isotropic" and self.ensemble != "npt-scr":
            raise ValueError(
                f"got cell_motion {self.cell_motion!r} for {self.ensemble}; expected npt-scr; "
                "choose it, or leave cell_motion out"
            )
        return self
