"""What stays the same in a loop is computed before it, and nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.md.invariants import body_of_loop

KERNEL = np.random.default_rng(0).normal(size=(4, 4))


def step(fixed, carry):
    kernel, bias = fixed
    scaled = jnp.concatenate([kernel / 3, kernel], axis=0)[:4]
    wide = jnp.broadcast_to(bias, (50, 4))  # larger than what it is made from
    value, count = carry
    return jnp.tanh(value @ scaled + wide) * jnp.ones(4), count + 1


def run(body, carry):
    return jax.lax.while_loop(lambda carry: carry[1] < 3, body, carry)


@pytest.fixture
def case():
    fixed = (jnp.asarray(KERNEL), jnp.asarray(KERNEL[0]))
    return fixed, (jnp.ones((50, 4)), jnp.zeros((), jnp.int32))


def test_results_and_derivatives_are_those_of_the_function(case):
    fixed, carry = case

    def moved(fixed, carry):
        return run(body_of_loop(step, fixed, carry), carry)

    want = run(lambda carry: step(fixed, carry), carry)
    got = jax.jit(moved)(fixed, carry)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), got, want)
    once = jax.grad(lambda fixed: body_of_loop(step, fixed, carry)(carry)[0].sum())(fixed)
    same = jax.grad(lambda fixed: step(fixed, carry)[0].sum())(fixed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), once, same)


def test_what_is_fixed_is_computed_outside(case):
    def moved(fixed, carry):
        return run(body_of_loop(step, fixed, carry), carry)

    program = jax.make_jaxpr(moved)(*case)
    outside = {eqn.primitive.name for eqn in program.eqns}
    (loop,) = [eqn for eqn in program.eqns if eqn.primitive.name == "while"]
    inside = {eqn.primitive.name for eqn in loop.params["body_jaxpr"].eqns}
    assert {"div", "concatenate"} <= outside
    assert not {"div", "concatenate"} & inside
    assert "broadcast_in_dim" in inside
