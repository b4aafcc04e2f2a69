"""The contract of an architecture: what it is given, what it returns, what it declares."""

from dataclasses import fields
from typing import Any, ClassVar

from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float

from mlffjax.types import AtomScalars, Forces, Params

#: Collection of variables beside ``params`` in which a compressed potential keeps its functions of
#: the distance (:mod:`mlffjax.nn.radial_spline`).
EXPANSION = "expansion"


@struct.dataclass
class AtomwiseOutput:
    """What an architecture predicts for each atom.

    Attributes:
      energy: contribution of each atom ``[atoms]``, in units of the potential's scale.
      forces: direct forces ``[atoms, 3]`` of an architecture that predicts them, in the same
        units over Angstrom; ``None`` where forces are minus the energy gradient.
      charges: partial charges ``[atoms]`` in e, where predicted.
      dipoles: atomic dipoles ``[atoms, 3]`` in e Angstrom, where predicted.
    """

    energy: AtomScalars
    forces: Forces | None = None
    charges: AtomScalars | None = None
    dipoles: Float[Array, "atoms 3"] | None = None


class Architecture(nn.Module):
    """Base of all architectures: a ``flax.linen`` module whose fields are its configuration.

    A subclass implements ``__call__(graph: EdgeGraph) -> AtomwiseOutput`` and adds its own
    fields. It computes in the dtype of ``graph.vectors``; parameters are cast by the potential.
    Fields are checked when it is constructed: the cutoff, the number of neighbours and all integers
    here, what is particular to a subclass in its ``_check``.

    Attributes:
      may_be_zero: names of the fields whose integers may be zero, such as a degree; all others
        must be positive.
      num_elements: number of elements the species index runs over; filled from the data set.
      cutoff: in Angstrom.
      avg_num_neighbors: mean number of neighbours of an atom in the training data; filled
        from the data set, used by architectures that normalise sums over neighbours.

    Raises:
      ValueError: a field without meaning, such as a cutoff of zero or a negative number of layers.
    """

    may_be_zero: ClassVar[tuple[str, ...]] = ()

    num_elements: int = 1
    cutoff: float = 5.0
    avg_num_neighbors: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self):
            lowest = 0 if field.name in self.may_be_zero else 1
            _check_field(field.name, getattr(self, field.name), lowest)
        self._check()

    def _check(self) -> None:
        """Raise ValueError for settings that have no meaning together; none here."""

    @property
    def direct_forces(self) -> bool:
        """Whether forces come from an output head and not from the energy gradient."""
        return False

    @property
    def pairwise(self) -> bool:
        """Whether each pair of neighbours is wanted once, by one of its two edges.

        What depends on the distance alone is then computed once for both directions.
        """
        return False

    @property
    def extensive(self) -> bool:
        """Whether the energy of two distant systems is the sum of their energies."""
        return True

    @property
    def mirror_symmetric(self) -> bool:
        """Whether a reflection leaves the energy unchanged (O(3)), or only rotations (SO(3))."""
        return True

    @property
    def smooth(self) -> bool:
        """Whether energy and forces are continuous as an atom crosses the cutoff."""
        return True

    @property
    def isolated_atom_is_zero(self) -> bool:
        """Whether an atom without neighbours has exactly the energy of the baseline."""
        return False

    def compressed(self, params: Params, tolerance: float) -> Params:
        """Variables for the collection :data:`EXPANSION`, with which applying takes less time.

        Args:
          params: of the trained architecture.
          tolerance: relative error of what is replaced.

        Raises:
          ValueError: the architecture spends little on functions of the distance, or the
            tolerance cannot be reached.
        """
        del params, tolerance
        raise ValueError(
            f"got {type(self).__name__}, which spends little on functions of the distance alone; "
            "expected SO3krates or SchNet; use it as it is"
        )


def _check_field(name: str, value: Any, lowest: int) -> None:
    """Cutoff and number of neighbours are positive, integers, also in tuples, not below a bound."""
    if name in ("cutoff", "avg_num_neighbors") and not value > 0:
        raise ValueError(f"got {name} {value}; expected a positive number")
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, int) and not isinstance(number, bool) and number < lowest:
            raise ValueError(f"got {name} {value}; expected at least {lowest}")
