"""A trained force field: architecture, parameters and energy baseline, as pure functions."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray

from mlffjax.graph import AtomGraph, EdgeGraph, edge_vectors, half
from mlffjax.models import Architecture
from mlffjax.models.base import EXPANSION, AtomwiseOutput
from mlffjax.nn import backend
from mlffjax.nn.scatter import masked, sum_over_graph
from mlffjax.precision import full_precision
from mlffjax.types import AtomScalars, Energies, Forces, Params, Species, Stresses


@struct.dataclass
class Prediction:
    """Energies, forces and stresses of a batch.

    Attributes:
      energy: interaction energy ``[graphs]`` in eV: the total energy without the element
        baseline. It keeps the digits that a total energy of -10^4 eV loses in float32.
      baseline: sum of the element energies E0 ``[graphs]`` in eV; ``energy + baseline`` is the
        total energy (in float64: :meth:`Potential.baseline_energy`).
      node_energy: share of each atom in ``energy`` ``[atoms]`` in eV.
      forces: ``[atoms, 3]`` in eV/Angstrom.
      virial: derivative of the energy by the symmetric strain ``[graphs, 3, 3]`` in eV.
      stress: ``virial / volume`` ``[graphs, 3, 3]`` in eV/Angstrom^3, tension positive;
        NaN where the cell has no volume.
    """

    energy: Energies
    baseline: Energies
    node_energy: AtomScalars
    forces: Forces | None = None
    virial: Stresses | None = None
    stress: Stresses | None = None


@struct.dataclass
class Potential:
    """A force field as a frozen pytree; the methods are pure and can be compiled.

    ``jax.jit(Potential.energy_forces)(potential, graph)`` compiles once a graph size. Where the
    atomic numbers are known before, an element that the potential does not know is an error; within
    a compiled program its atoms get energies and forces that are not a number. Matrix products are
    in full precision, see :func:`mlffjax.precision.full_precision`.

    Attributes:
      params: parameters of the architecture.
      module: the architecture (static).
      elements: atomic numbers the species index runs over, ascending (static).
      baseline: energy E0 of each element in eV, in double precision (static).
      scale: factor from the network's output to eV (static).
      shift: energy in eV added to each atom of each element, besides E0; part of the
        interaction energy (static).
      metadata: provenance as a JSON text: data statistics, versions, metrics (static).
      edges_per_block: most edges computed at a time by architectures that loop over edges: few
        take little memory and are computed again in the reverse pass; as many as there are edges
        take much and nothing is computed twice. ``None`` for the number measured to be fastest
        (static; not saved).
    """

    params: Params
    module: Architecture = struct.field(pytree_node=False)
    elements: tuple[int, ...] = struct.field(pytree_node=False)
    baseline: tuple[float, ...] = struct.field(pytree_node=False)
    scale: float = struct.field(pytree_node=False, default=1.0)
    shift: tuple[float, ...] | None = struct.field(pytree_node=False, default=None)
    metadata: str = struct.field(pytree_node=False, default="{}")
    edges_per_block: int | None = struct.field(pytree_node=False, default=None)

    @classmethod
    def init(
        cls,
        module: Architecture,
        elements: Sequence[int],
        key: Array,
        *,
        baseline: Sequence[float] | None = None,
        scale: float = 1.0,
        shift: Sequence[float] | None = None,
        dtype: Any = jnp.float32,
    ) -> "Potential":
        """A potential with random parameters.

        Args:
          module: the architecture; its ``num_elements`` is set to the number of elements.
          elements: atomic numbers, any order.
          key: random key of the initialisation.
          baseline: E0 of each of ``elements`` in eV; zero by default.
          scale: factor from the network's output to eV.
          shift: energy of each of ``elements`` added to the network's, in eV.
          dtype: of the parameters.

        Raises:
          ValueError: lengths differ, or an element is named twice.
        """
        order = np.argsort(elements)
        if len(set(elements)) != len(elements) or not len(elements):
            raise ValueError(f"got the elements {list(elements)}; expected distinct atomic numbers")
        for what, values in (("baseline", baseline), ("shift", shift)):
            if values is not None and len(values) != len(elements):
                raise ValueError(
                    f"got {len(values)} {what} energies for {len(elements)} elements; expected "
                    "one each"
                )
        zeros = np.zeros(len(elements))
        pick = lambda values: tuple(float(values[k]) for k in order)  # noqa: E731
        module = module.clone(num_elements=len(elements))
        # Compiled, so that what the parameters do not need is never run.
        params = jax.jit(module.init)(key, _smallest_graph(dtype))
        params = jax.tree.map(lambda x: x.astype(dtype) if _is_float(x) else x, params)
        return cls(
            params=params,
            module=module,
            elements=tuple(int(elements[k]) for k in order),
            baseline=pick(zeros if baseline is None else baseline),
            scale=float(scale),
            shift=None if shift is None else pick(shift),
        )

    @property
    def cutoff(self) -> float:
        """Cutoff radius of the edges in Angstrom."""
        return self.module.cutoff

    @property
    def dtype(self) -> Any:
        """dtype of the parameters; graphs should have the same."""
        floats = (x.dtype for x in jax.tree.leaves(self.params) if _is_float(x))
        return next(floats, jnp.dtype(jnp.float32))

    @property
    def num_parameters(self) -> int:
        """Number of trainable parameters."""
        return sum(x.size for x in jax.tree.leaves(self.params.get("params", {})))

    @property
    def is_compressed(self) -> bool:
        """Whether filters are splines, see :meth:`compressed`."""
        return EXPANSION in self.params

    @property
    def interaction(self) -> "Potential":
        """Without element energies and metadata; interaction energies and forces are the same.

        A compiled program serves all potentials whose static fields are equal: those that differ
        in element energies and in what is noted of them share the programs of this one.
        """
        return replace(self, baseline=(0.0,) * len(self.elements), metadata="{}")

    def astype(self, dtype: Any) -> "Potential":
        """The same potential with parameters of another dtype."""
        as_dtype = lambda x: jnp.asarray(x, dtype) if _is_float(x) else x  # noqa: E731
        return replace(self, params=jax.tree.map(as_dtype, self.params))

    def compressed(self, tolerance: float = 1e-5) -> "Potential":
        """A faster potential, in which networks of the distance alone have become splines.

        For SO3krates and SchNet, whose filters take most of the time of a step. Energy and forces
        remain smooth, and forces the derivative of the energy. It is not for training.

        Args:
          tolerance: largest error of the filters and of their slopes over their root mean square.
            With the default, forces of the quickstart's SO3krates change by 0.0006 meV/Angstrom
            at most on a quarter of its frames, where single precision rounds them by 0.011.

        Raises:
          ValueError: another architecture, a potential that is compressed already, or a
            tolerance that cannot be reached.
        """
        if self.is_compressed:
            raise ValueError(
                "got a compressed potential; expected the one it was made from; compress that one"
            )
        expansion = self.module.compressed(self.params, tolerance)
        expansion = jax.tree.map(lambda x: jnp.asarray(x, self.dtype), expansion)
        about = {**json.loads(self.metadata), "compressed": {"tolerance": tolerance}}
        params = {**self.params, EXPANSION: expansion}
        return replace(self, params=params, metadata=json.dumps(about))

    def check_elements(self, numbers: Int[np.ndarray, "atoms"]) -> None:
        """Host check that every atomic number is known.

        Raises:
          ValueError: an element the potential was not trained on.
        """
        unknown = sorted(set(np.unique(numbers).tolist()) - set(self.elements))
        if unknown:
            raise ValueError(
                f"got the atomic numbers {unknown}, which this potential was not trained on; "
                f"expected only {list(self.elements)}; train with data that has them"
            )

    def check_parameters(self) -> None:
        """Host check that the architecture can compute with the parameters, without computing.

        Raises:
          ValueError: arrays are missing, unknown or of another shape.
        """
        graph = _smallest_graph(self.dtype)
        wanted = _shapes(jax.eval_shape(self.module.init, jax.random.key(0), graph)["params"])
        given = _shapes(self.params.get("params", {}))
        for name in sorted(given.keys() | wanted.keys()):
            if given.get(name) != wanted.get(name):
                raise ValueError(
                    f"got {given.get(name, 'no array')} for the parameter {name} of "
                    f"{type(self.module).__name__}; expected {wanted.get(name, 'none')}"
                )
        if self.is_compressed:
            try:
                jax.eval_shape(lambda params: self._apply(params, graph).energy, self.params)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"got splines that {type(self.module).__name__} cannot compute with "
                    f"({str(error).splitlines()[0]}); compress the potential again"
                ) from None

    def baseline_energy(self, numbers: Int[np.ndarray, "atoms"]) -> float:
        """Sum of the element energies E0 in eV, on the host in double precision."""
        self.check_elements(numbers)
        return float(np.asarray(self.baseline)[np.searchsorted(self.elements, numbers)].sum())

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the potential to the folder ``path``; ``mlffjax.load(path)`` reads it.

        Raises:
          ValueError: ``path`` exists and ``overwrite`` is false, or is no checkpoint.
          OSError: the folder cannot be written.
        """
        # Here, because a checkpoint knows potentials and Orbax takes a second to import.
        from mlffjax.checkpoint import save

        save(self, path, overwrite=overwrite)

    @full_precision
    def energy(self, graph: AtomGraph) -> Prediction:
        """Energies of a batch, without forces; errors as :meth:`energy_forces`."""
        graph = self._edges_wanted(graph)
        return self._prediction(graph, self._atomwise(edge_vectors(graph), graph))

    @full_precision
    def energy_forces(self, graph: AtomGraph, key: PRNGKeyArray | None = None) -> Prediction:
        """Energies and forces of a batch, by one reverse pass through the edge vectors.

        Args:
          graph: the batch.
          key: of dropout and stochastic depth, for training; without one neither acts.

        Raises:
          ValueError: an element the potential does not know, one edge of each pair where both are
            needed, or positions of another dtype than the parameters.
        """
        return self._differentiate(graph, key, with_stress=False)

    @full_precision
    def energy_forces_stress(self, graph: AtomGraph, key: PRNGKeyArray | None = None) -> Prediction:
        """Energies, forces and stresses of a batch, by one reverse pass.

        Args:
          graph: the batch.
          key: of dropout and stochastic depth, for training; without one neither acts.

        Raises:
          ValueError: as :meth:`energy_forces`.
        """
        return self._differentiate(graph, key, with_stress=True)

    def _edges_wanted(self, graph: AtomGraph) -> AtomGraph:
        if graph.halved and not self.module.pairwise:
            raise ValueError(
                f"got one edge of each pair for {type(self.module).__name__}; expected both; give "
                "the graph before it was halved"
            )
        if not any(isinstance(x, Tracer) for x in (graph.numbers, graph.node_mask)):
            self.check_elements(np.asarray(graph.numbers)[np.asarray(graph.node_mask)])
        if self.edges_per_block is not None and self.edges_per_block < 1:
            raise ValueError(
                f"got {self.edges_per_block} edges a block; expected at least one, or None"
            )
        graph = jax.tree.map(jnp.asarray, graph)
        dtypes = {x.dtype for x in jax.tree.leaves(self.params) if _is_float(x)}
        if dtypes and dtypes != {graph.positions.dtype}:
            raise ValueError(
                f"got positions in {graph.positions.dtype} for parameters in {self.dtype}; "
                "expected the same; make the graph with dtype=potential.dtype, or use "
                "potential.astype"
            )
        return half(graph) if self.module.pairwise and not graph.halved else graph

    def _atomwise(
        self, vectors: Float[Array, "edges 3"], graph: AtomGraph, key: PRNGKeyArray | None = None
    ) -> AtomwiseOutput:
        species, unit = self._species(graph)
        view = EdgeGraph(
            vectors=vectors,
            species=species,
            numbers=graph.numbers,
            graph_index=graph.graph_index,
            senders=graph.senders,
            receivers=graph.receivers,
            node_mask=graph.node_mask,
            edge_mask=graph.edge_mask,
            graph_mask=graph.graph_mask,
            edges_per_block=self.edges_per_block,
        )
        rngs = None if key is None else {"dropout": key}
        output = self._apply(self.params, view, rngs)
        unit = unit.astype(output.energy.dtype)
        energy = self.scale * unit * output.energy
        if self.shift is not None:
            energy = energy + jnp.asarray(np.asarray(self.shift), energy.dtype)[view.species]
        forces = None if output.forces is None else self.scale * unit[:, None] * output.forces
        return replace(
            output,
            energy=masked(energy, graph.node_mask),
            forces=None if forces is None else masked(forces, graph.node_mask),
        )

    def _species(self, graph: AtomGraph) -> tuple[Species, AtomScalars]:
        """Index of the element of each atom, and one; not a number for an unknown element."""
        unknown = max(self.elements) + 1
        table = np.full(unknown + 1, -1, np.int32)
        table[list(self.elements)] = np.arange(len(self.elements))
        species = jnp.asarray(table)[jnp.clip(graph.numbers, 0, unknown)]
        known = (species >= 0) | ~graph.node_mask
        return jnp.maximum(species, 0), jnp.where(known, 1.0, jnp.nan)

    def _apply(self, params: Params, view: EdgeGraph, rngs: Any = None) -> AtomwiseOutput:
        return cast(AtomwiseOutput, self.module.apply(params, view, rngs=rngs))

    def _prediction(self, graph: AtomGraph, output: AtomwiseOutput) -> Prediction:
        baseline = jnp.asarray(np.asarray(self.baseline), output.energy.dtype)
        baseline = baseline[self._species(graph)[0]]
        return Prediction(
            energy=sum_over_graph(output.energy, graph),
            baseline=sum_over_graph(baseline, graph),
            node_energy=output.energy,
            forces=output.forces,
        )

    def _differentiate(
        self, graph: AtomGraph, key: PRNGKeyArray | None, *, with_stress: bool
    ) -> Prediction:
        graph = self._edges_wanted(graph)
        vectors = edge_vectors(graph)
        if self.module.direct_forces and not with_stress:
            return self._prediction(graph, self._atomwise(vectors, graph, key))

        def total(v: Float[Array, "edges 3"]) -> tuple[Array, AtomwiseOutput]:
            output = self._atomwise(v, graph, key)
            return output.energy.sum(), output

        gradient, output = jax.grad(total, has_aux=True)(vectors)
        gradient = masked(gradient, graph.edge_mask)
        prediction = self._prediction(graph, output)
        if not self.module.direct_forces:
            prediction = replace(prediction, forces=_forces(gradient, graph))
        if with_stress:
            virial = _virial(gradient, vectors, graph)
            prediction = replace(prediction, virial=virial, stress=_stress(virial, graph.cell))
        return prediction


def _forces(gradient: Float[Array, "edges 3"], graph: AtomGraph) -> Forces:
    """``F_k = -dE/dr_k``; an edge vector rises with its sender and falls with its receiver."""
    count = graph.positions.shape[0]
    if not backend.on_cpu():  # one sum, where two would be two kernels
        places = jnp.concatenate([graph.receivers, graph.senders])
        return jax.ops.segment_sum(jnp.concatenate([gradient, -gradient]), places, count)
    at_receiver = jax.ops.segment_sum(gradient, graph.receivers, count, indices_are_sorted=True)
    at_sender = jax.ops.segment_sum(gradient, graph.senders, count)
    return at_receiver - at_sender


def _virial(
    gradient: Float[Array, "edges 3"], vectors: Float[Array, "edges 3"], graph: AtomGraph
) -> Stresses:
    """Derivative by the symmetric strain: ``sum_e sym(r_e (x) dE/dr_e)``."""
    outer = gradient[:, :, None] * masked(vectors, graph.edge_mask)[:, None, :]
    graph_of_edge = graph.graph_index[graph.receivers]
    virial = jax.ops.segment_sum(
        outer, graph_of_edge, graph.graph_mask.shape[0], indices_are_sorted=True
    )
    return 0.5 * (virial + jnp.swapaxes(virial, 1, 2))


def _stress(virial: Stresses, cell: Float[Array, "graphs 3 3"]) -> Stresses:
    volume = jnp.abs(jnp.sum(cell[:, 0] * jnp.cross(cell[:, 1], cell[:, 2]), axis=-1))
    flat = (volume <= 0)[:, None, None]
    safe = jnp.where(flat, 1, volume[:, None, None])
    return jnp.where(flat, jnp.nan, virial / safe)


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)


def _shapes(tree: Any) -> dict[str, list[int]]:
    """Shape of each leaf by its path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): list(x.shape) for path, x in leaves
    }


def _smallest_graph(dtype: Any) -> EdgeGraph:
    """Two atoms and their two edges: enough to initialise any architecture."""
    return EdgeGraph(
        vectors=jnp.array([[1.0, 0.2, 0.1], [-1.0, -0.2, -0.1]], dtype),
        species=jnp.zeros(2, jnp.int32),
        numbers=jnp.ones(2, jnp.int32),
        graph_index=jnp.zeros(2, jnp.int32),
        senders=jnp.array([1, 0], jnp.int32),
        receivers=jnp.array([0, 1], jnp.int32),
        node_mask=jnp.ones(2, bool),
        edge_mask=jnp.ones(2, bool),
        graph_mask=jnp.ones(1, bool),
    )
