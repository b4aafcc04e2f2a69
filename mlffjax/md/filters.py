"""The potential that dynamics computes with: its filters are splines where that is faster."""

import jax
import jax.numpy as jnp

from mlffjax.config.md import MDSettings
from mlffjax.potential import Potential

#: Up to so many atoms a step is some hundreds of small operations, and splines save nothing
#: (ethanol, ``benchmarks/changes.md``).
FEW_ATOMS = 16


def for_dynamics(potential: Potential, settings: MDSettings, num_atoms: int) -> Potential:
    """The potential itself, or its :meth:`~mlffjax.Potential.compressed` twin.

    On a CPU and in single precision, whose rounding is larger than what the splines change. What
    is chosen does not depend on the number of steps: a run may be made longer when it goes on.

    Args:
      potential: the force field, of any architecture.
      settings: of the run.
      num_atoms: of all replicas together.
    """
    single = potential.dtype == jnp.float32 and jax.default_backend() == "cpu"
    if not (settings.compress and single and num_atoms > FEW_ATOMS):
        return potential
    try:
        return potential.compressed()
    except ValueError:  # Nothing to compress, or functions too rough for splines.
        return potential
