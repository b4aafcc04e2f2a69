"""Dropout in training: it acts, repeats with the seed, survives a resume, and stops at evaluation.

The architecture is a small SchNet with a dropout of its energies in front of its sum, as cheap as
dropout can be had; that of EquiformerV2 is tested with the model.
"""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from clusters import BASELINE, CUTOFF, clusters
from flax import linen as nn
from test_training_run import SETTINGS, Terminator, same_params

from mlffjax import checkpoint, models
from mlffjax.models import SchNet
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential
from mlffjax.training import Terminated, train

TRAIN = clusters(6)


class Dropping(SchNet):
    """SchNet whose atoms drop out of the energy, where a key is given."""

    rate: float = 0.5

    @nn.compact
    def __call__(self, graph):
        output = super().__call__(graph)
        if not self.has_rng("dropout"):
            return output
        return replace(output, energy=nn.Dropout(self.rate, deterministic=False)(output.energy))


@pytest.fixture(scope="module", autouse=True)
def registered():
    """The registry knows the architecture, so that checkpoints can be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "ARCHITECTURES", {**models.ARCHITECTURES, "dropping": Dropping})
        yield


def untrained(rate: float = 0.5) -> Potential:
    module = Dropping(num_features=8, num_layers=1, num_basis=8, cutoff=CUTOFF, rate=rate)
    return Potential.init(
        module, list(BASELINE), jax.random.key(0), baseline=list(BASELINE.values())
    )


def run(potential: Potential, folder: Path, *, seed: int = 0, **options) -> Potential:
    """The parameters after six steps on all frames at once, so that a seed changes no batch."""
    changes = {"seed": seed, "batch_size": 6, "steps": 6, "log_interval": 2}
    settings = SETTINGS.model_copy(update=changes)
    train(potential, TRAIN, TRAIN[:2], settings, folder, **options)
    return checkpoint.load(folder / "last")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Potential:
    return run(untrained(), tmp_path_factory.mktemp("dropout"))


def distance(a: Potential, b: Potential) -> float:
    leaves = zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True)
    return max(float(np.abs(x - y).max()) for x, y in leaves)


@pytest.mark.slow
def test_dropout_and_its_seed_change_the_training(whole: Potential, tmp_path: Path) -> None:
    assert distance(whole, run(untrained(rate=0.0), tmp_path / "plain")) > 1e-3
    assert distance(whole, run(untrained(), tmp_path / "other", seed=1)) > 1e-3


def test_a_seed_repeats_and_a_resume_is_bitwise(whole: Potential, tmp_path: Path) -> None:
    with pytest.raises(Terminated):
        run(untrained(), tmp_path, callbacks=[Terminator(2)])
    assert same_params(run(untrained(), tmp_path, resume=True), whole)


def test_without_a_key_nothing_is_dropped() -> None:
    frame = TRAIN[0]
    graph = atom_graph(frame.numbers, frame.positions, frame.cell, frame.pbc, CUTOFF)
    predict = jax.jit(Potential.energy_forces)
    plain, dropping = predict(untrained(rate=0.0), graph), untrained()
    np.testing.assert_array_equal(predict(dropping, graph).forces, plain.forces)
    one, two, again = (predict(dropping, graph, jax.random.key(k)).forces for k in (1, 2, 1))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - plain.forces).max() > 1e-6
    assert np.abs(one - two).max() > 1e-6
