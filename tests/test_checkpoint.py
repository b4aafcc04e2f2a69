"""Checkpoints: exact, complete, never half written, clear about what is wrong."""

import errno
import json
import logging
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from clusters import clusters, untrained

from mlffjax import checkpoint
from mlffjax.checkpoint import CheckpointError
from mlffjax.models import SO3krates
from mlffjax.potential import Potential
from mlffjax.training import evaluate


@pytest.fixture
def potential() -> Potential:
    return untrained().replace(shift=(0.1, 0.2), scale=1.0 / 3.0, metadata='{"data": {"n": 3}}')


def identical(a, b) -> bool:
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jax.tree.structure(a) == jax.tree.structure(b) and all(
        x.dtype == y.dtype and np.array_equal(x, y) for x, y in leaves
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_round_trip_is_exact(potential: Potential, dtype: str, tmp_path: Path) -> None:
    potential = potential.astype(dtype)
    checkpoint.save(potential, tmp_path / "a", metrics={"energy_mae": 0.1})
    loaded = checkpoint.load(tmp_path / "a")
    assert identical(loaded.params, potential.params)
    assert loaded.dtype == np.dtype(dtype)
    plain = {"params": None, "metadata": ""}
    assert loaded.replace(**plain) == potential.replace(**plain)
    about = json.loads(loaded.metadata)
    assert about["data"] == {"n": 3}
    assert about["metrics"] == {"energy_mae": 0.1}
    assert about["saved_by"]["jax"] == jax.__version__
    frames = clusters(2)
    np.testing.assert_array_equal(
        evaluate(loaded, frames).energy, evaluate(potential, frames).energy
    )
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_settings_with_tuples_come_back(tmp_path: Path) -> None:
    module = SO3krates(num_features=12, num_layers=1, num_heads=2, num_radial=4, degrees=(1, 2))
    potential = Potential.init(module, [1, 8], jax.random.key(1))
    checkpoint.save(potential, tmp_path / "a")
    assert checkpoint.load(tmp_path / "a").module == potential.module


def test_other_dtype_on_loading(potential: Potential, tmp_path: Path) -> None:
    checkpoint.save(potential.astype("float64"), tmp_path / "a")
    assert checkpoint.load(tmp_path / "a", dtype="float32").dtype == np.float32
    checkpoint.save(potential.astype("bfloat16"), tmp_path / "b")
    assert checkpoint.load(tmp_path / "b").dtype == "bfloat16"
    assert checkpoint.load(tmp_path / "b", dtype="float32").dtype == np.float32
    with jax.enable_x64(False), pytest.raises(CheckpointError, match="expected x64"):
        checkpoint.load(tmp_path / "a")


def test_nothing_is_overwritten_unasked(potential: Potential, tmp_path: Path) -> None:
    checkpoint.save(potential, tmp_path / "a")
    with pytest.raises(CheckpointError, match="which exists; expected a new folder"):
        checkpoint.save(potential, tmp_path / "a")
    (tmp_path / "notes").mkdir()
    with pytest.raises(CheckpointError, match="which exists"):
        checkpoint.save(potential, tmp_path / "notes", overwrite=True)
    checkpoint.save(potential.replace(scale=2.0), tmp_path / "a", overwrite=True)
    assert checkpoint.load(tmp_path / "a").scale == 2.0


@pytest.mark.parametrize("place", ["_write_arrays", "_flush", "_replace"])
def test_full_disk_leaves_the_earlier_checkpoint(
    potential: Potential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    checkpoint.save(potential, tmp_path / "a")
    with monkeypatch.context() as patch:

        def full(*_) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(checkpoint, place, full)
        with pytest.raises(OSError, match="No space left on device; earlier") as caught:
            checkpoint.save(potential.replace(scale=2.0), tmp_path / "a", overwrite=True)
    assert caught.value.errno == errno.ENOSPC
    assert "\n" not in str(caught.value)
    assert checkpoint.load(tmp_path / "a").scale == potential.scale
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_interrupted_overwriting_leaves_the_earlier_checkpoint(
    potential: Potential, tmp_path: Path
) -> None:
    checkpoint.save(potential, tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / ".a.old")  # Killed between the two renames.
    assert checkpoint.load(tmp_path / "a").scale == potential.scale


def test_what_is_not_a_checkpoint_says_so(potential: Potential, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        checkpoint.load(tmp_path / "none")
    with pytest.raises(CheckpointError, match=r"has no checkpoint.json"):
        checkpoint.load(tmp_path)
    (tmp_path / "checkpoint.json").write_text("[1, 2")
    with pytest.raises(CheckpointError, match="not the index of a checkpoint"):
        checkpoint.load(tmp_path)
    path = checkpoint.save(potential, tmp_path / "a")
    index = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps({**index, "version": 99}))
    with pytest.raises(CheckpointError, match=r"got version 99 .* expected 1; use the release"):
        checkpoint.load(path)
    index["potential"]["architecture"] = "unheard"
    (path / "checkpoint.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="'unheard'; expected one of"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda i: i.pop("potential"), "no potential"),
        (lambda i: i.pop("arrays"), "no arrays"),
        (lambda i: i.update(arrays={}), "the arrays of params are not those listed"),
        (lambda i: i.update(metadata=1), "the metadata 1"),
        (lambda i: i["potential"].pop("scale"), "no scale"),
        (lambda i: i["potential"].update(scale=float("nan")), "nan for the scale"),
        (lambda i: i["potential"].pop("elements"), "no elements"),
        (lambda i: i["potential"].update(elements=[8, 6]), r"the elements \[8, 6\]"),
        (
            lambda i: i["potential"].update(elements=[1, 6, 8], baseline=[0] * 3, shift=None),
            "elements 3 of a potential, 2 of its schnet",
        ),
        (lambda i: i["potential"].update(baseline=[0.0]), "1 baseline energies for 2 elements"),
        (lambda i: i["potential"].update(shift=[0.0] * 3), "3 shift energies for 2 elements"),
        (lambda i: i["potential"].update(cutoff=9.0), "cutoff 9.0 of a potential, 4.0 of its"),
        (lambda i: i["potential"].update(dtype="float33"), "the dtype float33"),
        (
            lambda i: i["potential"]["hyperparameters"].pop("cutoff"),
            r"no cutoff among the hyperparameters of schnet; expected all; .* another revision",
        ),
        (lambda i: i["potential"]["hyperparameters"].update(num_layers="2"), "another revision"),
    ],
)
def test_an_index_that_was_changed_says_what_is_wrong(
    potential: Potential, tmp_path: Path, edit: Callable[[dict], object], says: str
) -> None:
    path = checkpoint.save(potential, tmp_path / "a")
    index = json.loads((path / "checkpoint.json").read_text())
    edit(index)
    (path / "checkpoint.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=says) as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)


def test_parameters_of_another_architecture_are_named(potential: Potential, tmp_path: Path) -> None:
    network = dict(potential.params["params"])
    embedding = {"embedding": {"embedding": np.zeros((2, 5), np.float32)}}
    for k, (params, complaint) in enumerate(
        [
            (
                {name: x for name, x in network.items() if name != "embedding"},
                r"got no array for the parameter embedding/embedding of SchNet; expected \[2, ",
            ),
            (network | {"old": np.zeros(3, np.float32)}, r"got \[3\] .* old of .*expected none"),
            (network | embedding, r"got \[2, 5\] for .*; expected \[2, .*was written by another"),
        ]
    ):
        path = checkpoint.save(potential.replace(params={"params": params}), tmp_path / f"{k}")
        with pytest.raises(CheckpointError, match=complaint) as caught:
            checkpoint.load(path)
        assert "\n" not in str(caught.value)


def test_splines_of_another_release_are_named(potential: Potential, tmp_path: Path) -> None:
    fast = potential.compressed(1e-2)
    assert identical(checkpoint.load(checkpoint.save(fast, tmp_path / "a")).params, fast.params)
    cut = jax.tree.map(lambda x: x[:-1], fast.params["expansion"]["interaction_0"])
    expansion = {**fast.params["expansion"], "interaction_0": cut}
    path = checkpoint.save(
        fast.replace(params={**fast.params, "expansion": expansion}), tmp_path / "b"
    )
    with pytest.raises(CheckpointError, match=r"got splines .*compress the potential again") as e:
        checkpoint.load(path)
    assert "\n" not in str(e.value)


def test_damage_is_noticed(potential: Potential, tmp_path: Path) -> None:
    path = checkpoint.save(potential, tmp_path / "a")
    files = sorted((p for p in (path / "params").rglob("*") if p.is_file()), key=_size)
    files[-1].write_bytes(files[-1].read_bytes()[:-20])
    with pytest.raises(CheckpointError, match=r"damaged checkpoint .*restore it from a copy"):
        checkpoint.load(path)


def _size(path: Path) -> int:
    return path.stat().st_size


def test_training_state_round_trip(potential: Potential, tmp_path: Path) -> None:
    state = {"step": np.array(3, np.int32), "moments": [np.array([1.5, np.pi])]}
    path = checkpoint.save(potential, tmp_path / "a", training=(state, {"best": 0.1}))
    loaded, kept = checkpoint.load_training(path, state)
    assert identical(loaded, state)
    assert kept == {"best": 0.1}
    with pytest.raises(CheckpointError, match="differs in"):
        checkpoint.load_training(path, {"step": state["step"]})
    other = {**state, "moments": [np.zeros(3)]}
    with pytest.raises(CheckpointError, match=r"float64\[2\] for .*expected float64\[3\]"):
        checkpoint.load_training(path, other)
    plain = checkpoint.save(potential, tmp_path / "b")
    with pytest.raises(CheckpointError, match="without its training state"):
        checkpoint.load_training(plain, state)


def test_log_stays_quiet(
    potential: Potential, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = logging.getLogger("absl").level
    checkpoint.save(potential, tmp_path / "a")
    checkpoint.load(tmp_path / "a")
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    assert logging.getLogger("absl").level == before


def test_a_potential_saves_itself(potential, tmp_path):
    potential.save(tmp_path / "potential")
    assert identical(checkpoint.load(tmp_path / "potential").params, potential.params)
    with pytest.raises(CheckpointError, match="exists"):
        potential.save(tmp_path / "potential")
