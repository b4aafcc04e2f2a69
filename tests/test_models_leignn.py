"""LEIGNN against the published implementation, its ablations and its force head."""

import json
from pathlib import Path

import contract
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from systems import molecule

from mlffjax.interop import from_reference
from mlffjax.models.leignn import LEIGNN
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential

PARITY = Path(__file__).parent / "data" / "parity" / "leignn.npz"
SYSTEMS = ["ethanol", "cu110_o", "si_triclinic"]
SMALL = helpers.SMALL["leignn"] | {"cutoff": helpers.CUTOFF}


def reference():
    data = np.load(PARITY)
    prefix = "weights/"
    weights = {k.removeprefix(prefix): data[k] for k in data.files if k.startswith(prefix)}
    return data, json.loads(str(data["config"])), weights


@pytest.mark.parametrize(
    ("system", "dtype", "tolerance"),
    [(system, jnp.float64, 1e-10) for system in SYSTEMS] + [("si_triclinic", jnp.float32, 1e-4)],
)
def test_energy_and_forces_equal_the_reference(system, dtype, tolerance):
    data, config, weights = reference()
    direct = from_reference(config, weights, dtype=dtype)
    gradient = direct.replace(module=direct.module.clone(force_head=False))

    def get(name):
        return data[f"{system}/{name}"]

    graph = atom_graph(
        get("numbers"), get("positions"), get("cell"), get("pbc"), direct.cutoff, dtype
    )
    assert len(graph.senders) == len(get("centers"))
    predict = jax.jit(Potential.energy_forces)
    for potential, name in ((direct, "direct_forces"), (gradient, "minus_energy_gradient")):
        result = predict(potential, graph)
        assert result.energy.dtype == dtype
        np.testing.assert_allclose(result.energy[0], get("energy")[0], rtol=10 * tolerance)
        scale = np.abs(get(name)).max()
        np.testing.assert_allclose(result.forces, get(name), rtol=0, atol=tolerance * scale)


def test_a_missing_parameter_is_named():
    _, config, weights = reference()
    weights.pop("update_layers.1.vec_proj.weight")
    with pytest.raises(ValueError, match=r"update_layers\.1\.vec_proj\.weight"):
        from_reference(config, weights)


def test_a_parameter_nobody_reads_is_named():
    _, config, weights = reference()
    weights["message_layers.7.extra"] = np.zeros(1)
    with pytest.raises(ValueError, match=r"message_layers\.7\.extra"):
        from_reference(config, weights)


@pytest.fixture(scope="module")
def with_force_head():
    return helpers.Model(LEIGNN(**SMALL, force_head=True))


@pytest.mark.parametrize(
    "check",
    [
        contract.check_rotation,
        contract.check_reflection,
        contract.check_padding,
        contract.check_batch,
    ],
)
def test_direct_forces_keep_the_contract(with_force_head, check):
    check(with_force_head)


def test_direct_forces_are_no_gradient(with_force_head):
    with pytest.raises(AssertionError, match="forces and -dE/dr"):
        contract.check_forces_are_gradient(with_force_head)


def test_without_the_global_node_distant_molecules_are_independent():
    model = helpers.Model(LEIGNN(**SMALL, global_node=False))
    assert model.module.extensive
    contract.check_extensive(model)


def test_updates_of_the_ablation_differ():
    energies = []
    for update in ("leignn", "painn"):
        model = helpers.Model(LEIGNN(**SMALL, global_node=False, update=update))
        energies.append(float(model.predict(molecule()).energy[0]))
    assert abs(energies[0] - energies[1]) > 1e-6


def test_the_published_filters_jump_at_the_cutoff():
    model = helpers.Model(LEIGNN(**SMALL, smooth_cutoff=False))
    assert not model.module.smooth
    smooth = helpers.Model(LEIGNN(**SMALL))
    assert smooth.module.smooth

    def step(model):
        inside, outside = (
            float(model.predict(_pair(helpers.CUTOFF + shift)).energy[0]) for shift in (-1e-7, 1e-7)
        )
        return abs(inside - outside)

    assert step(model) > 1e-4
    assert step(smooth) < 1e-6


def _pair(distance):
    return Atoms("SiO", [[0.0, 0.0, 0.0], [0.0, 0.0, distance]])


def test_unusable_settings_are_refused():
    for settings, message in (
        ({"num_features": 7}, "even number"),
        ({"num_layers": 0}, "num_layers 0"),
        ({"update": "gemnet"}, "'leignn' or 'painn'"),
    ):
        with pytest.raises(ValueError, match=message):
            helpers.Model(LEIGNN(**SMALL | settings))


def test_size_of_the_published_model():
    """512 features, 3 layers, 128 Gaussians; the paper shows its size in a figure only."""
    shapes = jax.eval_shape(
        lambda: Potential.init(LEIGNN(force_head=True), range(1, 84), jax.random.key(0))
    )
    assert sum(x.size for x in jax.tree.leaves(shapes.params)) == 12_647_169
