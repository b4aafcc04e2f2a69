"""Nudged elastic band: formulas, a rearrangement of seven atoms against ASE, what goes wrong."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from analytic_models import Repulsive
from ase import Atoms
from ase.mep import NEB
from ase.optimize import FIRE

from mlffjax.calculator import MLFFCalculator
from mlffjax.config.explore import RelaxSettings
from mlffjax.config.paths import NEBSettings
from mlffjax.data.frames import Frame
from mlffjax.explore import neb
from mlffjax.explore.neb_forces import band_forces, hermite_profile, slopes, tangents
from mlffjax.explore.relax import relax
from mlffjax.explore.vibrations import vibrations
from mlffjax.pair_potentials import lennard_jones
from mlffjax.potential import Potential

LJ = lennard_jones(18, depth=1.0, diameter=1.0, cutoff=20.0, dtype=np.float64)
SETTINGS = NEBSettings(images=5, spring=1.0, fmax=0.01, climb_below=1.0, curvature=200.0)


def argon(positions) -> Frame:
    """Argon atoms, not periodic."""
    positions = np.asarray(positions, np.float64)
    return Frame(
        np.full(len(positions), 18, np.int32), positions, np.zeros((3, 3)), np.zeros(3, bool)
    )


@pytest.fixture(scope="module")
def ends() -> tuple[Frame, Frame]:
    """An octahedron of seven-atom Lennard-Jones with its cap on one of two neighbouring faces."""
    edge = 2 ** (1 / 6) / 2**0.5
    corners = edge * np.concatenate([np.eye(3), -np.eye(3)])
    height = edge * (1 / 3 + 2 / 3)
    caps = height * np.array([[1, 1, 1], [1, 1, -1]])
    frames = [argon(np.vstack([corners, cap])) for cap in caps]
    first, second = relax(LJ, frames, RelaxSettings(fmax=1e-4))
    # The known energy of this minimum: Tsai and Jordan, J. Phys. Chem. 97, 11227 (1993).
    assert first.energy == pytest.approx(-15.935043, abs=1e-5)
    return first.frame, second.frame


@pytest.fixture(scope="module")
def result(ends) -> neb.NEBResult:
    return neb.nudged_elastic_band(LJ, *ends, SETTINGS)


def ase_barrier(ends) -> float:
    """The barrier by the elastic band of ASE from the same first path."""
    path = neb.interpolate(*ends, SETTINGS.images)
    calculator = MLFFCalculator(LJ)
    images = [Atoms("Ar7", x, calculator=calculator) for x in path]
    band = NEB(images, k=1.0, climb=True, method="improvedtangent", allow_shared_calculator=True)
    FIRE(band, logfile=None).run(fmax=0.01, steps=500)
    energies = [image.get_potential_energy() for image in images]
    return max(energies) - energies[0]


def test_barrier_is_that_of_ase(ends, result):
    assert result.status == "converged"
    assert result.residual < SETTINGS.fmax
    assert result.barrier == pytest.approx(ase_barrier(ends), abs=1e-4)
    assert result.reverse_barrier == pytest.approx(result.barrier, abs=1e-6)
    assert not result.warnings


def test_highest_image_is_a_saddle_of_first_order(result):
    found = vibrations(LJ, result.frames[result.saddle])
    assert found.max_force < 0.02
    assert found.num_imaginary() == 1


def test_profile_goes_through_the_images(result):
    lengths, curve = result.profile(2000)
    at_images = np.interp(result.lengths, lengths, curve)
    np.testing.assert_allclose(at_images, result.energies - result.energies[0], atol=1e-4)
    assert curve.max() < result.barrier + 1e-3


def test_other_thresholds_need_no_compilation(ends, result):
    compiled = neb._advance._cache_size()
    looser = {"fmax": 0.1, "spring": 2.0, "climb_below": 0.5, "steps": 50}
    other = neb.nudged_elastic_band(LJ, *ends, SETTINGS.model_copy(update=looser))
    assert other.status == "converged"
    assert other.steps < result.steps
    assert neb._advance._cache_size() == compiled


def test_fire_finds_the_same(ends, result):
    other = neb.nudged_elastic_band(LJ, *ends, SETTINGS.model_copy(update={"method": "fire"}))
    assert other.status == "converged"
    assert other.barrier == pytest.approx(result.barrier, abs=1e-4)


def test_too_little_room_is_enlarged(ends, monkeypatch):
    few = SETTINGS.model_copy(update={"steps": 2})
    roomy = neb.nudged_elastic_band(LJ, *ends, few)
    original = neb.plan_batch
    monkeypatch.setattr(neb, "plan_batch", lambda *a: replace(original(*a), edges=64))
    tight = neb.nudged_elastic_band(LJ, *ends, few)
    assert tight.status == "unfinished"
    assert tight.steps == roomy.steps == 2
    np.testing.assert_allclose(tight.energies, roomy.energies, atol=1e-10)


def test_end_that_is_no_minimum_is_named(ends):
    start = replace(ends[0], positions=1.01 * ends[0].positions)
    warned = neb.nudged_elastic_band(LJ, start, ends[1], SETTINGS.model_copy(update={"steps": 2}))
    assert len(warned.warnings) == 1
    assert warned.warnings[0].startswith("the start has a force of")


def test_numbers_that_are_not_finite_end_the_search():
    potential = Potential.init(Repulsive(cutoff=9.0), [18], jax.random.key(0), dtype=np.float64)
    start, end = argon([[0, 0, 0], [1.0, 0, 0]]), argon([[0, 0, 0], [3.4, 0, 0]])
    broken = neb.nudged_elastic_band(
        potential, start, end, NEBSettings(images=1, interpolation="linear", align=False)
    )
    assert broken.status == "failed"
    assert np.isfinite(broken.frames[1].positions).all()


def test_path_takes_the_nearest_way_through_the_cell():
    cell, pbc = 5.0 * np.eye(3), np.ones(3, bool)
    ends = [replace(argon([[x, 0, 0], [2.5, 2.5, 2.5]]), cell=cell, pbc=pbc) for x in (0.2, 4.8)]
    path = neb.interpolate(*ends, 3, "linear")
    np.testing.assert_allclose(path[:, 0, 0], [0.2, 0.1, 0.0, -0.1, -0.2], atol=1e-12)


@pytest.mark.parametrize("method", ["linear", "idpp"])
def test_fixed_atoms_stay_along_the_first_path(ends, method):
    start = ends[0]
    # Another place of one atom: the end is not the start turned and shifted.
    end = replace(start, positions=start.positions + np.eye(7, 3) * np.array([0.9, 0.6, 0.0]))
    path = neb.interpolate(start, end, 3, method, fixed=(4, 5, 6))
    np.testing.assert_array_equal(path[:, 4:], np.broadcast_to(start.positions[4:], (5, 3, 3)))
    np.testing.assert_allclose(path[-1], end.positions, atol=1e-12)


@pytest.mark.parametrize(
    ("energies", "ahead", "behind"),
    [
        ([0.0, 1.0, 3.0], 1.0, 0.0),
        ([3.0, 1.0, 0.0], 0.0, 1.0),
        ([0.0, 3.0, 1.0], 3.0, 2.0),
        ([1.0, 3.0, 0.0], 2.0, 3.0),
        ([1.0, 1.0, 1.0], 1.0, 1.0),
    ],
)
def test_tangents_are_those_of_the_paper(energies, ahead, behind):
    path = np.random.default_rng(0).normal(size=(3, 2, 3))
    direction = ahead * (path[2] - path[1]) + behind * (path[1] - path[0])
    found = tangents(jnp.asarray(path), jnp.asarray(energies))[0]
    np.testing.assert_allclose(found, direction / np.linalg.norm(direction), atol=1e-12)


def test_band_is_nudged():
    rng = np.random.default_rng(1)
    path, forces = rng.normal(size=(5, 2, 3)), rng.normal(size=(3, 2, 3))
    energies = jnp.array([0.0, 1.0, 2.0, 1.5, 0.5])
    tangent = np.asarray(tangents(jnp.asarray(path), energies))
    along = lambda f: (np.asarray(f) * tangent).sum((1, 2))  # noqa: E731
    for climbing in (False, True):
        band = band_forces(
            jnp.asarray(path), energies, jnp.asarray(forces), 2.0, jnp.asarray(climbing)
        )
        across = np.asarray(band) - along(band)[:, None, None] * tangent
        true = forces - along(forces)[:, None, None] * tangent
        np.testing.assert_allclose(across, true, atol=1e-12)
        lengths = np.linalg.norm(np.diff(path, axis=0).reshape(4, -1), axis=1)
        expected = 2.0 * np.diff(lengths)
        if climbing:
            expected[1] = -along(forces)[1]
        np.testing.assert_allclose(along(band), expected, atol=1e-12)


def test_profile_of_a_cubic_is_exact():
    x = np.array([0.0, 0.7, 1.5, 3.0])
    fine, curve = hermite_profile(x, x**3 - x, 3 * x**2 - 1, 50)
    np.testing.assert_allclose(curve, fine**3 - fine, atol=1e-12)
    path = np.stack([x, 0 * x, 0 * x], axis=1)[:, None]
    forces = -(3 * path**2 - 1) * np.array([1.0, 0, 0])
    np.testing.assert_allclose(slopes(path, x**3 - x, forces), 3 * x**2 - 1, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numbers": np.full(7, 36, np.int32)}, "same atoms in the same order"),
        ({"positions": None}, "same structure as start and end"),
    ],
)
def test_ends_must_fit(ends, change, message):
    start, end = ends
    if change.get("positions", 0) is None:
        change = {"positions": start.positions}
    with pytest.raises(ValueError, match=message):
        neb.interpolate(start, replace(end, **change), 3)
