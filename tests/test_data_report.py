"""The report finds what was planted, and keeps quiet about good data."""

import re
from dataclasses import replace

import matplotlib.image
import numpy as np
import pytest
from ase.geometry import wrap_positions
from frames import WATER, crystal_frames, isolated, spring_frame, water_frames, without
from scipy.spatial.distance import pdist

from mlffjax.data.baseline import fit_baseline
from mlffjax.data.consistency import check_consistency
from mlffjax.data.report import make_report
from mlffjax.data.report_warnings import training_warnings
from mlffjax.data.statistics import compute_statistics
from mlffjax.data.structure_checks import find_duplicates, without_box
from mlffjax.plots.data_report import data_report

ATOMS = [isolated(1, -1.0), isolated(8, -2.0)]


def scaled(frame, energy=1.0, forces=1.0, stress=1.0):
    return replace(
        frame,
        energy=energy * frame.energy,
        forces=forces * frame.forces,
        stress=None if frame.stress is None else stress * frame.stress,
    )


def warnings_of(frames) -> str:
    return "\n".join(make_report([*ATOMS, *frames]).warnings)


def test_good_data_gives_no_warning():
    report = make_report([*ATOMS, *water_frames(40)], source="water")
    assert report.warnings == ()
    assert report.outliers == ()
    text = report.text()
    assert "water: 42 frames, 2 of them isolated atoms" in text
    assert "energy on 40 of 40, forces on 40 of 40, stress on 0 of 40" in text
    assert "no warnings" in text
    np.testing.assert_allclose(report.energies.mean(), -2.0, atol=0.2)
    assert report.force_rms == pytest.approx(
        np.sqrt(np.mean([f.forces**2 for f in water_frames(40)]))
    )
    assert report.balance.net_force_max < 1e-14
    assert report.balance.torque_max < 1e-14


def test_wrong_force_unit():
    found = warnings_of([scaled(f, forces=23.06, energy=23.06) for f in water_frames(40)])
    assert "kcal/mol/Angstrom" in found
    found = warnings_of([scaled(f, forces=1 / 51.4) for f in water_frames(40)])
    assert "Hartree/Bohr" in found
    assert "all forces are zero" in warnings_of([scaled(f, forces=0.0) for f in water_frames(5)])


def half_turned(frames):
    """The frames, every second one rotated and moved."""
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((3, 3)))[0]
    turn *= np.linalg.det(turn)
    return [
        replace(f, positions=f.positions @ turn + 3.0, forces=f.forces @ turn) if k % 2 else f
        for k, f in enumerate(frames)
    ]


def test_energies_against_forces():
    """Springs: the work of the forces is the energy difference, rotated molecules included."""
    frames = water_frames(40)
    result = check_consistency(half_turned(frames))
    assert result.force_slope == pytest.approx(1.0, abs=0.05)
    assert result.force_correlation > 0.99
    assert "energy differences are 23" in warnings_of([scaled(f, 23.06) for f in frames])


def test_a_training_warns_of_units_and_reads_few_frames():
    read = []

    class Frames(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    frames = Frames(water_frames(40) * 60)
    assert training_warnings(frames, (), (), 1.0) == ()
    assert len(read) == len(set(read)) == 800
    wrong = [scaled(f, 23.06) for f in water_frames(40)]
    (line,) = training_warnings(wrong, (), (), 1.0)
    assert "energy differences are 23" in line
    assert len(training_warnings(wrong, (), (), 23.06)) == 2
    assert training_warnings(wrong[:3], (), (), None) == ()


def test_a_training_warns_of_frames_in_two_parts():
    frames = water_frames(40)
    moved = replace(frames[3], positions=frames[3].positions + 5.0)
    valid, test = [moved, *frames[20:25]], frames[24:30]
    first, second = training_warnings(frames[:20], valid, test, 1.0)
    assert re.match(r"1 structures \(as .*\) are in the training frames and the validation", first)
    assert re.match(r"1 structures \(as .*\) are in the validation frames and the test", second)


def test_a_molecule_in_a_large_box_is_one():
    """Also where the walls of the box cut it; in a small box or a slab it may not be turned."""
    frames = half_turned(water_frames(40))
    cell = np.array([[14.0, 0, 0], [2.0, 15.0, 0], [0, -3.0, 15.0]])
    boxed = [
        replace(f, positions=wrap_positions(f.positions, cell), cell=cell, pbc=np.ones(3, bool))
        for f in frames
    ]
    assert any(np.ptp(f.positions, axis=0).max() > 5 for f in boxed)  # cut
    molecule = without_box(boxed[0])
    assert not molecule.pbc.any()
    np.testing.assert_allclose(pdist(molecule.positions), pdist(frames[0].positions), atol=1e-12)
    report = make_report([*ATOMS, *boxed])
    assert report.consistency.force_slope == pytest.approx(1.0, abs=0.05)
    assert report.balance.torque_max < 1e-14
    assert not [line for line in report.warnings if "energy differences" in line]
    small = replace(boxed[0], cell=cell / 2)
    assert without_box(small) is small
    slab = replace(boxed[0], cell=np.diag([5.0, 5.0, 20.0]))
    assert without_box(slab) is slab


def test_stress_sign():
    frames = crystal_frames(12)
    right = check_consistency(frames)
    assert right.stress_sign == 1
    assert right.stress_errors[0] < 0.1 * right.stress_errors[1]
    wrong = make_report([scaled(f, stress=-1.0) for f in frames])
    assert wrong.consistency.stress_sign == -1
    assert any("units.stress_sign" in line for line in wrong.warnings)
    assert "the sign of the stress is reversed" in wrong.text()


def test_stress_sign_that_cannot_be_decided():
    one_cell = [crystal_frames(1)[0]] * 12
    assert check_consistency(one_cell).stress_sign is None
    assert "cannot be decided" in make_report(one_cell).text()


def test_large_stresses_name_the_unit():
    frames = [scaled(f, stress=1602.0) for f in crystal_frames(12)]
    assert "kbar" in "\n".join(make_report(frames).warnings)


def test_duplicates_up_to_a_translation():
    frames = water_frames(20)
    copy = replace(frames[3], positions=frames[3].positions + 2.0, name="copy")
    assert find_duplicates([*frames, copy]) == (("water#3", "copy"),)
    assert "1 frames repeat another (water#3, copy)" in warnings_of([*frames, copy])


def test_net_force_and_torque():
    frames = water_frames(20)
    pushed = [replace(f, forces=f.forces + np.array([0.5, 0, 0])) for f in frames]
    found = warnings_of(pushed)
    assert "net force per atom" in found
    swirl = np.cross([0, 0, 0.5], WATER - WATER.mean(0))
    turning = warnings_of([replace(f, forces=f.forces + swirl) for f in frames])
    assert "torque per atom" in turning
    assert "net force" not in turning


def test_constraints_leave_zero_forces():
    frames = [replace(f, forces=f.forces * [[0], [1], [1]]) for f in water_frames(20)]
    assert "constraints" in warnings_of(frames)


def test_short_distances_missing_labels_outliers_and_boxes():
    frames = water_frames(30)
    close = spring_frame(WATER * [[1], [0.2], [1]], 77)
    report = make_report([*ATOMS, *frames, close])
    assert report.distances[0].frame == "water#77"
    assert report.distances[0].pair == (1, 8)
    assert report.distances[0].distance == pytest.approx(0.2 * 0.96)
    assert "H and O come as close as 0.192" in "\n".join(report.warnings)
    assert any("water#77: largest force" in line for line in report.outliers)
    bare = without(frames[0], "forces")
    assert "1 of 31 frames have no forces" in warnings_of([*frames, bare])
    box = [replace(f, cell=np.eye(3) * 30, pbc=np.ones(3, bool)) for f in frames]
    assert "molecules in a box" in warnings_of(box)
    same_place = replace(frames[0], positions=np.zeros((3, 3)))
    assert make_report([*ATOMS, same_place]).distances[0].distance == 0.0


def test_baseline_of_another_method():
    frames = [scaled(f, energy=27.2) for f in water_frames(20)]
    assert "same method and unit" in warnings_of(frames)
    alone = make_report(water_frames(20))
    assert "determine 1 of 2 element energies" in "\n".join(alone.warnings)


def test_only_isolated_atoms():
    with pytest.raises(ValueError, match="none with more than an isolated atom"):
        make_report(ATOMS)


def test_figure(tmp_path):
    report = make_report(crystal_frames(12))
    data_report(tmp_path / "r.png", report.energies, report.forces, report.stresses)
    image = matplotlib.image.imread(tmp_path / "r.png")
    assert image.shape[1] > 2 * image.shape[0]  # three panels
    none = np.zeros(0)
    with pytest.raises(ValueError, match="no energies, forces or pressures"):
        data_report(tmp_path / "s.png", none, none, none)


def test_statistics():
    frames = [*water_frames(3), crystal_frames(1)[0]]
    baseline = fit_baseline([*frames, *ATOMS, isolated(10, 0.0)])
    found = compute_statistics(frames, baseline, cutoff=2.0)
    assert found.elements == (1, 8, 10)
    assert (found.num_frames, found.max_atoms, found.max_edges) == (4, 3, 6)
    assert found.mean_neighbors == 18 / 11  # each water atom sees two, neon none
    per_atom = [(f.energy + 4.0) / 3 for f in frames[:3]] + [frames[3].energy / 2]
    assert found.energy_mean == pytest.approx(np.mean(per_atom), rel=1e-12)
    assert found.energy_std == pytest.approx(np.std(per_atom), rel=1e-12)
    forces = np.concatenate([f.forces for f in frames])
    assert found.force_rms == pytest.approx(np.sqrt(np.mean(forces**2)), rel=1e-12)
    with pytest.raises(ValueError, match="no frames"):
        compute_statistics([], baseline, 2.0)
    bare = compute_statistics([without(frames[0], "energy", "forces")], baseline, 2.0)
    assert (bare.force_rms, bare.energy_mean, bare.energy_std) == (None, None, None)
