"""What stays the same in every turn of a loop, computed once before it."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxpr_as_fun
from jaxtyping import PyTree

Carry = TypeVar("Carry")

#: What is repeated in the loop if its result is larger than what it is made from by more than a
#: factor: a bias repeated for all edges costs more to read than to repeat.
REPEATED = {"broadcast_in_dim", "iota"}
LARGEST_GROWTH = 2.0


def body_of_loop(
    function: Callable[[Any, Carry], Carry], fixed: PyTree, carry: Carry
) -> Callable[[Carry], Carry]:
    """``lambda carry: function(fixed, carry)`` without the work that depends on ``fixed`` alone.

    A step of dynamics scales and joins the same parameters of the potential as the one before. XLA
    leaves that in the loop: for a GPU 24 of the 173 kernels of a step of SO3krates on 42 atoms
    (``benchmarks/gpu_kernels.py``). The results are those of ``function``.

    Args:
      function: pure, of ``fixed`` and of what the loop carries.
      fixed: arrays that are the same in every turn.
      carry: what the loop starts with, for its shapes.

    Returns:
      The body, for use within the trace in which this is called.
    """
    made: Any = jax.make_jaxpr(function, return_shape=True)(fixed, carry)
    closed, shapes = made
    program, given = closed.jaxpr, jax.tree.leaves(fixed)
    ours, theirs = program.invars[: len(given)], program.invars[len(given) :]
    early, late = _parted(program, ours)
    # What the loop needs of what is known before it.
    known = {*ours, *(v for eqn in early for v in eqn.outvars)}
    made_within = {v for eqn in late for v in eqn.outvars}
    needed = list(dict.fromkeys(v for v in _read(late, program) if v in known - made_within))
    before = _program(closed, ours, needed, early)
    values = jaxpr_as_fun(before)(*given)
    within = _program(closed, [*needed, *theirs], program.outvars, late)

    def body(carry: Carry) -> Carry:
        results = jaxpr_as_fun(within)(*values, *jax.tree.leaves(carry))
        return jax.tree.unflatten(jax.tree.structure(shapes), results)

    return body


def _parted(program: Jaxpr, fixed: list[Var]) -> tuple[list[JaxprEqn], list[JaxprEqn]]:
    """Equations that depend on nothing that moves, and those of the loop; some are both."""
    known = {*fixed, *program.constvars}
    early = []
    for eqn in program.eqns:
        if not eqn.effects and all(isinstance(v, Literal) or v in known for v in eqn.invars):
            early.append(eqn)
            known.update(eqn.outvars)
    before, late, wanted = {id(eqn) for eqn in early}, [], set(_read([], program))
    for eqn in reversed(program.eqns):
        if id(eqn) not in before or (_repeated(eqn) and wanted.intersection(eqn.outvars)):
            late.append(eqn)
            wanted.update(v for v in eqn.invars if not isinstance(v, Literal))
    return early, late[::-1]


def _repeated(eqn: JaxprEqn) -> bool:
    growth = LARGEST_GROWTH * _size([v for v in eqn.invars if not isinstance(v, Literal)])
    return eqn.primitive.name in REPEATED and _size(eqn.outvars) > growth


def _size(variables: Sequence[Any]) -> int:
    """Numbers in all of them."""
    return sum(math.prod(v.aval.shape) for v in variables)


def _read(equations: list[JaxprEqn], program: Jaxpr) -> list[Var]:
    """Variables that equations and the outputs of their program read."""
    inputs = [v for eqn in equations for v in eqn.invars]
    return [v for v in [*inputs, *program.outvars] if not isinstance(v, Literal)]


def _program(
    whole: ClosedJaxpr, inputs: list[Var], outputs: list[Any], equations: list[JaxprEqn]
) -> ClosedJaxpr:
    """A part of a program as a program."""
    debug = whole.jaxpr.debug_info.with_unknown_names()
    part = whole.jaxpr.replace(invars=inputs, outvars=outputs, eqns=equations, debug_info=debug)
    return whole.replace(jaxpr=part)
