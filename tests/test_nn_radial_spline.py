"""Functions of the distance as mixtures of few splines, and potentials made faster with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ELEMENTS, small
from systems import molecule

import mlffjax
from mlffjax import Potential, atom_graph
from mlffjax.config.training import TrainingSettings
from mlffjax.nn.radial_spline import FEWEST_PIECES, compress, evaluate
from mlffjax.training.optimizer import make_optimizer
from mlffjax.training.step import make_mesh, make_training_program

CUTOFF = 5.0
forces = jax.jit(Potential.energy_forces)
PHASES = np.linspace(0, 1, 30)


def waves(distances):
    """Thirty functions, mixtures of six."""
    parts = [jnp.sin(k * distances + p) for k, p in ((1, 0.0), (2, 0.4), (3, 1.0))]
    parts += [jnp.exp(-distances), distances / (1 + distances), jnp.cos(distances / 2)]
    mixture = np.random.default_rng(0).normal(size=(6, len(PHASES)))
    return jnp.stack(parts, axis=1) @ mixture


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
def test_values_and_slopes_are_as_good_as_asked_for(tolerance):
    spline, mixing = compress(waves, CUTOFF, tolerance)
    places = jnp.asarray(np.random.default_rng(1).uniform(1, CUTOFF, 400))
    near = lambda r: evaluate(jnp.asarray(spline), r, CUTOFF) @ jnp.asarray(mixing)  # noqa: E731
    exact, exact_slope = jax.jvp(waves, (places,), (jnp.ones(400),))
    value, slope = jax.jvp(near, (places,), (jnp.ones(400),))
    assert np.abs(value - exact).max() <= 2 * tolerance * np.sqrt((exact**2).mean())
    assert np.abs(slope - exact_slope).max() <= 2 * tolerance * np.sqrt((exact_slope**2).mean())


def bumps(distances):
    """Eighty Gaussians that overlap."""
    return jnp.exp(-2 * (distances[:, None] - np.linspace(0, CUTOFF, 80)) ** 2)


def test_as_few_functions_as_there_are():
    assert compress(waves, CUTOFF, 1e-10)[1].shape == (8, len(PHASES))
    assert len(compress(bumps, CUTOFF, 1e-2)[1]) < len(compress(bumps, CUTOFF, 1e-5)[1]) < 80


def test_two_derivatives_are_continuous_between_pieces():
    spline = jnp.asarray(compress(waves, CUTOFF, 1e-4)[0])
    knot = CUTOFF / len(spline) * 40

    def curve(r):
        slope = jax.jacfwd(lambda x: evaluate(spline, x[None], CUTOFF)[0])
        return jax.jacfwd(slope)(r)

    below, above = (curve(jnp.asarray(knot + d)) for d in (-1e-9, 1e-9))
    assert np.abs(below - above).max() <= 1e-6 * np.abs(below).max()


def test_padding_is_far_away_and_has_no_slope():
    spline = jnp.asarray(compress(waves, CUTOFF, 1e-3)[0])
    value, slope = jax.jvp(
        lambda r: evaluate(spline, r, CUTOFF), (jnp.array([1e3]),), (jnp.ones(1),)
    )
    assert np.isfinite(value).all()
    assert not slope.any()


def test_a_rough_function_gets_more_pieces():
    rough = lambda r: jnp.stack([jnp.tanh(40 * (r - 2)), r], axis=1)  # noqa: E731
    assert len(compress(rough, CUTOFF, 1e-5)[0]) > FEWEST_PIECES


@pytest.mark.parametrize(
    ("functions", "tolerance", "message"),
    [
        (waves, 0.0, "got a tolerance of 0; expected a number from 1e-12 to 1"),
        (lambda r: jnp.abs(r - 2)[:, None], 1e-6, "2048 pieces of a spline do not reproduce"),
    ],
)
def test_what_cannot_be_done_is_said(functions, tolerance, message):
    with pytest.raises(ValueError, match=message):
        compress(functions, CUTOFF, tolerance)


@pytest.fixture(scope="module")
def potential():
    return Potential.init(small("so3krates"), ELEMENTS, jax.random.key(0), dtype=jnp.float64)


@pytest.fixture(scope="module")
def graph(potential):
    atoms = molecule()
    return atom_graph(
        atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, potential.cutoff, np.float64
    )


@pytest.mark.slow
def test_a_compressed_potential_is_close_and_closer_with_a_smaller_tolerance(potential, graph):
    exact = forces(potential, graph)
    errors = []
    for tolerance in (1e-2, 1e-7):
        near = forces(potential.compressed(tolerance), graph)
        errors.append(float(np.abs(near.forces - exact.forces).max()))
    assert errors[1] < errors[0]
    assert errors[1] <= 1e-6 * np.abs(exact.forces).max()


def test_a_compressed_potential_is_saved_and_loaded(potential, graph, tmp_path):
    compressed = potential.compressed()
    assert compressed.is_compressed
    assert compressed.num_parameters == potential.num_parameters
    compressed.save(tmp_path / "fast")
    loaded = mlffjax.load(tmp_path / "fast")
    assert loaded.is_compressed
    assert '"compressed": {"tolerance": 1e-05}' in loaded.metadata
    for a, b in zip(
        jax.tree.leaves(forces(compressed, graph)),
        jax.tree.leaves(forces(loaded, graph)),
        strict=True,
    ):
        assert np.array_equal(a, b)


def test_only_once(potential):
    with pytest.raises(ValueError, match="got a compressed potential; expected the one it was"):
        potential.compressed().compressed()


def test_architectures_without_costly_filters_say_so():
    other = Potential.init(small("painn"), [1, 6, 8], jax.random.key(0))
    with pytest.raises(ValueError, match="got PaiNN, which spends little"):
        other.compressed()


def test_it_is_not_for_training(potential):
    settings = TrainingSettings(steps=1)
    optimizer = make_optimizer(potential.params, settings.optimizer)
    mesh = make_mesh(jax.local_devices()[:1])
    with pytest.raises(ValueError, match="got a compressed potential, whose filters are fixed"):
        make_training_program(potential.compressed(), optimizer, settings, 1, mesh)
