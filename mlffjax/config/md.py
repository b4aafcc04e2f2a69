"""Settings of a molecular dynamics run: the ``md`` section of a YAML file."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from mlffjax.config.base import Settings


class MDSettings(Settings):
    """What to simulate and what to keep of it.

    Attributes:
      ensemble: ``nve`` (velocity Verlet), ``langevin`` (NVT, BAOAB splitting) or
        ``nose-hoover`` (NVT, deterministic chain).
      steps: number of time steps.
      timestep_fs: time step in fs; 0.5 resolves the fastest C-H vibrations (about 11 fs).
      temperature: target in kelvin; for NVE only the temperature of the initial velocities.
      initial_temperature: of the initial velocities in kelvin; ``temperature`` if not given.
      friction_per_ps: friction of the Langevin thermostat in 1/ps.
      thermostat_period_fs: period of the Nose-Hoover chain in fs; 100 time steps if not given,
        the default of JAX-MD.
      chain_length: variables of the Nose-Hoover chain; 3 is the default of JAX-MD for chains.
      chain_steps: integration steps of the chain for each half time step.
      suzuki_yoshida_steps: factors of the splitting of each chain step.
      remove_drift: subtract the motion of the centre of mass from the initial velocities.
      remove_rotation: subtract the overall rotation too, for a frame without periodic
        directions.
      seed: of the initial velocities and of the Langevin noise.
      skin: in Angstrom; the neighbour list is made this much wider than the cutoff and remade
        when an atom has moved half of it. Chosen by the size of the system if not given.
      thermo_interval: steps between two rows of energies and temperature.
      frame_interval: steps between two frames of the trajectory.
      chunk_steps: steps of one compiled call, after which frames are handed to the writers.
        Chosen by the intervals and the size if not given.
      trajectory_format: ``extxyz`` or ``h5md``.
      explosion_temperature: the run stops above this temperature in kelvin; the larger of
        10,000 K and ten times the target if not given.
    """

    ensemble: Literal["nve", "langevin", "nose-hoover"] = "langevin"
    steps: PositiveInt = 10_000
    timestep_fs: PositiveFloat = 0.5
    temperature: float = Field(default=300.0, ge=0)
    initial_temperature: float | None = Field(default=None, ge=0)
    friction_per_ps: PositiveFloat = 1.0
    thermostat_period_fs: PositiveFloat | None = None
    chain_length: int = Field(default=3, ge=2)
    chain_steps: PositiveInt = 2
    suzuki_yoshida_steps: Literal[1, 3, 5, 7] = 3
    remove_drift: bool = True
    remove_rotation: bool = True
    seed: int = 0
    skin: float | None = Field(default=None, ge=0)
    thermo_interval: PositiveInt = 10
    frame_interval: PositiveInt = 100
    chunk_steps: PositiveInt | None = None
    trajectory_format: Literal["extxyz", "h5md"] = "extxyz"
    explosion_temperature: PositiveFloat | None = None

    @model_validator(mode="after")
    def _thermostat_has_a_target(self) -> "MDSettings":
        if self.ensemble != "nve" and self.temperature <= 0:
            raise ValueError(
                f"got temperature {self.temperature} for {self.ensemble}; expected more than 0 K; "
                "raise it, or choose nve"
            )
        return self
