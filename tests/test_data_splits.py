"""Splits: disjoint, reproducible, saved and loaded; and the data section put together."""

import json
from itertools import chain

import numpy as np
import pytest
from frames import isolated, water_frames

from mlffjax.config.data import DataSettings, SplitSettings
from mlffjax.data import Split, load_sets, make_split, write_extxyz, write_hdf5
from mlffjax.data.splits import Subset


def parts(split):
    return [split.train.tolist(), split.valid.tolist(), split.test.tolist()]


def test_fractions_and_counts():
    split = make_split(30, SplitSettings(train=20, valid=0.1, test="rest"))
    assert [len(p) for p in parts(split)] == [20, 3, 7]
    assert sorted(chain(*parts(split))) == list(range(30))
    assert [len(p) for p in parts(make_split(30))] == [27, 3, 0]


def test_the_seed_decides():
    a, b, c = (make_split(50, SplitSettings(seed=s)) for s in (1, 1, 2))
    assert parts(a) == parts(b)
    assert parts(a) != parts(c)


def test_excluded_frames_are_nowhere():
    split = make_split(10, SplitSettings(valid=2, test=2), exclude=[0, 7])
    assert sorted(chain(*parts(split))) == [1, 2, 3, 4, 5, 6, 8, 9]


def test_bad_splits():
    with pytest.raises(ValueError, match=r"train 9, valid 2, test 0 of 10 frames"):
        make_split(10, SplitSettings(train=9, valid=2))
    with pytest.raises(ValueError, match=r"split.valid 0.05 of 12 frames, which is none; .*whole"):
        make_split(12, SplitSettings(valid=0.05))
    with pytest.raises(ValueError, match="no training frames"):
        make_split(10, SplitSettings(train=0, valid=2))
    none = np.zeros(0, int)
    with pytest.raises(ValueError, match="frame 3 twice"):
        Split(np.array([1, 3]), np.array([3]), none, 10)
    with pytest.raises(ValueError, match="index 10 in a split of 10"):
        Split(np.array([1, 10]), none, none, 10)
    with pytest.raises(ValueError, match="'rest' for one"):
        SplitSettings.parse({"train": "rest", "test": "rest"})
    with pytest.raises(
        ValueError, match=r"^configuration: got 1.5 for 'valid'; .*whole number[^\n]*$"
    ):
        SplitSettings.parse({"train": 3, "valid": 1.5})


@pytest.mark.parametrize("suffix", ["json", "npz"])
def test_saved_and_loaded(tmp_path, suffix):
    path = tmp_path / f"split.{suffix}"
    split = make_split(20, SplitSettings(valid=3, test=4, seed=5))
    split.save(path)
    again = Split.load(path, 20)
    assert parts(again) == parts(split)
    assert (again.num_frames, again.source) == (20, "random, seed 5")
    with pytest.raises(FileExistsError):
        split.save(path)
    with pytest.raises(ValueError, match="split of 20 frames for files with 21"):
        Split.load(path, 21)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"split\.\w+: got a split file that cannot be read"):
        Split.load(path)


def test_index_files_made_elsewhere(tmp_path):
    np.savez(tmp_path / "i.npz", train_idx=[4, 2], val_idx=[0], other=[9])
    split = make_split(6, SplitSettings(file=str(tmp_path / "i.npz")))
    assert parts(split) == [[2, 4], [0], []]
    (tmp_path / "i.json").write_text(json.dumps({"train": [0.5]}))
    with pytest.raises(ValueError, match="whole numbers"):
        Split.load(tmp_path / "i.json")
    (tmp_path / "j.json").write_text(json.dumps({"valid": [1]}))
    with pytest.raises(ValueError, match="under 'train'"):
        Split.load(tmp_path / "j.json")
    with pytest.raises(FileNotFoundError):
        Split.load(tmp_path / "none.json")


def test_subset_is_a_view():
    subset = Subset(water_frames(5), np.array([4, 1]))
    assert [f.name for f in subset] == ["water#4", "water#1"]
    assert [f.name for f in subset[1:]] == ["water#1"]
    assert subset[-1].name == "water#1"


@pytest.fixture
def files(tmp_path):
    write_extxyz([isolated(1, -1.0), *water_frames(10), isolated(8, -2.0)], tmp_path / "a.xyz")
    write_extxyz(water_frames(3, seed=1), tmp_path / "b.xyz")
    write_hdf5([*water_frames(4), isolated(1, -1.0)], tmp_path / "c.h5")
    return tmp_path


def test_load_sets_splits_one_file_and_sets_isolated_atoms_apart(files):
    sets = load_sets(
        DataSettings.parse({"train": str(files / "a.xyz"), "split": {"valid": 2, "test": 3}})
    )
    assert [len(sets.train), len(sets.valid), len(sets.test)] == [5, 2, 3]
    assert [f.name for f in sets.isolated] == ["a.xyz#0", "a.xyz#11"]
    again = load_sets(DataSettings(train=str(files / "a.xyz")), sets.split)
    assert [f.name for f in again.valid] == [f.name for f in sets.valid]
    with pytest.raises(ValueError, match="split of 12 frames, training files with 3"):
        load_sets(DataSettings(train=str(files / "b.xyz")), sets.split)


def test_isolated_atoms_that_an_index_file_names_are_in_no_part(files):
    (files / "i.json").write_text(json.dumps({"train": [0, 1, 2, 11], "valid": [3]}))
    values = {"train": str(files / "a.xyz"), "split": {"file": str(files / "i.json")}}
    sets = load_sets(DataSettings.parse(values))
    assert [f.name for f in sets.train] == ["a.xyz#1", "a.xyz#2"]
    assert sets.split.train.tolist() == [1, 2]
    assert [f.name for f in sets.isolated] == ["a.xyz#0", "a.xyz#11"]


def test_load_sets_with_separate_files(files):
    a, b, c = (str(files / n) for n in ("a.xyz", "b.xyz", "c.h5"))
    sets = load_sets(DataSettings(train=(a, b), valid=c, test=a))
    # Isolated atoms are in no part, whichever file they come from.
    assert [len(sets.train), len(sets.valid), len(sets.test)] == [13, 4, 10]
    lazy = load_sets(DataSettings(train=c, valid=b, test=b))
    assert [len(lazy.train), len(lazy.valid), len(lazy.test)] == [4, 3, 3]
    assert [f.name for f in lazy.isolated] == ["atom1"]
    with pytest.raises(ValueError, match="remove one"):
        DataSettings.parse({"train": a, "valid": b, "split": {"valid": 0.1}})
    with pytest.raises(ValueError, match="at least one training file"):
        DataSettings.parse({"train": []})


def test_the_builtin_set():
    sets = load_sets(DataSettings(train="builtin:ethanol"))
    assert len(sets.isolated) == 3
    assert len(sets.train) > 1000
    assert {len(f.numbers) for f in sets.train} == {9}
    assert all(abs(f.forces.sum(0)).max() < 1e-3 for f in sets.train)
    with pytest.raises(ValueError, match="expected one of ethanol"):
        load_sets(DataSettings(train="builtin:methanol"))
