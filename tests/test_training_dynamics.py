"""Short dynamics at validations: recorded, selected by, repeated by a resumed run."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from clusters import clusters, untrained

from mlffjax import checkpoint
from mlffjax.config.base import ConfigError
from mlffjax.config.training import MDValidationSettings, OptimizerSettings, TrainingSettings
from mlffjax.training import train
from mlffjax.training.callbacks import summary
from mlffjax.workflow import dynamics_check

TRAIN, VALID = clusters(8), clusters(12)[8:]


def settings(length: int = 8, **md: object) -> TrainingSettings:
    return TrainingSettings(
        steps=length,
        batch_size=4,
        log_interval=2,
        progress=False,
        tensorboard=False,
        optimizer=OptimizerSettings(learning_rate=0.02),
        selection="md",
        md_validation=MDValidationSettings(**md),  # type: ignore[arg-type]
    )


def scripted(values):
    """Dynamics whose outcome at each call is given."""
    rest = iter(values)
    return lambda _: next(rest)


def from_parameters(potential):
    """Dynamics that depend on the parameters alone, in no simple way."""
    total = float(sum(np.abs(np.asarray(x)).sum() for x in jax.tree.leaves(potential.params)))
    return {"md_stability": 0.5 + 0.5 * (int(total * 1e3) % 2), "md_drift": total % 1e-2}


def test_the_most_stable_then_the_least_drifting_is_best(tmp_path: Path) -> None:
    outcomes = [
        {"md_stability": 0.5},
        {"md_stability": 1.0, "md_drift": 0.3},
        {"md_stability": 1.0, "md_drift": 0.1},
        {"md_stability": 1.0, "md_drift": 0.2},
    ]
    result = train(
        untrained(), TRAIN, VALID, settings(), tmp_path / "run", dynamics=scripted(outcomes)
    )
    assert result.best_step == 6
    valid = [r for r in result.history if r.kind == "valid"]
    assert [r.step for r in valid] == [2, 4, 6, 8]
    assert [r.values.get("md_drift") for r in valid] == [None, 0.3, 0.1, 0.2]
    assert "forces_mae" in valid[0].values
    assert "MD 100 % stable, drift 200 meV/atom/ps" in summary(valid[-1].values)
    best = json.loads((tmp_path / "run" / "best" / "checkpoint.json").read_text())
    assert "md_stability" in json.dumps(best)


def test_dynamics_every_other_validation_and_at_the_end(tmp_path: Path) -> None:
    outcomes = scripted([{"md_stability": x} for x in (0.2, 0.4, 0.3)])
    result = train(
        untrained(), TRAIN, VALID, settings(10, interval=2), tmp_path / "run", dynamics=outcomes
    )
    steps = [r.step for r in result.history if "md_stability" in r.values]
    assert steps == [4, 8, 10]
    assert result.best_step == 8


@pytest.mark.slow
def test_a_resumed_run_repeats_its_dynamics(tmp_path: Path) -> None:
    whole = train(
        untrained(), TRAIN, VALID, settings(12), tmp_path / "whole", dynamics=from_parameters
    )
    train(untrained(), TRAIN, VALID, settings(6), tmp_path / "parts", dynamics=from_parameters)
    parts = train(
        untrained(), TRAIN, VALID, settings(12), tmp_path / "parts", resume=True,
        dynamics=from_parameters,
    )  # fmt: skip
    measured = lambda run: [  # noqa: E731
        (r.step, r.values["md_stability"], r.values["md_drift"])
        for r in run.history
        if r.kind == "valid"
    ]
    assert len(measured(whole)) == 6
    assert measured(parts) == measured(whole)
    assert parts.best_step == whole.best_step
    for x, y in zip(
        jax.tree.leaves(checkpoint.load(tmp_path / "parts" / "best").params),
        jax.tree.leaves(whole.potential.params),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)


def test_real_dynamics_of_the_network(tmp_path: Path) -> None:
    md = settings(4, frames=2, steps=50, temperature=10.0)
    dynamics = dynamics_check(md.md_validation, VALID)
    result = train(untrained(), TRAIN, VALID, md, tmp_path / "run", dynamics=dynamics)
    values = [r.values for r in result.history if r.kind == "valid"]
    assert len(values) == 2
    for v in values:
        assert 0 <= v["md_stability"] <= 1
        assert np.isfinite(v["md_temperature"])


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'md_validation' for the selection 'md'"):
        TrainingSettings.parse({"steps": 1, "selection": "md"})
    with pytest.raises(ValueError, match="no function for the dynamics"):
        train(untrained(), TRAIN, VALID, settings(), tmp_path / "a")
    with pytest.raises(ValueError, match="0 validation frames"):
        train(untrained(), TRAIN, [], settings(), tmp_path / "b", dynamics=from_parameters)
    assert dynamics_check(None, VALID) is None
    assert not (tmp_path / "a").exists()
