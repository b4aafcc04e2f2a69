"""SchNet: its equations by hand, and what its definition implies."""

import jax
import jax.numpy as jnp
import numpy as np
from systems import molecule

from mlffjax.models import SchNet
from mlffjax.neighbors import atom_graph
from mlffjax.nn.activations import shifted_softplus
from mlffjax.potential import Potential

CUTOFF = 3.0


def potential() -> Potential:
    module = SchNet(num_features=6, num_layers=2, num_basis=5, cutoff=CUTOFF)
    init = jax.jit(lambda key: Potential.init(module, [1, 6, 8], key, dtype=jnp.float64))
    made = init(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 100))
    noisy = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape, x.dtype), made.params
    )
    return made.replace(params=noisy)


def test_energy_by_hand() -> None:
    """A plain loop over atoms and neighbours in NumPy."""
    atoms = molecule()
    model = potential()
    graph = atom_graph(
        atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, CUTOFF, np.float64
    )
    got = np.asarray(jax.jit(Potential.energy)(model, graph).node_energy)
    np.testing.assert_allclose(got, by_hand(atoms, model.params["params"]), rtol=1e-10)


def by_hand(atoms, params) -> np.ndarray:
    params = jax.tree.map(np.asarray, params)
    ssp = lambda x: np.log(0.5 * np.exp(x) + 0.5)  # noqa: E731

    def dense(p, x):
        return x @ p["kernel"] + p.get("bias", 0)

    features = params["embedding"]["embedding"][np.searchsorted([1, 6, 8], atoms.numbers)]
    spacing = CUTOFF / 4
    for layer in range(2):
        block = params[f"interaction_{layer}"]
        inputs = dense(block["in"], features)
        convolved = np.zeros_like(features)
        for i, j in np.ndindex(len(atoms), len(atoms)):
            distance = atoms.get_distance(i, j)
            if i == j or distance >= CUTOFF:
                continue
            basis = np.exp(-((distance - spacing * np.arange(5)) ** 2) / (2 * spacing**2))
            filters = ssp(dense(block["filter_1"], ssp(dense(block["filter_0"], basis))))
            envelope = 0.5 * (np.cos(np.pi * distance / CUTOFF) + 1)
            convolved[i] += inputs[j] * filters * envelope
        features = features + dense(block["out_1"], ssp(dense(block["out_0"], convolved)))
    hidden = ssp(dense(params["readout_hidden"], features))
    return dense(params["readout_energy"], hidden)[:, 0]


def test_blind_to_angles() -> None:
    """Filters see distances alone: two layers cannot tell which side a far atom stands on."""
    model = potential()
    energies = []
    for side in (1.0, -1.0):
        # A neighbour at the same distance from the centre, out of reach of all others.
        positions = np.array([[0, 0, 0], [2.0, 0, 0], [0, 2.8 * side, 0], [0.0, 0, 2.9]])
        graph = atom_graph(
            np.array([6, 1, 8, 8]), positions, np.zeros((3, 3)), np.zeros(3, bool), CUTOFF,
            np.float64,
        )  # fmt: skip
        energies.append(float(jax.jit(Potential.energy)(model, graph).energy[0]))
    assert energies[0] == energies[1]


def test_number_of_parameters() -> None:
    """Counted from the layers of the paper, F = 128, 6 blocks, 50 Gaussians."""
    features, basis, elements = 128, 50, 3
    init = lambda key: Potential.init(SchNet(), [1, 6, 8], key)  # noqa: E731
    model = jax.eval_shape(init, jax.random.key(0))
    block = (basis * features + features) + 3 * (features**2 + features) + features**2
    readout = features * 64 + 64 + 64 + 1
    assert model.num_parameters == elements * features + 6 * block + readout


def test_shifted_softplus() -> None:
    x = jnp.array([-30.0, 0.0, 1.0, 30.0])
    expected = np.log(0.5 * np.exp(np.asarray(x)) + 0.5)
    np.testing.assert_allclose(shifted_softplus(x), expected, rtol=1e-12, atol=1e-15)
    assert jax.grad(shifted_softplus)(0.0) == 0.5
