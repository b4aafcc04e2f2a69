"""Programs as they are written for accelerators: the same results, with fewer kernels."""

import helpers
import jax
import numpy as np
import pytest
from systems import molecule

from mlffjax.models import ARCHITECTURES
from mlffjax.nn import backend


def program(model, monkeypatch, cpu, function):
    """A function of the parameters and a graph, compiled as for a kind of device."""
    monkeypatch.setattr(backend, "on_cpu", lambda: cpu)
    arguments = (model.potential.params, model.potential, model.graph(molecule()))
    # A function of its own: the kind of device is no part of what a traced one is kept by.
    compiled = jax.jit(lambda *x: function(*x)).lower(*arguments).compile()
    return compiled(*arguments), compiled.as_text()


def forces(params, potential, graph):
    prediction = potential.replace(params=params).energy_forces(graph)
    return prediction.energy, prediction.forces


def assert_same(got, expected):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(1, np.abs(b).max()))


#: The others take a minute together.
QUICK = ("painn", "schnet", "so3krates")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(ARCHITECTURES)
    ],
)
def test_energy_and_forces(name, monkeypatch):
    model = helpers.Model(helpers.small(name))
    got, _ = program(model, monkeypatch, False, forces)
    expected, _ = program(model, monkeypatch, True, forces)
    assert np.abs(expected[1]).max() > 1e-3
    assert_same(got, expected)


@pytest.mark.slow
def test_gradient_of_a_force_loss(monkeypatch):
    model = helpers.Model(helpers.small("so3krates"))
    gradient = jax.grad(helpers.force_loss)
    got, _ = program(model, monkeypatch, False, gradient)
    expected, _ = program(model, monkeypatch, True, gradient)
    assert_same(got, expected)


def test_fewer_gathers_sums_and_products(monkeypatch):
    """Of SO3krates, whose small systems on a GPU wait for kernels."""
    model = helpers.Model(helpers.small("so3krates"))
    _, for_accelerator = program(model, monkeypatch, False, forces)
    _, for_cpu = program(model, monkeypatch, True, forces)
    for operation in (" gather(", " scatter(", " dot("):
        assert for_accelerator.count(operation) < 0.6 * for_cpu.count(operation)
