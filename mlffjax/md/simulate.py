"""Integrators, put together from the primitives of ``jax_md.simulate``.

JAX-MD's ready-made loops evaluate forces only. Here a force evaluation also returns the energy
and the neighbour list (:class:`Evaluation`), so that every step knows the energy of its own
positions at no cost, and no force is ever computed with an outdated list.

Inside, masses are in amu, energies in eV, lengths in Angstrom, hence times in units of
:data:`mlffjax.md.velocities.TIME_UNIT_FS`.

References: velocity Verlet and Nose-Hoover chain in the direct translation of Tuckerman et al.,
J. Phys. A 39, 5629 (2006); Langevin by the BAOAB splitting of Leimkuhler and Matthews, Appl.
Math. Res. Express 2013, 34 (2013); :mod:`mlffjax.md.thermostats`, :mod:`mlffjax.md.barostat`.
"""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
from flax import struct
from jax_md import simulate
from jaxtyping import Array, Float, Int

from mlffjax.config.md import CellMotion, Ensemble, MDSettings
from mlffjax.md import barostat
from mlffjax.md.chains import with_number_as_data
from mlffjax.md.device_neighbors import Neighbors
from mlffjax.md.thermostats import RescalingState, rescaling_factor
from mlffjax.md.velocities import (
    TIME_UNIT_FS,
    kinetic_energy,
    remove_drift,
    remove_rotation,
)
from mlffjax.types import AtomScalars, Forces, Positions
from mlffjax.units import BOLTZMANN, GPA

#: One of ``jax_md.simulate``'s ``NVEState``, ``NVTLangevinState``, ``NVTNoseHooverState``,
#: ``NPTNoseHooverState``, or a :class:`mlffjax.md.thermostats.RescalingState`, with an
#: :class:`Evaluation` as force. Their decorator hides their fields from type checkers.
State: TypeAlias = Any

#: Relaxation time of the velocity rescaling in fs, see :class:`mlffjax.config.md.MDSettings`.
RESCALING_PERIOD_FS = 100.0


@struct.dataclass
class Evaluation:
    """What one call of the potential gives; stands in place of the force array in a state.

    Attributes:
      forces: ``[atoms, 3]`` in eV/Angstrom.
      energy: interaction energy in eV, without the element baseline.
      neighbors: the list these were computed with.
      cell: lattice vectors as rows ``[3, 3]`` in Angstrom, and
      virial: derivative of the energy by the strain ``[3, 3]`` in eV; both ``None`` where
        neither the ensemble nor the log needs the pressure.
    """

    forces: Forces
    energy: Float[Array, ""]
    neighbors: Neighbors
    cell: Float[Array, "3 3"] | None = None
    virial: Float[Array, "3 3"] | None = None

    def __rmul__(self, factor: Float[Array, ""]) -> Forces:
        """``factor * forces``: all that a momentum step asks of a force."""
        return factor * self.forces


class Evaluate(Protocol):
    """Forces, energy and list from positions, the previous list and, where it moves, the cell."""

    def __call__(
        self, positions: Positions, neighbors: Neighbors, cell: Float[Array, "3 3"] | None = None
    ) -> Evaluation:
        """One evaluation of the potential."""
        ...


@struct.dataclass
class Conditions:
    """Targets of a time step; data, so that a ramp or other targets need no new program.

    Attributes:
      kT: thermal energy in eV.
      pressure: in eV/Angstrom^3.
    """

    kT: Float[Array, ""]
    pressure: Float[Array, ""]


@dataclass(frozen=True)
class Integrator:
    """A time step of one ensemble; static, in internal units.

    Attributes:
      ensemble: as in :class:`mlffjax.config.md.MDSettings`.
      dt: time step.
      dof: degrees of freedom.
      fixed_center: the momentum of the centre of mass is set to zero in every step, and
      fixed_rotation: the overall rotation too.
      kT: thermal energy in eV at the start and at the end of the ramp.
      pressure: in eV/Angstrom^3, likewise.
      ramp_steps: steps from start to end; zero where nothing changes.
      friction: of the Langevin thermostat, per internal time.
      period: of the Nose-Hoover chain, or relaxation time of the velocity rescaling.
      barostat_period: of the Nose-Hoover barostat, or relaxation time of the cell rescaling.
      compressibility: in Angstrom^3/eV, of the cell rescaling.
      cell_motion: of the cell rescaling.
      chain_length, chain_steps, suzuki_yoshida_steps: of the Nose-Hoover chains.
      dofs: where ``dof`` is data, all values it can have, in ascending order; for the chains.
    """

    ensemble: Ensemble
    dt: float
    dof: int
    fixed_center: bool
    fixed_rotation: bool
    kT: tuple[float, float]
    pressure: tuple[float, float]
    ramp_steps: int
    friction: float
    period: float
    barostat_period: float
    compressibility: float
    cell_motion: CellMotion
    chain_length: int
    chain_steps: int
    suzuki_yoshida_steps: int
    dofs: tuple[int, ...] = ()

    @classmethod
    def from_settings(
        cls, settings: MDSettings, dof: int, atoms: int, *, net_force: bool = False
    ) -> "Integrator":
        """The integrator of the settings, for a system with ``dof`` degrees of freedom.

        Args:
          settings: of the run.
          dof: degrees of freedom.
          atoms: their number.
          net_force: whether forces need not add up to zero, so that they push the whole system.
        """
        rescaling = settings.ensemble in ("csvr", "npt-scr")
        period = settings.thermostat_period_fs or (
            RESCALING_PERIOD_FS if rescaling else 100 * settings.timestep_fs
        )
        barostat_period = settings.barostat_period_fs or 1000 * settings.timestep_fs
        hot, high = settings.temperature, settings.pressure_gpa
        last_hot = hot if settings.temperature_end is None else settings.temperature_end
        last_high = high if settings.pressure_end_gpa is None else settings.pressure_end_gpa
        # A chain with forces that add up to zero keeps the centre of mass at rest by itself.
        by_itself = settings.ensemble == "nose-hoover" and not net_force
        return cls(
            ensemble=settings.ensemble,
            dt=settings.timestep_fs / TIME_UNIT_FS,
            dof=dof,
            fixed_center=keeps_center(settings) and not by_itself,
            # The factors on a rotation that is all but zero are as often large as small: their
            # product wanders, and brings it up from the rounding error to a warm one.
            fixed_rotation=settings.ensemble == "csvr" and rotation_removed(dof, atoms),
            kT=(BOLTZMANN * hot, BOLTZMANN * last_hot),
            pressure=(GPA * high, GPA * last_high),
            ramp_steps=settings.steps if settings.ramped else 0,
            friction=settings.friction_per_ps * 1e-3 * TIME_UNIT_FS,
            period=period / TIME_UNIT_FS,
            barostat_period=barostat_period / TIME_UNIT_FS,
            compressibility=settings.compressibility_per_gpa / GPA,
            cell_motion=settings.cell_motion,
            chain_length=settings.chain_length,
            chain_steps=settings.chain_steps,
            suzuki_yoshida_steps=settings.suzuki_yoshida_steps,
        )

    @property
    def moving_cell(self) -> bool:
        """Whether the cell changes."""
        return self.ensemble.startswith("npt")

    def conditions(self, step: Int[Array, ""], dtype: Any) -> Conditions:
        """The targets of the time step that ends with ``step`` steps done."""

        def at(ends: tuple[float, float]) -> Float[Array, ""]:
            if not self.ramp_steps or ends[0] == ends[1]:
                return jnp.asarray(ends[0], dtype)
            part = jnp.minimum(step.astype(dtype) / self.ramp_steps, 1)
            return (1 - part) * ends[0] + part * ends[1]

        return Conditions(at(self.kT), at(self.pressure))

    def init(
        self,
        evaluation: Evaluation,
        positions: Positions,
        momenta: Float[Array, "atoms 3"],
        masses: AtomScalars,
        key: Array,
    ) -> State:
        """The state at the start.

        Args:
          evaluation: of ``positions``.
          positions: ``[atoms, 3]`` in Angstrom.
          momenta: ``[atoms, 3]`` in sqrt(amu eV).
          masses: ``[atoms]`` in amu.
          key: random key of all noise.
        """
        # JAX-MD's annotations know neither scalars that are arrays nor a force with an energy.
        states: Any = simulate
        mass, dtype = masses[:, None], positions.dtype
        if self.ensemble == "nve":
            return states.NVEState(positions, momenta, evaluation, mass)
        if self.ensemble == "langevin":
            return states.NVTLangevinState(positions, momenta, evaluation, mass, key)
        zero = jnp.zeros((), dtype)
        if self.ensemble in ("csvr", "npt-scr"):
            make: Any = RescalingState
            return make(positions, momenta, evaluation, mass, key, zero)
        kinetic = kinetic_energy(momenta, masses)
        kT = jnp.asarray(self.kT[0], dtype)
        chain = self._thermostat(dtype).initialize(self.dof, kinetic, kT)
        if self.ensemble == "nose-hoover":
            return states.NVTNoseHooverState(positions, momenta, evaluation, mass, chain)
        box_chain = self._chain(self.barostat_period, dtype).initialize(1, zero, kT)
        box_mass = self._box_mass(kT)
        fixed = (positions, momenta, evaluation, mass, evaluation.cell)
        return states.NPTNoseHooverState(*fixed, zero, zero, box_mass, box_chain, chain)

    def step(self, evaluate: Evaluate, state: State, conditions: Conditions) -> State:
        """One time step; ``evaluate`` is called once, at the new positions."""
        dt = jnp.asarray(self.dt, state.position.dtype)
        if self.ensemble == "nve":
            return _verlet(evaluate, dt, state)
        steps = {
            "langevin": self._langevin,
            "csvr": self._csvr,
            "nose-hoover": self._nose_hoover,
            "npt-nose-hoover": self._npt_nose_hoover,
            "npt-scr": self._npt_scr,
        }
        state = steps[self.ensemble](evaluate, state, dt, conditions)
        if self.fixed_center and state.position.shape[0] > 1:
            momentum = remove_drift(state.momentum, state.mass[:, 0])
            state = state.set(momentum=momentum)
        if self.fixed_rotation:
            momentum = remove_rotation(state.momentum, state.mass[:, 0], state.position)
            state = state.set(momentum=momentum)
        return state

    def next_place(
        self, state: State, conditions: Conditions
    ) -> tuple[Positions, Float[Array, "3 3"] | None]:
        """Positions, and the cell if it moves, at which the next step evaluates the potential.

        What else a step computes is not compiled, as nothing needs it.
        """
        places = []

        def evaluate(
            positions: Positions, neighbors: Neighbors, cell: Float[Array, "3 3"] | None = None
        ) -> Evaluation:
            del neighbors
            places.append((positions, cell))
            return state.force

        self.step(evaluate, state, conditions)
        return places[0]

    def conserved(self, state: State, conditions: Conditions) -> Float[Array, ""]:
        """The quantity in eV that the exact dynamics conserves at constant targets.

        NaN for Langevin and for the cell rescaling, where none is followed.
        """
        total = state.force.energy + kinetic_energy(state.momentum, state.mass)
        if self.ensemble in ("langevin", "npt-scr"):
            return jnp.full_like(total, jnp.nan)
        if self.ensemble == "csvr":
            return total - state.work
        if self.ensemble == "nose-hoover":
            return total + _bath(state.chain, self.dof, conditions.kT).astype(total.dtype)
        if self.ensemble == "npt-nose-hoover":
            baths = _bath(state.thermostat, self.dof, conditions.kT)
            baths = baths + _bath(state.barostat, 1, conditions.kT)
            box = state.box_momentum**2 / (2 * state.box_mass)
            work = conditions.pressure * barostat.volume(state.force.cell)
            return total + (baths + box + work).astype(total.dtype)
        return total

    def _langevin(
        self, evaluate: Evaluate, state: State, dt: Array, conditions: Conditions
    ) -> State:
        friction = jnp.asarray(self.friction, dt.dtype)
        state = simulate.momentum_step(state, dt / 2)
        state = simulate.position_step(state, _shift, dt / 2)
        # JAX-MD's annotations ask for floats.
        noise: Any = simulate.stochastic_step
        state = noise(state, dt, conditions.kT, friction)
        state = simulate.position_step(state, _shift, dt / 2)
        state = _evaluated(evaluate, state)
        return simulate.momentum_step(state, dt / 2)

    def _csvr(self, evaluate: Evaluate, state: State, dt: Array, conditions: Conditions) -> State:
        return self._rescaled(_verlet(evaluate, dt, state), dt, conditions)

    def _rescaled(self, state: State, dt: Array, conditions: Conditions) -> State:
        kinetic = kinetic_energy(state.momentum, state.mass)
        key, now = jax.random.split(state.rng)
        decay = jnp.exp(-dt / jnp.asarray(self.period, dt.dtype))
        factor = rescaling_factor(now, kinetic, conditions.kT, self.dof, decay)
        work = state.work + (factor**2 - 1) * kinetic
        return state.set(momentum=factor * state.momentum, rng=key, work=work)

    def _nose_hoover(
        self, evaluate: Evaluate, state: State, dt: Array, conditions: Conditions
    ) -> State:
        thermostat, kT = self._thermostat(dt.dtype), conditions.kT
        chain = thermostat.update_mass(state.chain, kT)
        momentum, chain = thermostat.half_step(state.momentum, chain, kT)
        state = _verlet(evaluate, dt, state.set(momentum=momentum))
        chain = chain.set(kinetic_energy=kinetic_energy(state.momentum, state.mass))
        momentum, chain = thermostat.half_step(state.momentum, chain, kT)
        return state.set(momentum=momentum, chain=chain)

    def _npt_nose_hoover(
        self, evaluate: Evaluate, state: State, dt: Array, conditions: Conditions
    ) -> State:
        kT, box_mass = conditions.kT, self._box_mass(conditions.kT)
        thermostat = self._thermostat(dt.dtype)
        box_thermostat = self._chain(self.barostat_period, dt.dtype)
        chain = thermostat.update_mass(state.thermostat, kT)
        box_chain = box_thermostat.update_mass(state.barostat, kT)
        box_momentum, box_chain = box_thermostat.half_step(state.box_momentum, box_chain, kT)
        momentum, chain = thermostat.half_step(state.momentum, chain, kT)

        def kicked(momentum: Array, box_momentum: Array, now: Evaluation) -> Array:
            velocity = box_momentum / box_mass
            return barostat.momenta_kicked(momentum, now.forces, velocity, dt / 2, self.dof)

        def box_kick(momentum: Array, now: Evaluation) -> Array:
            assert now.virial is not None
            assert now.cell is not None
            kinetic, size = kinetic_energy(momentum, state.mass), barostat.volume(now.cell)
            force = barostat.box_force(kinetic, now.virial, size, conditions.pressure, self.dof)
            return dt / 2 * force

        box_momentum = box_momentum + box_kick(momentum, state.force)
        momentum = kicked(momentum, box_momentum, state.force)
        velocity = box_momentum / box_mass
        box_position = state.box_position + dt * velocity
        positions = barostat.positions_drifted(state.position, momentum / state.mass, velocity, dt)
        cell = jnp.exp(box_position) * state.reference_box
        force = evaluate(positions, state.force.neighbors, cell)
        momentum = kicked(momentum, box_momentum, force)
        box_momentum = box_momentum + box_kick(momentum, force)
        chain = chain.set(kinetic_energy=kinetic_energy(momentum, state.mass))
        box_chain = box_chain.set(kinetic_energy=box_momentum**2 / (2 * box_mass))
        momentum, chain = thermostat.half_step(momentum, chain, kT)
        box_momentum, box_chain = box_thermostat.half_step(box_momentum, box_chain, kT)
        return state.set(
            position=positions,
            momentum=momentum,
            force=force,
            box_position=box_position,
            box_momentum=box_momentum,
            box_mass=box_mass,
            barostat=box_chain,
            thermostat=chain,
        )

    def _npt_scr(
        self, evaluate: Evaluate, state: State, dt: Array, conditions: Conditions
    ) -> State:
        """Velocity Verlet with the cell rescaled in its middle, then velocity rescaling."""
        cell, virial = state.force.cell, state.force.virial
        key, now = jax.random.split(state.rng)
        state = simulate.momentum_step(state, dt / 2)
        pressure = barostat.internal_pressure(state.momentum, state.mass, virial, cell)
        excess = pressure - conditions.pressure * jnp.eye(3, dtype=dt.dtype)
        rate = dt * jnp.asarray(self.compressibility / (3 * self.barostat_period), dt.dtype)
        size = barostat.volume(cell)
        strain = barostat.strain(now, excess, conditions.kT, size, rate, self.cell_motion)
        deformation = barostat.exponential(strain)
        half = dt / 2 * state.momentum / state.mass
        momentum = state.momentum @ barostat.exponential(-strain)
        positions = (state.position + half) @ deformation + dt / 2 * momentum / state.mass
        force = evaluate(positions, state.force.neighbors, cell @ deformation)
        state = state.set(position=positions, momentum=momentum, force=force, rng=key)
        return self._rescaled(simulate.momentum_step(state, dt / 2), dt, conditions)

    def _box_mass(self, kT: Array) -> Array:
        """``(f + 3) kT tau^2``: a period of about ``tau`` (Martyna, Tobias and Klein, 1994)."""
        return (self.dof + 3) * kT * jnp.asarray(self.barostat_period, kT.dtype) ** 2

    def _thermostat(self, dtype: Any) -> Any:
        """The chain of the atoms."""
        chain = self._chain(self.period, dtype)
        return with_number_as_data(chain, self.dofs, jnp.asarray(self.dof)) if self.dofs else chain

    def _chain(self, period: float, dtype: Any) -> Any:
        make: Any = simulate.nose_hoover_chain
        return make(
            jnp.asarray(self.dt, dtype),
            self.chain_length,
            self.chain_steps,
            self.suzuki_yoshida_steps,
            jnp.asarray(period, dtype),
        )


def keeps_center(settings: MDSettings) -> bool:
    """Whether a thermostat leaves the centre of mass at rest, whatever the velocities given."""
    if settings.ensemble == "langevin":
        return settings.fix_center
    return settings.remove_drift and settings.ensemble != "nve"


def rotation_removed(dof: Any, atoms: Any) -> Any:
    """Whether so many degrees of freedom are those of atoms without drift and without rotation."""
    return dof < 3 * (atoms - 1)


def _bath(chain: Any, dof: int, kT: Array) -> Array:
    """Energy in eV of a Nose-Hoover chain coupled to ``dof`` degrees of freedom."""
    weights = jnp.ones_like(chain.position).at[0].set(dof)
    return jnp.sum(chain.momentum**2 / (2 * chain.mass) + kT * weights * chain.position)


def _verlet(evaluate: Evaluate, dt: Float[Array, ""], state: State) -> State:
    state = simulate.momentum_step(state, dt / 2)
    state = simulate.position_step(state, _shift, dt)
    return simulate.momentum_step(_evaluated(evaluate, state), dt / 2)


def _evaluated(evaluate: Evaluate, state: State) -> State:
    return state.set(force=evaluate(state.position, state.force.neighbors))


def _shift(positions: Positions, step: Float[Array, "atoms 3"]) -> Positions:
    """Atoms are never wrapped into the cell: translations of the edges refer to them."""
    return positions + step
