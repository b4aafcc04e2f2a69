"""MACE against the numbers of the published implementation, and its options."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import check_forces_are_gradient, check_rotation, check_smooth_at_cutoff
from helpers import CUTOFF, Model

from mlffjax.graph import batch
from mlffjax.interop import from_reference
from mlffjax.models.mace import MACE
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential

PARITY = Path(__file__).parent / "data" / "parity"
SYSTEMS = ["ethanol", "cu110_o", "si_triclinic"]


def reference(name):
    data = np.load(PARITY / f"{name}.npz")
    prefix = "weights/"
    weights = {k.removeprefix(prefix): data[k] for k in data.files if k.startswith(prefix)}
    return data, json.loads(str(data["config"])), weights


@pytest.mark.parametrize("name", ["mace_paper", "mace_scaleshift"])
def test_results_equal_the_reference(name):
    """A molecule, a slab and a triclinic crystal in one batch, which compiles once."""
    data, config, weights = reference(name)
    potential = from_reference(config, weights, dtype=jnp.float64)

    def graph(system):
        get = {key: data[f"{system}/{key}"] for key in ("numbers", "positions", "cell", "pbc")}
        made = atom_graph(*get.values(), potential.cutoff, np.float64)
        assert len(made.senders) == len(data[f"{system}/centers"])
        return made

    together = batch([graph(system) for system in SYSTEMS])
    result = jax.jit(Potential.energy_forces_stress)(potential, together)

    def close(got, key):
        expected = np.concatenate([data[f"{system}/{key}"] for system in SYSTEMS])
        np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8 * np.abs(expected).min())

    index = np.searchsorted(potential.elements, together.numbers)
    close(result.energy + result.baseline, "energy")
    close(result.node_energy + np.asarray(potential.baseline)[index], "node_energy")
    for system, part in zip(SYSTEMS, np.split(result.forces, [9, 22]), strict=True):
        expected = data[f"{system}/forces"]
        np.testing.assert_allclose(part, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    for k, system in ((1, "cu110_o"), (2, "si_triclinic")):
        expected = data[f"{system}/stress"][0]
        atol = 1e-8 * np.abs(expected).max()
        np.testing.assert_allclose(result.stress[k], expected, rtol=0, atol=atol)


def test_couplings_that_are_not_equivariant_are_refused():
    _, config, weights = reference("mace_paper")
    name = "products.0.symmetric_contractions.contractions.1.U_matrix_2"
    weights[name] = weights[name][[1, 0, 2]]
    with pytest.raises(ValueError, match="order 2 to degree 1"):
        from_reference(config, weights)


def test_trained_frequencies_are_refused():
    _, config, weights = reference("mace_paper")
    weights["radial_embedding.bessel_fn.bessel_weights"] *= 1.1
    with pytest.raises(ValueError, match="frequencies"):
        from_reference(config, weights)


@pytest.mark.parametrize(
    "settings",
    [{"correlation": 5}, {"hidden_degree": 4}, {"num_layers": 0}, {"distance_transform": "log"}],
)
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ValueError, match=r"got .*; expected"):
        MACE(**settings)


@pytest.mark.slow
def test_foundation_model_options_keep_the_contract():
    """Residual first layer, Agnesi transform, pair repulsion, density, even degrees and orders."""
    module = MACE(
        cutoff=CUTOFF,
        avg_num_neighbors=8.0,
        num_channels=3,
        max_degree=2,
        hidden_degree=2,
        correlation=2,
        num_bessel=4,
        radial_widths=(8,),
        readout_width=4,
        residual_first=True,
        distance_transform="agnesi",
        pair_repulsion=True,
        density_normalization=True,
    )
    model = Model(module)
    for check in (check_rotation, check_forces_are_gradient, check_smooth_at_cutoff):
        check(model)


def test_pair_repulsion_is_zero_at_bond_lengths_and_coulombic_at_contact():
    module = MACE(num_channels=2, max_degree=1, radial_widths=(4,), pair_repulsion=True)
    potential = Potential.init(module, [6], jax.random.key(0), dtype=jnp.float64)
    potential = potential.replace(params=jax.tree.map(jnp.zeros_like, potential.params))

    def energy(distance):
        positions = np.array([[0.0, 0, 0], [distance, 0, 0]])
        graph = atom_graph(
            np.array([6, 6]), positions, np.zeros((3, 3)), np.zeros(3, bool), 5.0, np.float64
        )
        return float(jax.jit(Potential.energy)(potential, graph).energy[0])

    assert energy(1.6) == 0
    # phi(0) of the universal screening function is 1.00007
    np.testing.assert_allclose(energy(1e-3) * 1e-3, 14.399645 * 36 * 1.00007, rtol=0.02)
