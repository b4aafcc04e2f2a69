"""Element energies: recovered where the data determine them, reported where they do not."""

from dataclasses import replace

import numpy as np
import pytest
from frames import isolated, water_frames, without

from mlffjax.config.data import BaselineSettings
from mlffjax.data.baseline import fit_baseline, subtract_baseline

H, O = -13.6, -2041.9  # noqa: E741


def molecules() -> list:
    """H2, O2 and water with energies that are exact sums of element energies."""
    water = water_frames(1)[0]
    sets = ([1, 1], [8, 8], [8, 1, 1])
    return [
        replace(
            water,
            numbers=np.array(numbers, np.int32),
            positions=water.positions[: len(numbers)],
            forces=None,
            energy=sum({1: H, 8: O}[z] for z in numbers),
        )
        for numbers in sets
    ]


def test_least_squares_recovers_the_element_energies():
    baseline = fit_baseline(molecules())
    assert baseline.elements == (1, 8)
    assert (baseline.source, baseline.rank, baseline.determined) == ("least_squares", 2, True)
    np.testing.assert_allclose(baseline.energies, [H, O], rtol=1e-12)
    assert baseline.residual < 1e-10


def test_one_composition_gives_the_least_norm_and_says_so():
    water = molecules()[2:]
    baseline = fit_baseline(water)
    assert (baseline.rank, baseline.determined) == (1, False)
    # The least-norm solution is a multiple of the composition (2, 1).
    expected = water[0].energy / 5 * np.array([2, 1])
    np.testing.assert_allclose(baseline.energies, expected, rtol=1e-12)
    assert baseline.total(water[0].numbers) == pytest.approx(water[0].energy, rel=1e-14)
    assert "rank 1 for 2 elements" in baseline.describe()
    assert "isolated-atom frames" in baseline.describe()


def test_isolated_atoms_are_used_and_not_fitted():
    atoms = [isolated(1, -13.0), isolated(8, -2000.0, group="isolated_atom")]
    baseline = fit_baseline([*molecules(), *atoms])
    assert (baseline.source, baseline.energies) == ("isolated", (-13.0, -2000.0))
    other_file = fit_baseline(molecules(), isolated=atoms)
    assert other_file == baseline
    fitted = fit_baseline([*molecules(), *atoms], BaselineSettings(source="least_squares"))
    np.testing.assert_allclose(fitted.energies, [H, O], rtol=1e-12)
    partial = [*molecules(), atoms[0]]
    assert fit_baseline(partial).source == "least_squares"
    with pytest.raises(ValueError, match="no isolated-atom energy for O"):
        fit_baseline(partial, BaselineSettings(source="isolated"))


def test_a_primitive_cell_of_one_atom_is_no_isolated_atom():
    copper = replace(isolated(29, -3.7, group=""), cell=np.eye(3) * 2.5, pbc=np.ones(3, bool))
    assert fit_baseline([copper]).source == "least_squares"
    boxed = replace(copper, cell=np.eye(3) * 20)
    assert fit_baseline([boxed]).source == "isolated"


def test_isolated_atoms_that_disagree():
    with pytest.raises(ValueError, match=r"atom1: .*-13.5 eV.*-13.6 eV"):
        fit_baseline([*molecules(), isolated(1, -13.6), isolated(1, -13.5)])


def test_elements_that_occur_alone_have_the_energy_of_their_atoms_in_a_fit():
    atoms = [isolated(7, -1485.0), isolated(7, -1485.2), isolated(1, -13.0)]
    with pytest.raises(ValueError, match=r"set baseline\.source to least_squares"):
        fit_baseline([*molecules(), *atoms])
    baseline = fit_baseline([*molecules(), *atoms], BaselineSettings(source="least_squares"))
    np.testing.assert_allclose(baseline.energies, [H, -1485.1, O], rtol=1e-12)
    assert baseline.determined


def test_given_energies():
    settings = BaselineSettings(energies={"O": O, "H": H, "C": -1.0})
    baseline = fit_baseline(molecules(), settings)
    assert (baseline.source, baseline.elements) == ("given", (1, 6, 8))
    np.testing.assert_array_equal(subtract_baseline(molecules(), baseline), 0.0)
    with pytest.raises(ValueError, match="data with O"):
        fit_baseline(molecules(), BaselineSettings(energies={"H": H}))
    with pytest.raises(ValueError, match="Xx"):
        fit_baseline(molecules(), BaselineSettings(energies={"Xx": H}))
    with pytest.raises(ValueError, match="remove them"):
        BaselineSettings.parse({"source": "none", "energies": {"H": 1.0}})


def test_no_baseline_and_missing_labels():
    baseline = fit_baseline(molecules(), BaselineSettings(source="none"))
    assert baseline.energies == (0.0, 0.0)
    bare = [without(f, "energy") for f in molecules()]
    assert np.isnan(subtract_baseline(bare, baseline)).all()
    with pytest.raises(ValueError, match="no frame with an energy"):
        fit_baseline(bare)
    with pytest.raises(ValueError, match="got C, which has no baseline energy"):
        baseline.total(np.array([6]))


def test_subtraction_keeps_every_digit_of_large_energies():
    baseline = fit_baseline(molecules(), BaselineSettings(energies={"H": H, "O": O}))
    frame = replace(molecules()[2], energy=2 * H + O + 1e-9)
    assert subtract_baseline([frame], baseline)[0] == pytest.approx(1e-9, abs=1e-12)
