"""Mean absolute and root mean square errors, accumulated exactly over masked batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.data import chemical_symbols
from flax import struct
from jaxtyping import Array, Float

from mlffjax.data.loader import Targets
from mlffjax.graph import AtomGraph
from mlffjax.nn.scatter import masked, sum_over_graph
from mlffjax.potential import Prediction


@struct.dataclass
class ErrorSums:
    """Sums of errors over the labelled entries of a batch; batches are added.

    Attributes:
      energy_abs, energy_sq, num_energies: over structures, of the energy an atom in eV.
      forces_abs, forces_sq, num_forces: over force components by element ``[elements]``.
      stress_abs, stress_sq, num_stresses: over stress components.
      loss, num_structures: loss of each batch times its structures, and their number.
    """

    energy_abs: Float[Array, ""]
    energy_sq: Float[Array, ""]
    num_energies: Float[Array, ""]
    forces_abs: Float[Array, "elements"]
    forces_sq: Float[Array, "elements"]
    num_forces: Float[Array, "elements"]
    stress_abs: Float[Array, ""]
    stress_sq: Float[Array, ""]
    num_stresses: Float[Array, ""]
    loss: Float[Array, ""]
    num_structures: Float[Array, ""]

    def __add__(self, other: "ErrorSums") -> "ErrorSums":
        return jax.tree.map(lambda a, b: a + b, self, other)


def error_sums(
    prediction: Prediction, targets: Targets, graph: AtomGraph, elements: Sequence[int]
) -> ErrorSums:
    """Error sums of one batch, with a loss of zero.

    Args:
      prediction: of the potential; without forces or stress these count nothing.
      targets: labels and their masks.
      graph: the padded batch.
      elements: ascending atomic numbers of the potential.
    """
    dtype = targets.energy.dtype
    zero = jnp.zeros((), dtype)
    ones = jnp.ones(graph.node_mask.shape, dtype)
    atoms = jnp.maximum(sum_over_graph(ones, graph), 1)  # type: ignore[arg-type]
    energy = masked((prediction.energy - targets.energy) / atoms, targets.has_energy)
    by_element = jnp.zeros(len(elements), dtype)
    sums = ErrorSums(
        energy_abs=jnp.abs(energy).sum(),
        energy_sq=jnp.square(energy).sum(),
        num_energies=targets.has_energy.sum(dtype=dtype),
        forces_abs=by_element,
        forces_sq=by_element,
        num_forces=by_element,
        stress_abs=zero,
        stress_sq=zero,
        num_stresses=zero,
        loss=zero,
        num_structures=graph.graph_mask.sum(dtype=dtype),
    )
    if prediction.forces is not None:
        labelled = graph.node_mask & targets.has_forces[graph.graph_index]
        forces = masked(prediction.forces - targets.forces, labelled)
        element = jnp.searchsorted(jnp.asarray(elements, graph.numbers.dtype), graph.numbers)
        add = lambda x: by_element.at[element].add(x)  # noqa: E731
        sums = replace(
            sums,
            forces_abs=add(jnp.abs(forces).sum(-1)),
            forces_sq=add(jnp.square(forces).sum(-1)),
            num_forces=add(3 * labelled.astype(dtype)),
        )
    if prediction.stress is not None:
        stress = masked(prediction.stress - targets.stress, targets.has_stress)
        sums = replace(
            sums,
            stress_abs=jnp.abs(stress).sum(),
            stress_sq=jnp.square(stress).sum(),
            num_stresses=9 * targets.has_stress.sum(dtype=dtype),
        )
    return sums


@dataclass(frozen=True)
class Metrics:
    """Errors of a data set. ``None`` where no label was compared.

    Attributes:
      energy_mae, energy_rmse: of the energy an atom in eV.
      forces_mae, forces_rmse: over force components in eV/Angstrom.
      stress_mae, stress_rmse: over stress components in eV/Angstrom^3.
      forces_mae_by_element, forces_rmse_by_element: by chemical symbol.
      num_energies, num_stresses: structures with the label.
      num_forces, num_forces_by_element: atoms with the label, in all and by chemical symbol.
      loss: mean of the batches' losses by their numbers of structures, where there was one.
    """

    energy_mae: float | None
    energy_rmse: float | None
    forces_mae: float | None
    forces_rmse: float | None
    stress_mae: float | None
    stress_rmse: float | None
    forces_mae_by_element: dict[str, float]
    forces_rmse_by_element: dict[str, float]
    num_energies: int
    num_forces: int
    num_forces_by_element: dict[str, int]
    num_stresses: int
    loss: float | None = None

    def as_dict(self) -> dict[str, float]:
        """The errors there are, flat, as records and checkpoints carry them."""
        values = {k: v for k, v in vars(self).items() if isinstance(v, float)}
        for kind in ("mae", "rmse"):
            by_element = getattr(self, f"forces_{kind}_by_element")
            values.update({f"forces_{kind}/{s}": v for s, v in by_element.items()})
        return values


def in_milli_units(name: str, value: float) -> str:
    """An error of :meth:`Metrics.as_dict` with its unit; what has none as it is.

    >>> in_milli_units("forces_mae/H", 0.0123)
    '12.3 meV/Å'
    """
    units = {"energy": "meV/atom", "forces": "meV/Å", "stress": "meV/Å³", "md_drift": "meV/atom/ps"}
    unit = next((u for kind, u in units.items() if name.startswith(kind)), None)
    return f"{value:.6g}" if unit is None else f"{1e3 * value:.6g} {unit}"


class MetricsAccumulator:
    """Adds the error sums of batches in double precision on the host.

    Args:
      elements: ascending atomic numbers of the potential.
      sums: what another accumulator had added, as of :meth:`sums`.
    """

    def __init__(
        self, elements: Sequence[int], sums: Mapping[str, float | list[float]] | None = None
    ):
        self._elements = tuple(elements)
        self._total: ErrorSums | None = None
        if sums is not None:
            total: Any = {name: np.asarray(value, np.float64) for name, value in sums.items()}
            self._total = ErrorSums(**total)

    def sums(self) -> dict[str, float | list[float]] | None:
        """All that was added, as JSON keeps it exactly; ``None`` before anything was."""
        if self._total is None:
            return None
        return {name: np.asarray(value).tolist() for name, value in vars(self._total).items()}

    def add(self, sums: ErrorSums) -> None:
        """Add the sums of one batch, or of several along a leading axis."""
        steps = np.ndim(sums.loss)
        wide = jax.tree.map(
            lambda x: np.asarray(x, np.float64).sum(0) if steps else np.asarray(x, np.float64),
            sums,
        )
        self._total = wide if self._total is None else self._total + wide

    def result(self, *, with_loss: bool = True) -> Metrics:
        """Errors over all that was added.

        Raises:
          ValueError: nothing was added.
        """
        t = self._total
        if t is None:
            raise ValueError("got no batches; expected at least one before the result")
        symbols = [chemical_symbols[z] for z in self._elements]
        count = np.asarray(t.num_forces)
        element = {
            s: (float(a), float(q), n)
            for s, a, q, n in zip(
                symbols, np.asarray(t.forces_abs), np.asarray(t.forces_sq), count, strict=True
            )
            if n
        }
        energy = _mae_rmse(t.energy_abs, t.energy_sq, t.num_energies)
        forces = _mae_rmse(np.sum(t.forces_abs), np.sum(t.forces_sq), count.sum())
        stress = _mae_rmse(t.stress_abs, t.stress_sq, t.num_stresses)
        return Metrics(
            energy_mae=energy[0],
            energy_rmse=energy[1],
            forces_mae=forces[0],
            forces_rmse=forces[1],
            stress_mae=stress[0],
            stress_rmse=stress[1],
            forces_mae_by_element={s: float(a / n) for s, (a, _, n) in element.items()},
            forces_rmse_by_element={s: float(np.sqrt(q / n)) for s, (_, q, n) in element.items()},
            num_energies=round(float(t.num_energies)),
            num_forces=round(float(count.sum()) / 3),
            num_forces_by_element={s: round(float(n) / 3) for s, (_, _, n) in element.items()},
            num_stresses=round(float(t.num_stresses) / 9),
            loss=float(t.loss / t.num_structures) if with_loss else None,
        )


def _mae_rmse(absolute, square, count) -> tuple[float | None, float | None]:
    if not count:
        return None, None
    return float(absolute / count), float(np.sqrt(square / count))
