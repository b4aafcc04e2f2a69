"""Errors against those computed frame by frame, and evaluation of a data set."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from clusters import clusters, untrained

from mlffjax.data.frames import Frame
from mlffjax.potential import Potential
from mlffjax.training import evaluate
from mlffjax.training.evaluate import _batch
from mlffjax.training.metrics import MetricsAccumulator

FRAMES = clusters(3, (4, 6), periodic=True)


@pytest.fixture(scope="module")
def potential() -> Potential:
    return untrained("float64")


def test_errors_are_those_of_the_frames_one_by_one(potential: Potential) -> None:
    result = evaluate(potential, FRAMES, batch_size=2)
    alone = [evaluate(potential, [frame], batch_size=1) for frame in FRAMES]
    np.testing.assert_allclose(result.energy, [e.energy[0] for e in alone], rtol=1e-14)
    for one, forces in zip(alone, result.forces, strict=True):
        np.testing.assert_allclose(forces, one.forces[0], atol=1e-12)
    energy = np.array(
        [(e - f.energy) / len(f.numbers) for e, f in zip(result.energy, FRAMES, strict=True)]
    )
    forces = np.concatenate([p - f.forces for p, f in zip(result.forces, FRAMES, strict=True)])
    stress = result.stress - np.stack([f.stress for f in FRAMES])
    oxygen = forces[np.concatenate([f.numbers for f in FRAMES]) == 8]
    metrics = result.metrics
    for name, errors in (("energy", energy), ("forces", forces), ("stress", stress)):
        assert getattr(metrics, f"{name}_mae") == pytest.approx(np.abs(errors).mean(), rel=1e-9)
        rmse = np.sqrt((errors**2).mean())
        assert getattr(metrics, f"{name}_rmse") == pytest.approx(rmse, rel=1e-9)
    assert metrics.forces_mae_by_element["O"] == pytest.approx(np.abs(oxygen).mean(), rel=1e-9)
    assert set(metrics.forces_rmse_by_element) == {"C", "O"}
    assert (metrics.num_energies, metrics.num_stresses) == (3, 3)
    assert (metrics.num_forces, metrics.num_forces_by_element["O"]) == (len(forces), len(oxygen))
    assert metrics.as_dict()["forces_mae/O"] == metrics.forces_mae_by_element["O"]


def test_frames_without_labels_are_predicted_and_not_compared(potential: Potential) -> None:
    bare = [Frame(f.numbers, f.positions, f.cell, f.pbc) for f in FRAMES[:2]]
    result = evaluate(potential, bare)
    assert result.metrics.energy_mae is None
    assert result.metrics.num_forces == 0
    assert result.metrics.as_dict() == {}
    np.testing.assert_allclose(result.energy, evaluate(potential, FRAMES[:2]).energy, rtol=1e-14)


def test_potentials_of_other_element_energies_and_provenance_share_a_program(
    potential: Potential,
) -> None:
    before = evaluate(potential, FRAMES)
    compiled = _batch._cache_size()
    other = replace(
        potential,
        baseline=tuple(e - 1.0 for e in potential.baseline),
        metadata='{"start": "runs/other"}',
    )
    after = evaluate(other, FRAMES)
    assert _batch._cache_size() == compiled
    sizes = [len(f.numbers) for f in FRAMES]
    np.testing.assert_allclose(after.energy, before.energy - sizes, rtol=1e-14)
    assert after.metrics.energy_mae != before.metrics.energy_mae


def test_molecules_have_no_stress(potential: Potential) -> None:
    result = evaluate(potential, clusters(2))
    assert np.isnan(result.stress).all()
    assert result.metrics.stress_mae is None


def test_the_stress_of_a_slab_is_compared_where_it_has_one(potential: Potential) -> None:
    frame = clusters(1, periodic=True)[0]
    result = evaluate(potential, [replace(frame, pbc=np.array([True, True, False]))])
    assert result.metrics.num_stresses == 1
    assert np.isfinite(result.stress).all()


def test_evaluation_in_float32_keeps_the_digits_of_large_totals(potential: Potential) -> None:
    wide = evaluate(potential, FRAMES).energy
    narrow = evaluate(potential.astype("float32"), FRAMES).energy
    assert np.abs(wide - narrow).max() < 1e-5  # A float32 of -10^4 eV is 5e-4 eV coarse.
    assert jax.tree.leaves(potential.params)[0].dtype == np.float64


def test_nothing_added_is_an_error() -> None:
    with pytest.raises(ValueError, match="no batches"):
        MetricsAccumulator([6]).result()
