"""Integrators, put together from the primitives of ``jax_md.simulate``.

JAX-MD's ready-made loops evaluate forces only. Here a force evaluation also returns the energy
and the neighbour list (:class:`Evaluation`), so that every step knows the energy of its own
positions at no cost, and no force is ever computed with an outdated list.

Inside, masses are in amu, energies in eV, lengths in Angstrom, hence times in units of
:data:`mlffjax.md.velocities.TIME_UNIT_FS`.

References: velocity Verlet and Nose-Hoover chain in the direct translation of Tuckerman et al.,
J. Phys. A 39, 5629 (2006); Langevin by the BAOAB splitting of Leimkuhler and Matthews, Appl.
Math. Res. Express 2013, 34 (2013).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
from flax import struct
from jax_md import simulate
from jaxtyping import Array, Float

from mlffjax.config.md import MDSettings
from mlffjax.md.device_neighbors import Neighbors
from mlffjax.md.velocities import TIME_UNIT_FS, kinetic_energy
from mlffjax.types import AtomScalars, Forces, Positions
from mlffjax.units import BOLTZMANN

#: One of ``jax_md.simulate``'s ``NVEState``, ``NVTLangevinState``, ``NVTNoseHooverState``, with an
#: :class:`Evaluation` as force. Their decorator hides their fields from type checkers.
State: TypeAlias = Any


@struct.dataclass
class Evaluation:
    """What one call of the potential gives; stands in place of the force array in a state.

    Attributes:
      forces: ``[atoms, 3]`` in eV/Angstrom.
      energy: interaction energy in eV, without the element baseline.
      neighbors: the list these were computed with.
    """

    forces: Forces
    energy: Float[Array, ""]
    neighbors: Neighbors

    def __rmul__(self, factor: Float[Array, ""]) -> Forces:
        """``factor * forces``: all that a momentum step asks of a force."""
        return factor * self.forces


Evaluate = Callable[[Positions, Neighbors], Evaluation]


@dataclass(frozen=True)
class Integrator:
    """A time step of one ensemble; static, in internal units.

    Attributes:
      ensemble: as in :class:`mlffjax.config.md.MDSettings`.
      dt: time step.
      kT: thermal energy in eV.
      dof: degrees of freedom.
      friction: of the Langevin thermostat, per internal time.
      period: of the Nose-Hoover chain.
      chain_length, chain_steps, suzuki_yoshida_steps: of the Nose-Hoover chain.
    """

    ensemble: Literal["nve", "langevin", "nose-hoover"]
    dt: float
    kT: float
    dof: int
    friction: float
    period: float
    chain_length: int
    chain_steps: int
    suzuki_yoshida_steps: int

    @classmethod
    def from_settings(cls, settings: MDSettings, dof: int) -> "Integrator":
        """The integrator of the settings, for a system with ``dof`` degrees of freedom."""
        period = settings.thermostat_period_fs or 100 * settings.timestep_fs
        return cls(
            ensemble=settings.ensemble,
            dt=settings.timestep_fs / TIME_UNIT_FS,
            kT=BOLTZMANN * settings.temperature,
            dof=dof,
            friction=settings.friction_per_ps * 1e-3 * TIME_UNIT_FS,
            period=period / TIME_UNIT_FS,
            chain_length=settings.chain_length,
            chain_steps=settings.chain_steps,
            suzuki_yoshida_steps=settings.suzuki_yoshida_steps,
        )

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
          key: random key of the Langevin noise.
        """
        # JAX-MD's annotations know neither scalars that are arrays nor a force with an energy.
        states: Any = simulate
        mass = masses[:, None]
        if self.ensemble == "nve":
            return states.NVEState(positions, momenta, evaluation, mass)
        if self.ensemble == "langevin":
            return states.NVTLangevinState(positions, momenta, evaluation, mass, key)
        kinetic = kinetic_energy(momenta, masses)
        kT = jnp.asarray(self.kT, positions.dtype)
        chain = self._chain(positions.dtype).initialize(self.dof, kinetic, kT)
        return states.NVTNoseHooverState(positions, momenta, evaluation, mass, chain)

    def step(self, evaluate: Evaluate, state: State) -> State:
        """One time step; ``evaluate`` is called once, at the new positions."""
        dt = jnp.asarray(self.dt, state.position.dtype)
        if self.ensemble == "nve":
            return _verlet(evaluate, dt, state)
        kT = jnp.asarray(self.kT, dt.dtype)
        if self.ensemble == "langevin":
            state = simulate.momentum_step(state, dt / 2)
            state = simulate.position_step(state, _shift, dt / 2)
            friction = jnp.asarray(self.friction, dt.dtype)
            state = simulate.stochastic_step(state, dt, kT, friction)
            state = simulate.position_step(state, _shift, dt / 2)
            state = _evaluated(evaluate, state)
            return simulate.momentum_step(state, dt / 2)
        thermostat = self._chain(dt.dtype)
        chain = thermostat.update_mass(state.chain, kT)
        momentum, chain = thermostat.half_step(state.momentum, chain, kT)
        state = _verlet(evaluate, dt, state.set(momentum=momentum))
        chain = chain.set(kinetic_energy=kinetic_energy(state.momentum, state.mass))
        momentum, chain = thermostat.half_step(state.momentum, chain, kT)
        return state.set(momentum=momentum, chain=chain)

    def conserved(self, state: State) -> Float[Array, ""]:
        """The quantity in eV that the exact dynamics conserves; NaN for Langevin."""
        total = state.force.energy + kinetic_energy(state.momentum, state.mass)
        if self.ensemble == "langevin":
            return jnp.full_like(total, jnp.nan)
        if self.ensemble == "nose-hoover":
            chain = state.chain
            kT = jnp.asarray(self.kT, total.dtype)
            weights = jnp.ones_like(chain.position).at[0].set(self.dof)
            bath = jnp.sum(chain.momentum**2 / (2 * chain.mass) + kT * weights * chain.position)
            return total + bath.astype(total.dtype)
        return total

    def _chain(self, dtype: Any) -> Any:
        make: Any = simulate.nose_hoover_chain
        return make(
            jnp.asarray(self.dt, dtype),
            self.chain_length,
            self.chain_steps,
            self.suzuki_yoshida_steps,
            jnp.asarray(self.period, dtype),
        )


def _verlet(evaluate: Evaluate, dt: Float[Array, ""], state: State) -> State:
    state = simulate.momentum_step(state, dt / 2)
    state = simulate.position_step(state, _shift, dt)
    return simulate.momentum_step(_evaluated(evaluate, state), dt / 2)


def _evaluated(evaluate: Evaluate, state: State) -> State:
    return state.set(force=evaluate(state.position, state.force.neighbors))


def _shift(positions: Positions, step: Float[Array, "atoms 3"]) -> Positions:
    """Atoms are never wrapped into the cell: translations of the edges refer to them."""
    return positions + step
