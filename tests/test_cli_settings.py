"""``mlffjax settings``: every setting has a meaning, and its default is shown."""

import pytest

from mlffjax.cli import main
from mlffjax.cli.settings import COMMANDS, SECTIONS, attributes
from mlffjax.config import analysis, data, explore, md, paths, run, training
from mlffjax.config.base import Settings
from mlffjax.models import ARCHITECTURES, hyperparameters


def documented(cls: type) -> set[str]:
    return {name for names in attributes(cls) for name in names}


def test_every_setting_is_documented() -> None:
    modules = (analysis, data, explore, md, paths, run, training)
    found = [
        cls
        for module in modules
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, Settings)
    ]
    assert len(set(found)) > 15
    for cls in found:
        assert set(cls.model_fields) <= documented(cls), cls


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_hyperparameter_is_documented(name: str) -> None:
    cls = ARCHITECTURES[name]
    assert set(hyperparameters(cls)) <= documented(cls)


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        ("md", ["timestep_fs = 0.5", "    time step in fs; 0.5 resolves the fastest"]),
        ("md", ["temperature_end = null", "remove_drift = true", "ensemble = langevin"]),
        ("training", ["training.loss = ...", "training.loss.forces_weight = 0.99"]),
        ("training", ["training.md_validation = null", "training.md_validation.steps = 1000"]),
        ("training", ["training.optimizer.weight_decay_groups[].pattern = (required)"]),
        ("data", ["data.train = (required)", "data.require = [energy, forces]"]),
        ("hop", ["relax.fmax = 0.0001", "    a structure has converged when no atom"]),
        ("so3krates", ["model.cutoff = 5", "model.degrees = [1, 2, 3]", "    in Angstrom."]),
    ],
)
def test_settings_are_explained(what: str, lines: list[str], capsys) -> None:
    assert main(["settings", what]) == 0
    printed = capsys.readouterr().out.splitlines()
    for line in lines:
        assert any(p.startswith(line) for p in printed), line
    assert not any("``" in p or ":class:" in p for p in printed)


def test_what_can_be_asked_for(capsys) -> None:
    assert main(["settings"]) == 0
    printed = capsys.readouterr().out
    for what in (*SECTIONS, *COMMANDS, *ARCHITECTURES):
        assert what in printed
        assert main(["settings", what]) == 0
    assert main(["settings", "mdd"]) == 2
    assert "got 'mdd'; expected one of data, model, training" in capsys.readouterr().err
