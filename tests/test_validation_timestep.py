"""The energy of NVE fluctuates with the square of the time step; with forces that are no gradient
it does not. ``experiments/validation`` shows it for all architectures."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from validation_scripts import FOLDER, script

from mlffjax.models import ARCHITECTURES, Architecture
from mlffjax.models.base import AtomwiseOutput
from mlffjax.nn.scatter import sum_to_receivers
from mlffjax.potential import Potential


class Eddy(Architecture):
    """Forces about the z axis of each pair, which are no gradient."""

    @property
    def direct_forces(self) -> bool:
        return True

    def __call__(self, graph):
        unit = graph.vectors / jnp.linalg.norm(graph.vectors, axis=-1, keepdims=True)
        about = jnp.cross(jnp.array([[0.0, 0.0, 1.0]], unit.dtype), unit)
        nothing = jnp.zeros(graph.num_atoms, unit.dtype)
        return AtomwiseOutput(nothing, sum_to_receivers(about, graph))


@pytest.fixture(scope="module")
def timestep():
    return script("timestep")


@pytest.mark.parametrize(
    ("name", "dtype"),
    [pytest.param("schnet", "float32", marks=pytest.mark.slow), ("painn", "float64")],
)
def test_the_fluctuation_of_a_network_falls_with_the_square_of_the_time_step(timestep, name, dtype):
    run = timestep.measure(timestep.potential(name).astype(dtype))
    assert run["slope"] == pytest.approx(2, abs=0.1)
    assert run["local_slopes"] == pytest.approx([2, 2, 2], abs=0.15)


def test_forces_that_are_no_gradient_are_found_out(timestep):
    def slope(strength: float) -> float:
        module = timestep.Water(network=Eddy(), strength=strength, cutoff=timestep.CUTOFF)
        made = Potential.init(module, [1, 8], jax.random.key(0), dtype="float64")
        return timestep.measure(made)["slope"]

    assert slope(0.0) == pytest.approx(2, abs=0.1)
    assert slope(0.05) < 1


def test_the_experiment_has_every_architecture_and_found_a_slope_of_two(timestep):
    assert set(timestep.WIDTHS) == set(ARCHITECTURES)
    results = json.loads((FOLDER / "results" / "timestep.json").read_text())
    for name in ARCHITECTURES:
        for dtype in ("float32", "float64"):
            run = results[name][dtype]
            spread = np.array(run["fluctuation_mev_per_atom"])
            found = timestep.slope(np.array(run["timesteps_fs"]), spread)
            assert found == pytest.approx(run["slope"], abs=1e-6)
            assert found == pytest.approx(2, abs=0.1), (name, dtype)
