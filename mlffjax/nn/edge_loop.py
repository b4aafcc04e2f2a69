"""Sums over the neighbours of every atom, edge by edge in blocks, to any order of derivative.

A message needs many numbers of an edge for a short time. Here a block of edges is gathered,
computed and summed at once, and computed again in the reverse pass, so that no array of all edges
times channels exists. The derivative of such a loop is a loop of the same kind: what was gathered
is summed and what was summed is gathered. Each block therefore adds to the sums in place, and
the time stays linear in the atoms, where the derivative of a plain ``jax.lax.scan`` adds an array
of all atoms for every block.

The loop is a primitive of its own, because it is to be differentiated in forward and in reverse
mode and in any order, which ``jax.custom_vjp`` and ``jax.custom_jvp`` do not allow.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import Array

from mlffjax.graph import EdgeGraph
from mlffjax.nn import backend

#: Functions whose programs are kept: those of a few models and their derivatives.
KEPT = 256


class EdgeTerms(NamedTuple):
    """Arrays that belong to the ends of an edge, to the edge, and to no edge; pytrees.

    As inputs of a loop: gathered by sender, by receiver, and by both ``[atoms, ...]``, given for
    each edge ``[edges, ...]``, and the same for all edges. As outputs: summed at the senders, at
    the receivers, and at both into one, returned for each edge, and summed over all edges. Empty
    where there is none. The pytrees are tuples: they also hold parts, and whole arrays where rows
    were.

    Rows of ``ends`` are a pair, those at the sender and those at the receiver.
    """

    senders: Any = ()
    receivers: Any = ()
    ends: Any = ()
    edges: Any = ()
    shared: Any = ()


EdgeFunction = Callable[[EdgeTerms], EdgeTerms]
#: How many of the fields of :class:`EdgeTerms` belong to atoms, and whose places ascend.
AT_ATOMS = 3
ASCENDING = (False, True, False)


class _Loop(NamedTuple):
    """What is static in a loop.

    Attributes:
      block: what is done with the rows of a block, from leaves to leaves.
      inputs, outputs: structures of the two, :class:`EdgeTerms`.
      num_atoms: length of the sums at senders and receivers.
      size: largest number of edges of a block.
    """

    block: ClosedJaxpr
    inputs: Any
    outputs: Any
    num_atoms: int
    size: int

    def of(self, leaves: Sequence[Any]) -> EdgeTerms:
        """What the function returns for the rows of a block."""
        return jax.tree.unflatten(self.outputs, jaxpr_as_fun(self.block)(*leaves))


def edge_loop(function: EdgeFunction, graph: EdgeGraph, inputs: EdgeTerms, size: int) -> EdgeTerms:
    """Apply ``function`` to blocks of edges and sum what it returns.

    Blocks of nothing but padding at the end are not computed.

    Args:
      function: from the rows of a block (``inputs`` gathered: ``[rows, ...]``, ``shared`` as it
        is) to the rows of the result; its ``shared`` output is already summed over the rows.
        Pure, differentiable, without arrays of its own; where equal ones are given again, as by
        the layers of a model, it is traced only once. Padded edges, and rows whose ``edges``
        input is zero, with which the last block is filled, must contribute zero to every sum.
      graph: the edges.
      inputs: arrays of floating-point numbers.
      size: largest number of edges of a block, unless the graph says otherwise. Where one block
        holds all edges, what it computes is kept for the reverse pass instead of being computed
        again.

    Returns:
      ``[atoms, ...]`` at senders and receivers, ``[edges, ...]`` (zero in the blocks left out), and
      sums over all edges.
    """
    if not backend.on_cpu():
        return _looped(_EndsTogether(function), graph, inputs, size)
    apart = inputs._replace(
        senders=(inputs.senders, inputs.ends), receivers=(inputs.receivers, inputs.ends), ends=()
    )
    sums = _looped(_EndsApart(function), graph, apart, size)
    (senders, at_sender), (receivers, at_receiver) = sums.senders, sums.receivers
    ends = jax.tree.map(jnp.add, at_sender, at_receiver)
    return sums._replace(senders=senders, receivers=receivers, ends=ends)


@dataclass(frozen=True)
class _EndsTogether:
    """A loop's function with rows of both ends in one array ``[2, edges, ...]``.

    As accelerators like it: one gather and one sum, where two would be two kernels.
    """

    function: EdgeFunction

    def __call__(self, terms: EdgeTerms) -> EdgeTerms:
        ends = tuple(jax.tree.map(lambda x, k=k: x[k], terms.ends) for k in (0, 1))
        made = self.function(terms._replace(ends=ends))
        return made._replace(ends=jax.tree.map(lambda *x: jnp.stack(x), *(made.ends or [()])))


@dataclass(frozen=True)
class _EndsApart:
    """A loop's function with rows of both ends beside those of the senders and the receivers.

    As a CPU likes it: in one array, as above, they would have to be copied.
    """

    function: EdgeFunction

    def __call__(self, terms: EdgeTerms) -> EdgeTerms:
        (senders, at_sender), (receivers, at_receiver) = terms.senders, terms.receivers
        ends = (at_sender, at_receiver)
        made = self.function(EdgeTerms(senders, receivers, ends, terms.edges, terms.shared))
        at_sender, at_receiver = made.ends or ((), ())
        return made._replace(
            senders=(made.senders, at_sender), receivers=(made.receivers, at_receiver), ends=()
        )


def _looped(function: EdgeFunction, graph: EdgeGraph, inputs: EdgeTerms, size: int) -> EdgeTerms:
    size, count = graph.edges_per_block or size, graph.senders.shape[0]
    loop = _loop(function, inputs, count, graph.num_atoms, size)
    place = jnp.arange(1, count + 1, dtype=jnp.int32)
    used = jnp.max(jnp.where(graph.edge_mask, place, 0), initial=0)
    indices = (used, graph.senders, graph.receivers)
    if count <= size:
        # Small enough to be kept: JAX's own derivative, which computes nothing twice.
        return _run(loop, *indices, *jax.tree.leaves(inputs))
    return _bind(loop, indices, jax.tree.leaves(inputs))


def _loop(
    function: EdgeFunction, inputs: EdgeTerms, count: int, num_atoms: int, size: int
) -> _Loop:
    """The loop of a function over inputs of all atoms and edges."""
    rows = _blocks(count, size)[1]

    def of_rows(x: Array) -> tuple[tuple[int, ...], Any]:
        return (rows, *x.shape[1:]), x.dtype

    def of_two_rows(x: Array) -> tuple[tuple[int, ...], Any]:
        return (2, rows, *x.shape[1:]), x.dtype

    def whole(x: Array) -> tuple[tuple[int, ...], Any]:
        return x.shape, x.dtype

    forms = EdgeTerms(of_rows, of_rows, of_two_rows, of_rows, whole)
    leaves = [
        form(x) for form, part in zip(forms, inputs, strict=True) for x in jax.tree.leaves(part)
    ]
    tree = jax.tree.structure(inputs)
    # What is traced within the devices of a mesh names them, and is of no use elsewhere.
    context = (jax.sharding.get_abstract_mesh(), backend.matmul_precision())
    block, outputs = _staged(function, tree, tuple(leaves), context)
    return _Loop(block, tree, outputs, num_atoms, size)


@lru_cache(maxsize=KEPT)
def _staged(
    function: EdgeFunction, tree: Any, leaves: tuple[Any, ...], context: Any
) -> tuple[ClosedJaxpr, Any]:
    """A function as a program for a mesh and a precision, and the structure of what it returns.

    Tracing is half of the time to a first step of training: layers share what is traced, and
    derivatives are taken of the program and not of the function.
    """
    del context  # tracing sees it by itself
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in leaves]
    made: Any = jax.make_jaxpr(function, return_shape=True)(jax.tree.unflatten(tree, shapes))
    program, results = made
    # A derivative's trace also holds what it does not need, as the values themselves.
    used, _ = dce_jaxpr(program.jaxpr, [True] * len(program.out_avals), instantiate=True)
    return program.replace(jaxpr=used), jax.tree.structure(results)


def _blocks(count: int, size: int) -> tuple[int, int]:
    """Number of blocks, and rows of each."""
    blocks = max(1, -(-count // size))
    return blocks, -(-count // blocks)


def _shapes(loop: _Loop, count: int) -> EdgeTerms:
    """Shapes and dtypes of what a loop over ``count`` edges returns."""
    rows: EdgeTerms = jax.tree.unflatten(loop.outputs, loop.block.out_avals)

    def of(length: int, axes: int) -> Callable[[Any], Any]:
        return lambda x: jax.ShapeDtypeStruct((length, *x.shape[axes:]), x.dtype)

    return EdgeTerms(
        senders=jax.tree.map(of(loop.num_atoms, 1), rows.senders),
        receivers=jax.tree.map(of(loop.num_atoms, 1), rows.receivers),
        ends=jax.tree.map(of(loop.num_atoms, 2), rows.ends),
        edges=jax.tree.map(of(count, 1), rows.edges),
        shared=rows.shared,
    )


def _bind(loop: _Loop, indices: Sequence[Array], leaves: Sequence[Array]) -> EdgeTerms:
    return jax.tree.unflatten(loop.outputs, _edge_loop.bind(*indices, *leaves, loop=loop))


def _run(loop: _Loop, used: Array, senders: Array, receivers: Array, *leaves: Array) -> EdgeTerms:
    inputs: EdgeTerms = jax.tree.unflatten(loop.inputs, leaves)
    count = senders.shape[0]
    blocks, rows = _blocks(count, loop.size)

    def split(x: Array, fill: int = 0) -> Array:
        room = [(0, blocks * rows - count)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, room, constant_values=fill).reshape(blocks, rows, *x.shape[1:])

    # Padding goes to the last atom, so that receivers stay ascending.
    senders, receivers = (split(x, loop.num_atoms - 1) for x in (senders, receivers))
    places_of = (senders, receivers, jnp.stack([senders, receivers], 1))
    edges_of = jax.tree.map(split, inputs.edges)
    tables = [_joined(part) for part in inputs[:AT_ATOMS]]

    def made(places: Sequence[Array], edges: Any) -> EdgeTerms:
        """What the function returns for a block."""
        sender, receiver, ends = (
            part(jax.tree.map(partial(_rows, where), table))
            for (table, part), where in zip(tables, places, strict=True)
        )
        return loop.of(jax.tree.leaves(EdgeTerms(sender, receiver, ends, edges, inputs.shared)))

    zeros: EdgeTerms = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype), _shapes(loop, blocks * rows)
    )
    sums = [_joined(part) for part in zeros[:AT_ATOMS]]
    edges = jax.tree.map(lambda x: x.reshape(blocks, rows, *x.shape[1:]), zeros.edges)
    start = ([total for total, _ in sums], edges, zeros.shared)

    def add(k: Array | int, totals: Any) -> Any:
        at_atoms, edges, shared = totals
        places = [x[k] for x in places_of]
        block = made(places, jax.tree.map(lambda x: x[k], edges_of))
        at_atoms = list(map(_summed, at_atoms, block[:AT_ATOMS], places, ASCENDING))
        edges = jax.tree.map(partial(_put, k), edges, block.edges)
        return at_atoms, edges, jax.tree.map(jnp.add, shared, block.shared)

    # One block is differentiated by JAX, which needs to know how often a loop turns.
    needed = (used + (rows - 1)) // rows
    totals = add(0, start) if blocks == 1 else jax.lax.fori_loop(0, needed, add, start)
    at_atoms, edges, shared = totals
    at_senders, at_receivers, ends = (
        part(total) for (_, part), total in zip(sums, at_atoms, strict=True)
    )
    edges = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], edges)
    return EdgeTerms(at_senders, at_receivers, ends, edges, shared)


def _joined(tree: Any, axis: int = 1) -> tuple[Any, Callable[[Any], Any]]:
    """Arrays alike up to ``axis`` side by side in one, and how to part rows of that again.

    On an accelerator, where each gather and each sum is a kernel and a small system waits for
    kernels (``benchmarks/gpu_kernels.py``). On a CPU they stay as they are: joining would copy.
    """
    leaves, structure = jax.tree.flatten(tree)
    if backend.on_cpu() or len(leaves) < 2 or len({x.dtype for x in leaves}) > 1:
        return tree, lambda rows: rows
    ends = np.cumsum([math.prod(x.shape[axis:]) for x in leaves])[:-1]

    def part(rows: Array) -> Any:
        parts = zip(jnp.split(rows, ends, axis=-1), leaves, strict=True)
        shaped = [x.reshape(*rows.shape[:-1], *y.shape[axis:]) for x, y in parts]
        return jax.tree.unflatten(structure, shaped)

    return jnp.concatenate([x.reshape(*x.shape[:axis], -1) for x in leaves], axis=-1), part


def _rows(where: Array, array: Array) -> Array:
    """Rows of an array of atoms ``[*where.shape, ...]``."""
    return array.at[where].get(mode="promise_in_bounds")


def _summed(totals: Any, rows: Any, where: Array, ascending: bool) -> Any:
    """Totals ``[atoms, ...]`` with rows ``[*where.shape, ...]`` added in their places."""

    def added(total: Array, values: Array) -> Array:
        place = total.at[where]
        return place.add(values, indices_are_sorted=ascending, mode="promise_in_bounds")

    return jax.tree.map(added, totals, _joined(rows, axis=where.ndim)[0])


def _put(k: Array | int, total: Array, values: Array) -> Array:
    # In place; ``at[k].set`` would look whether there is such a place.
    return jax.lax.dynamic_update_index_in_dim(total, values, k, 0)


def evaluate(*arguments: Array, loop: _Loop) -> list[Array]:
    """What the primitive ``edge_loop`` computes, written in JAX's own primitives.

    Args:
      arguments: edges up to the last real one, senders, receivers and the leaves of the inputs.
      loop: the parameter of the primitive.
    """
    return jax.tree.leaves(_run(loop, *arguments))


def _with(inputs: EdgeTerms, more: EdgeTerms) -> EdgeTerms:
    """Both as the inputs of one loop."""
    return EdgeTerms(*zip(inputs, more, strict=True))


def _parts(terms: EdgeTerms) -> tuple[EdgeTerms, EdgeTerms]:
    return EdgeTerms(*(x[0] for x in terms)), EdgeTerms(*(x[1] for x in terms))


def _chosen(tree: Any, leaves: Sequence[Any], chosen: Sequence[bool]) -> EdgeTerms:
    """The chosen leaves in their places, nothing in the others."""
    return jax.tree.unflatten(tree, [x if c else () for c, x in zip(chosen, leaves, strict=True)])


def _merged(chosen: Sequence[bool], yes: Sequence[Any], no: Sequence[Any]) -> list[Any]:
    """Leaves taken in turn from ``yes`` and ``no``."""
    one, two = iter(yes), iter(no)
    return [next(one) if c else next(two) for c in chosen]


@dataclass(frozen=True)
class _Tangent:
    """Derivative of a loop's function along a change of some of its inputs.

    Attributes:
      loop: which.
      moving: for each leaf of its inputs, whether it changes.
    """

    loop: _Loop
    moving: tuple[bool, ...]

    def __call__(self, terms: EdgeTerms) -> EdgeTerms:
        rows, change = (jax.tree.leaves(x) for x in _parts(terms))
        fixed = [x for m, x in zip(self.moving, rows, strict=True) if not m]
        moved = [x for m, x in zip(self.moving, rows, strict=True) if m]

        def of(moved: list[Array]) -> EdgeTerms:
            return self.loop.of(_merged(self.moving, moved, fixed))

        return jax.jvp(of, (moved,), (change,))[1]


@dataclass(frozen=True)
class _Reverse:
    """Transpose of a loop's function, which is linear in some of its inputs.

    Attributes:
      loop: which.
      linear: for each leaf of its inputs, whether it is one of them.
    """

    loop: _Loop
    linear: tuple[bool, ...]

    def __call__(self, terms: EdgeTerms) -> EdgeTerms:
        rows, ct = _parts(terms)
        given = jax.tree.leaves(rows)
        # A linear function has the same derivative everywhere: also at zero.
        avals = zip(self.linear, self.loop.block.in_avals, strict=True)
        blank: Any = [jnp.zeros(x.shape, x.dtype) for m, x in avals if m]

        def of(moved: list[Array]) -> EdgeTerms:
            return self.loop.of(_merged(self.linear, moved, given))

        (gradient,) = jax.vjp(of, blank)[1](ct)
        leaves = _merged(self.linear, gradient, [()] * len(given))
        return jax.tree.unflatten(self.loop.inputs, leaves)


def _jvp(
    primals: Sequence[Array], tangents: Sequence[Any], *, loop: _Loop
) -> tuple[list[Array], list[Array]]:
    indices, leaves = primals[:3], primals[3:]
    moving = tuple(not isinstance(t, ad.Zero) for t in tangents[3:])
    results = _edge_loop.bind(*primals, loop=loop)
    whole = jax.tree.unflatten(loop.inputs, leaves)
    inputs = _with(whole, _chosen(loop.inputs, tangents[3:], moving))
    count = indices[1].shape[0]
    changed = _loop(_Tangent(loop, moving), inputs, count, loop.num_atoms, loop.size)
    return results, jax.tree.leaves(_bind(changed, indices, jax.tree.leaves(inputs)))


def _transpose(cotangents: Sequence[Any], *arguments: Any, loop: _Loop) -> list[Any]:
    indices, leaves = arguments[:3], arguments[3:]
    linear = tuple(ad.is_undefined_primal(x) for x in leaves)
    known = [x for m, x in zip(linear, leaves, strict=True) if not m]
    arrived = jax.tree.unflatten(loop.outputs, [ad.instantiate_zeros(ct) for ct in cotangents])
    rest = _chosen(loop.inputs, leaves, [not m for m in linear])
    inputs = _with(rest, arrived)
    count = indices[1].shape[0]
    reverse = _loop(_Reverse(loop, linear), inputs, count, loop.num_atoms, loop.size)
    result = jax.tree.leaves(_bind(reverse, indices, jax.tree.leaves(inputs)))
    return [None, None, None, *_merged(linear, result, [None] * len(known))]


def _batch(
    arguments: Sequence[Array], axes: Sequence[Any], *, loop: _Loop
) -> tuple[list[Array], list[int]]:
    results = jax.vmap(partial(evaluate, loop=loop), in_axes=tuple(axes))(*arguments)
    return results, [0] * len(results)


def _abstract(used: Any, senders: Any, *rest: Any, loop: _Loop) -> list[Any]:
    del used, rest
    shapes = jax.tree.leaves(_shapes(loop, senders.shape[0]))
    return [ShapedArray(x.shape, x.dtype) for x in shapes]


_edge_loop = Primitive("edge_loop")
_edge_loop.multiple_results = True
_edge_loop.def_impl(jax.jit(evaluate, static_argnames="loop"))
_edge_loop.def_abstract_eval(_abstract)
mlir.register_lowering(_edge_loop, mlir.lower_fun(evaluate, multiple_results=True))
ad.primitive_jvps[_edge_loop] = _jvp
ad.primitive_transposes[_edge_loop] = _transpose
batching.primitive_batchers[_edge_loop] = _batch
