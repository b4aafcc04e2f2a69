"""Every format gives the frames that were written, and bad files one clear line."""

import pickle
from dataclasses import replace

import ase
import ase.db
import ase.io
import h5py
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from frames import crystal_frames, isolated, water_frames, without

from mlffjax.config.data import LabelKeys, ReadSettings, UnitSettings
from mlffjax.data import read_frames, write_extxyz, write_hdf5
from mlffjax.data.ase_frames import frames_from_atoms
from mlffjax.units import BOHR, GPA, HARTREE, KCAL_PER_MOL


def same(a, b) -> bool:
    """Equal to the last bit, names apart."""

    def equal(x, y):
        return (x is None) == (y is None) and (x is None or np.array_equal(x, y))

    fields = ("numbers", "positions", "cell", "pbc", "energy", "forces", "stress")
    return all(equal(getattr(a, f), getattr(b, f)) for f in fields) and a.group == b.group


def settings(**values) -> ReadSettings:
    return ReadSettings.parse(values)


@pytest.fixture
def mixed():
    water = water_frames(3)
    return [isolated(8, -5.0), *water, without(water[0], "forces"), *crystal_frames(2)]


@pytest.mark.parametrize("suffix", ["extxyz", "xyz", "h5"])
def test_written_frames_come_back_bit_by_bit(tmp_path, mixed, suffix):
    path = tmp_path / f"set.{suffix}"
    write = write_hdf5 if suffix == "h5" else write_extxyz
    assert write(mixed, path) == len(mixed)
    read = read_frames(path)
    assert len(read) == len(mixed)
    assert all(same(a, b) for a, b in zip(read, mixed, strict=True))
    assert read[1].positions.dtype == np.float64
    with pytest.raises(FileExistsError, match="remove it"):
        write(mixed, path)


def test_frames_are_named_after_file_and_index(tmp_path):
    write_extxyz(water_frames(2), tmp_path / "w.extxyz")
    assert [f.name for f in read_frames(tmp_path / "w.extxyz")] == ["w.extxyz#0", "w.extxyz#1"]


def test_a_file_is_replaced_when_the_new_one_is_whole(tmp_path):
    path = tmp_path / "w.extxyz"
    write_extxyz(water_frames(2), path)

    def broken():
        yield from water_frames(3)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_extxyz(broken(), path, overwrite=True)
    assert len(read_frames(path)) == 2
    write_extxyz(water_frames(3), path, overwrite=True)
    assert len(read_frames(path)) == 3


def test_ase_reads_what_is_written(tmp_path):
    frame = crystal_frames(1)[0]
    write_extxyz([frame], tmp_path / "c.extxyz")
    atoms = ase.io.read(tmp_path / "c.extxyz")
    assert atoms.get_potential_energy() == frame.energy
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), frame.stress)


def test_hdf5_is_lazy_a_sequence_and_survives_pickling(tmp_path, mixed):
    path = tmp_path / "set.h5"
    write_hdf5(iter(mixed * 60), path)  # more than one block
    frames = read_frames(path)
    assert len(frames) == 60 * len(mixed)
    assert same(frames[-1], mixed[-1])
    assert [f.name for f in frames[1:3]] == [f.name for f in mixed[1:3]]
    copy = pickle.loads(pickle.dumps(frames))
    frames.close()
    assert same(copy[1], mixed[1])
    assert same(frames[1], mixed[1])  # opened again
    with pytest.raises(IndexError):
        frames[len(frames)]


def test_ase_trajectory_and_database(tmp_path):
    frame = crystal_frames(1)[0]
    atoms = ase.Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True)
    atoms.calc = SinglePointCalculator(
        atoms, energy=frame.energy, forces=frame.forces, stress=frame.stress[*np.tril_indices(3)]
    )
    s = frame.stress
    atoms.calc.results["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
    ase.io.write(tmp_path / "run.traj", [atoms, atoms])
    with ase.db.connect(tmp_path / "set.db") as database:
        database.write(atoms, config_type="cold", data={"REF_energy": 7.0})
    read = read_frames(tmp_path / "run.traj")
    assert len(read) == 2
    np.testing.assert_allclose(read[0].stress, frame.stress, rtol=1e-14)
    with ase.db.connect(tmp_path / "set.json") as database:
        database.write(atoms, config_type="cold", data={"REF_energy": 7.0})
    for name in ("set.db", "set.json"):
        (row,) = read_frames(tmp_path / name)
        assert (row.energy, row.group) == (7.0, "cold")
        np.testing.assert_array_equal(row.forces, frame.forces)


@pytest.mark.parametrize("energy", ["REF_energy", "dft_energy", "TotEnergy"])
def test_default_keys(energy):
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])
    atoms.info[energy] = -3.0
    atoms.arrays["REF_forces"] = np.ones((2, 3))
    (frame,) = frames_from_atoms([atoms])
    assert frame.energy == -3.0
    np.testing.assert_array_equal(frame.forces, 1.0)


def test_explicit_key_wins_over_the_default_order():
    atoms = ase.Atoms("H", info={"REF_energy": 1.0, "mp2": 2.0})
    assert frames_from_atoms([atoms])[0].energy == 1.0
    chosen = frames_from_atoms([atoms], settings(keys={"energy": "mp2"}))
    assert chosen[0].energy == 2.0
    with pytest.raises(ValueError, match=r"no energy named 'ccsd'.*REF_energy, mp2"):
        frames_from_atoms([atoms], settings(keys={"energy": "ccsd"}))


def test_frames_with_different_names_are_an_error_not_a_guess():
    images = [ase.Atoms("H", info={"energy": 1.0}), ase.Atoms("H", info={"REF_energy": 1.0})]
    with pytest.raises(ValueError, match=r"atoms#0.*'energy'.*'REF_energy'.*set keys.energy"):
        frames_from_atoms(images)


def test_units_of_energy_length_and_stress():
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1.0]], cell=np.eye(3) * 5, pbc=True)
    atoms.info.update(energy=1.0, stress=np.array([1.0, 2, 3, 4, 5, 6]))
    atoms.arrays["forces"] = np.ones((2, 3))
    units = {"energy": "Hartree", "length": "Bohr", "stress": "kbar", "stress_sign": "compression"}
    (frame,) = frames_from_atoms([atoms], settings(units=units))
    assert frame.energy == HARTREE
    assert frame.positions[1, 2] == BOHR
    assert frame.cell[0, 0] == 5 * BOHR
    np.testing.assert_allclose(frame.forces, HARTREE / BOHR)
    expected = -0.1 * GPA * np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]])
    np.testing.assert_allclose(frame.stress, expected, rtol=1e-14)
    other = settings(units={"energy": "kcal/mol", "forces": "eV/Angstrom"})
    np.testing.assert_allclose(frames_from_atoms([atoms], other)[0].forces, 1.0)


@pytest.mark.parametrize(("sign", "factor"), [(None, -1), ("compression", -1), ("tension", 1)])
def test_virials_become_stresses(sign, factor):
    virial = np.arange(9.0).reshape(3, 3) + np.arange(9.0).reshape(3, 3).T
    atoms = ase.Atoms("H", cell=np.eye(3) * 2, pbc=True, info={"virial": virial})
    (frame,) = frames_from_atoms([atoms], settings(units={"stress_sign": sign}))
    np.testing.assert_allclose(frame.stress, factor * virial / 8)


@pytest.mark.parametrize("what", ["stress", "virial"])
def test_a_stress_without_volume_is_an_error(what):
    atoms = ase.Atoms("H", info={what: np.eye(3)})
    with pytest.raises(ValueError, match=rf"atoms#0: got a {what} and a cell without volume"):
        frames_from_atoms([atoms])
    # Programs write zeros for a molecule among crystals.
    (frame,) = frames_from_atoms([ase.Atoms("H", info={what: np.zeros((3, 3))})])
    assert frame.stress is None


def npz(path, names, count=3, **extra):
    """Write water under the given names of positions, numbers, energy and forces."""
    water = water_frames(count)
    positions, numbers, energy, forces = names
    arrays = {
        positions: np.stack([f.positions for f in water]),
        numbers: water[0].numbers,
        energy: np.array([f.energy for f in water])[:, None],
        forces: np.stack([f.forces for f in water]),
    }
    np.savez(path, **{**arrays, **extra})
    return water


RMD17 = ("coords", "nuclear_charges", "energies", "forces")
SGDML = ("R", "z", "E", "F")
NEQUIP = ("pos", "atomic_numbers", "energy", "forces")


@pytest.mark.parametrize(
    ("names", "factor"), [(RMD17, KCAL_PER_MOL), (SGDML, KCAL_PER_MOL), (NEQUIP, 1.0)]
)
def test_npz_formats_and_their_units(tmp_path, names, factor):
    water = npz(tmp_path / "w.npz", names)
    read = read_frames(tmp_path / "w.npz", settings(require=["energy", "forces"]))
    assert len(read) == 3
    for a, b in zip(read, water, strict=True):
        assert a.energy == pytest.approx(factor * b.energy, rel=1e-14)
        np.testing.assert_allclose(a.forces, factor * b.forces, rtol=1e-14)
        np.testing.assert_array_equal(a.positions, b.positions)
        assert not a.pbc.any()
    explicit = read_frames(tmp_path / "w.npz", settings(units={"energy": "eV"}))
    assert explicit[0].energy == water[0].energy


def test_npz_units_named_in_the_file(tmp_path):
    water = npz(tmp_path / "w.npz", SGDML, e_unit=np.array("eV"), r_unit=np.array("Ang"))
    assert read_frames(tmp_path / "w.npz")[0].energy == water[0].energy
    npz(tmp_path / "x.npz", SGDML, e_unit=np.array("furlong"))
    with pytest.raises(ValueError, match=r"energy unit 'furlong'.*set units.energy"):
        read_frames(tmp_path / "x.npz")
    read_frames(tmp_path / "x.npz", settings(units={"energy": "eV"}))


@pytest.mark.parametrize("cell", [np.eye(3) * 9, np.full(3, 9.0), np.stack([np.eye(3) * 9] * 3)])
def test_npz_cells(tmp_path, cell):
    npz(tmp_path / "w.npz", NEQUIP, cell=cell)
    read = read_frames(tmp_path / "w.npz")
    assert all(f.pbc.all() and np.array_equal(f.cell, np.eye(3) * 9) for f in read)
    npz(tmp_path / "v.npz", NEQUIP, cell=cell, pbc=np.array([True, True, False]))
    assert read_frames(tmp_path / "v.npz")[2].pbc.tolist() == [True, True, False]


def test_npz_names_given_by_the_user(tmp_path):
    water = npz(tmp_path / "w.npz", ("xyz", "Z", "u", "minus_gradient"))
    with pytest.raises(ValueError, match=r"xyz, Z, u.*expected positions.*keys.positions"):
        read_frames(tmp_path / "w.npz")
    keys = {"positions": "xyz", "numbers": "Z", "energy": "u", "forces": "minus_gradient"}
    read = read_frames(tmp_path / "w.npz", settings(keys=keys))
    np.testing.assert_array_equal(read[2].forces, water[2].forces)


def test_npz_of_wrong_shapes(tmp_path):
    npz(tmp_path / "w.npz", NEQUIP, energy=np.zeros(2))
    with pytest.raises(ValueError, match=r"energy of the shape \(2,\) for 3 frames"):
        read_frames(tmp_path / "w.npz")
    npz(tmp_path / "f.npz", NEQUIP, forces=np.zeros((3, 2, 3)))
    with pytest.raises(ValueError, match=r"f.npz#0: got forces of the shape \(2, 3\); expected"):
        read_frames(tmp_path / "f.npz")
    npz(tmp_path / "z.npz", NEQUIP, atomic_numbers=np.array([8, 1, 0]))
    with pytest.raises(ValueError, match="atomic number 0"):
        read_frames(tmp_path / "z.npz")
    npz(tmp_path / "s.npz", NEQUIP, atomic_numbers=np.array(["O", "H", "H"]))
    with pytest.raises(ValueError, match=r"s.npz#0: got the atomic numbers \['O', 'H', 'H'\]; exp"):
        read_frames(tmp_path / "s.npz")


def test_an_energy_that_is_no_number():
    atoms = ase.Atoms("H2", [[0, 0, 0], [0, 0, 1]], info={"energy": "abc"})
    with pytest.raises(ValueError, match="got no number in energy; expected a number; mend"):
        frames_from_atoms([atoms])


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.95])
@pytest.mark.parametrize("suffix", ["npz", "extxyz", "h5", "traj"])
def test_cut_files(tmp_path, suffix, kept):
    whole = tmp_path / f"whole.{suffix}"
    if suffix == "npz":
        npz(whole, NEQUIP)
    elif suffix == "h5":
        write_hdf5(water_frames(3), whole)
    elif suffix == "traj":
        ase.io.write(whole, [ase.Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])] * 3)
    else:
        write_extxyz(water_frames(3), whole)
    data = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match=r"^cut\.\w+.*got .*expected .*; .*") as error:
        read_frames(cut)
    assert "\n" not in str(error.value)


def test_a_number_cut_at_the_end_of_the_file(tmp_path):
    table = [f"H {k:10.6f} {k:10.6f} {k:10.6f}" for k in range(3)]
    text = "\n".join(["3", "Properties=species:S:1:pos:R:3", *table])
    (tmp_path / "whole.xyz").write_text(text)
    assert len(read_frames(tmp_path / "whole.xyz")) == 1
    (tmp_path / "cut.xyz").write_text(text[:-3])
    with pytest.raises(ValueError, match=r"cut.xyz#0.*shorter than the others.*cut off"):
        read_frames(tmp_path / "cut.xyz")


def test_empty_missing_and_foreign_files(tmp_path):
    (tmp_path / "e.extxyz").touch()
    with pytest.raises(ValueError, match="empty file"):
        read_frames(tmp_path / "e.extxyz")
    (tmp_path / "blank.xyz").write_text("\n\n")
    with pytest.raises(ValueError, match="got no frames"):
        read_frames(tmp_path / "blank.xyz")
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_frames(tmp_path / "none.npz")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match=r"other.h5.*write_hdf5"):
        read_frames(tmp_path / "other.h5")
    with pytest.raises(ValueError, match="no frames to write"):
        write_hdf5([], tmp_path / "none.h5")
    assert not list(tmp_path.glob("none.h5*"))


def test_blank_lines_between_frames_lose_nothing(tmp_path):
    write_extxyz(water_frames(2), tmp_path / "a.xyz")
    text = (tmp_path / "a.xyz").read_text()
    (tmp_path / "b.xyz").write_text(f"\n{text}\n\n{text}\n")
    assert len(read_frames(tmp_path / "b.xyz")) == 4


def test_a_wrong_count_names_the_line(tmp_path):
    write_extxyz(water_frames(2), tmp_path / "a.xyz")
    lines = (tmp_path / "a.xyz").read_text().splitlines()
    lines[0] = "2"
    (tmp_path / "b.xyz").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"b.xyz#1 \(line 5\).*number of atoms"):
        read_frames(tmp_path / "b.xyz")


@pytest.mark.parametrize("what", ["positions", "forces", "energy", "cell", "stress"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_name_the_frame(tmp_path, what, value):
    frames = crystal_frames(3)
    bad = value if what == "energy" else getattr(frames[1], what).copy()
    if what != "energy":
        bad[1] = value
    if what == "stress":
        bad[:, 1] = value
    frames[1] = replace(frames[1], **{what: bad})
    write_extxyz(frames, tmp_path / "n.extxyz")
    with pytest.raises(ValueError, match=rf"n.extxyz#1: got (nan|inf|a stress).*{what}"):
        read_frames(tmp_path / "n.extxyz")


@pytest.mark.parametrize(
    "given", [{"units": {"energy": "kcal/mol"}}, {"keys": {"energy": "REF_energy"}}]
)
def test_units_and_keys_of_what_has_its_own_are_refused(tmp_path, given):
    write_hdf5(water_frames(1), tmp_path / "w.h5")
    (name,) = given
    for path, what in ((tmp_path / "w.h5", "an HDF5 file"), ("builtin:ethanol", "a built-in set")):
        with pytest.raises(ValueError, match=f"got {name} for {what}.*remove the {name}"):
            read_frames(path, settings(**given))


def test_names_of_arrays_are_refused_for_a_file_of_ase(tmp_path):
    write_extxyz(water_frames(1), tmp_path / "w.extxyz")
    with pytest.raises(ValueError, match=r"w.extxyz: got keys.pbc for a file that ASE reads"):
        read_frames(tmp_path / "w.extxyz", settings(keys={"pbc": "periodic"}))


def test_a_file_of_isolated_atoms_has_no_forces_to_name(tmp_path):
    given = settings(keys={"forces": "dft_forces", "energy": "energy"})
    write_extxyz([isolated(1, -1.0), isolated(8, -2.0)], tmp_path / "atoms.extxyz")
    assert [f.energy for f in read_frames(tmp_path / "atoms.extxyz", given)] == [-1.0, -2.0]
    write_extxyz([isolated(1, -1.0), *water_frames(1)], tmp_path / "both.extxyz")
    with pytest.raises(ValueError, match=r"both.extxyz: got no forces named 'dft_forces'"):
        read_frames(tmp_path / "both.extxyz", given)


@pytest.mark.parametrize("name", ["stress", "virial"])
def test_six_numbers_of_a_stress_in_extended_xyz(tmp_path, name):
    frame = replace(crystal_frames(1)[0], stress=None)
    write_extxyz([frame], tmp_path / "c.extxyz")
    text = (tmp_path / "c.extxyz").read_text()
    for key in (name, f"REF_{name}"):
        six = text.replace("Properties", f'{key}="1 2 3 4 5 6" Properties', 1)
        (tmp_path / f"{key}.extxyz").write_text(six)
    with pytest.raises(ValueError, match=rf"{name}.extxyz#0.*not nine numbers.*to REF_{name}"):
        read_frames(tmp_path / f"{name}.extxyz")
    (read,) = read_frames(tmp_path / f"REF_{name}.extxyz")
    factor = 1.0 if name == "stress" else -1.0 / abs(np.linalg.det(frame.cell))
    assert np.allclose(read.stress, factor * np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]]))


def test_a_relative_path_says_where_it_begins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=f"got no file w.xyz in {tmp_path}, where the comm"):
        read_frames("w.xyz")
    with pytest.raises(FileNotFoundError, match=r"got no file /w.xyz; expected"):
        read_frames("/w.xyz")


def test_required_labels(tmp_path):
    frames = [isolated(1, -1.0), *water_frames(2), without(water_frames(1)[0], "forces")]
    write_extxyz(frames, tmp_path / "f.extxyz")
    read_frames(tmp_path / "f.extxyz", settings(require=["energy"]))
    with pytest.raises(ValueError, match=r"f.extxyz#3: got no forces.*keys.forces"):
        read_frames(tmp_path / "f.extxyz", settings(require=["energy", "forces"]))
    write_hdf5(read_frames(tmp_path / "f.extxyz"), tmp_path / "f.h5")
    with pytest.raises(ValueError, match=r"f.extxyz#3: got no forces.*keys.forces"):
        read_frames(tmp_path / "f.h5", settings(require=["energy", "forces"]))
    write_hdf5(frames[:3], tmp_path / "g.h5")
    assert len(read_frames(tmp_path / "g.h5", settings(require=["energy", "forces"]))) == 3


def test_a_periodic_frame_without_volume():
    frame = replace(crystal_frames(1)[0], cell=np.zeros((3, 3)), stress=None)
    with pytest.raises(ValueError, match=r"atoms#0: .*zero volume"):
        frames_from_atoms([ase.Atoms(frame.numbers, frame.positions, pbc=True)])


def test_settings_reject_unknown_units():
    assert UnitSettings(forces="kcal/mol/Å", length="A", stress="eV/A^3").forces == "kcal/mol/Å"
    for field in ("energy", "length", "stress", "forces"):
        with pytest.raises(ValueError, match=f"got 'furlong' for '{field}'; expected: "):
            UnitSettings.parse({field: "furlong"})
    with pytest.raises(ValueError, match="not both"):
        LabelKeys.parse({"stress": "s", "virial": "v"})
    with pytest.raises(ValueError, match="did you mean 'energy'"):
        LabelKeys.parse({"enrgy": "E"})
