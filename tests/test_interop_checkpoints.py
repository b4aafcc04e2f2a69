"""State dicts of torch for every architecture that has none of its hyperparameters in the file."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import yaml
from torch_files import Tensor, save

from mlffjax import checkpoint, cli
from mlffjax.interop import from_checkpoint, from_reference

PARITY = Path(__file__).parent / "data" / "parity"


def reference(name):
    with np.load(PARITY / f"{name}.npz") as data:
        weights = {n[8:]: data[n] for n in data.files if n.startswith("weights/")}
        return json.loads(str(data["config"])), weights


@pytest.mark.parametrize("name", ["alphanet", "equiformer_v2", "leignn", "mace_paper"])
def test_a_state_dict_gives_the_potential_of_its_arrays(name, tmp_path):
    config, weights = reference(name)
    tensors = {f"module.module.{n}": Tensor(w) for n, w in weights.items()}
    path = save({"epoch": 1, "state_dict": tensors}, tmp_path / "checkpoint.pt")
    model = name.removesuffix("_paper")
    got = from_checkpoint(model, path, config, dtype="float64")
    expected = from_reference({**config, "model": model}, weights, dtype="float64")
    assert got.module == expected.module
    jax.tree.map(np.testing.assert_array_equal, got.params, expected.params)


def test_the_command_takes_a_state_dict_and_its_hyperparameters(tmp_path):
    config, weights = reference("leignn")
    path = save({n: Tensor(w) for n, w in weights.items()}, tmp_path / "checkpoint.pt")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    arguments = ["import", "leignn", str(path), str(tmp_path / "out")]
    assert cli.main([*arguments, "--config", str(tmp_path / "config.yaml")]) == 0
    stored = checkpoint.load(tmp_path / "out")
    expected = from_reference({**config, "model": "leignn"}, weights)
    jax.tree.map(np.testing.assert_array_equal, stored.params, expected.params)


@pytest.mark.parametrize(
    ("name", "extra", "message"),
    [
        ("alphanet", {"eps": 1, "a": 2}, "got the settings a, eps, which are not read"),
        ("leignn", {"max_neighbors": 20}, "got the settings max_neighbors"),
        ("so3krates", {"zbl_repulsion": True}, "got the settings zbl_repulsion"),
        ("so3krates", {"radial_basis_function": "bernstein"}, "'bernstein'; expected 'phys'"),
        ("mace_paper", {"scal": 3}, "got the settings scal"),
        ("mace_paper", {"gate": "tanh"}, "got gate = 'tanh'; expected 'silu'"),
        ("mace_paper", {"interaction": "Other"}, "got interaction 'Other'"),
        ("mace_paper", {"interaction_first": "Other"}, "got interaction_first 'Other'"),
        ("equiformer_v2", {"nonsense": 1}, "got the settings nonsense"),
        ("equiformer_v2", {"distance_function": "sigmoid"}, "got distance_function = 'sigmoid'"),
    ],
)
def test_a_setting_that_would_be_ignored_is_named(name, extra, message):
    config, weights = reference(name)
    with pytest.raises(ValueError, match=message):
        from_reference({**config, **extra}, weights)


@pytest.mark.parametrize("name", sorted(path.stem for path in PARITY.glob("*.npz")))
def test_settings_of_the_reference_are_all_known(name):
    config, weights = reference(name)
    potential = from_reference(config, weights)
    assert potential.cutoff == 5


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("so3krates", {"sphc_normalization": ...}, "got no sphc_normalization among the settings"),
        ("leignn", {"cutoff": ...}, "got no cutoff among the settings; expected all of hidden_"),
        ("leignn", {"num_rbf": 17}, r"got \[16, 64\] for the parameter message_0/filters/kernel"),
        ("leignn", {"cutoff": None}, "got settings or parameters that are none of leignn"),
        ("equiformer_v2", {"norm_type": "batch"}, r"none of equiformer_v2 \(KeyError: 'batch'\)"),
        ("equiformer_v2", {"max_radius": 6.0}, "got max_radius = 6 where the last Gaussian of"),
        ("mace_paper", {"E0s": [0.0] * 5}, r"where the file has atomic_energies_fn.*\[-13.6, -10"),
        ("mace_scaleshift", {"scale": ...}, r"got settings with \[1.0\] where the file has scale_"),
    ],
)
def test_settings_that_are_not_those_of_the_file_are_refused(name, change, message):
    config, weights = reference(name)
    config = {key: value for key, value in (config | change).items() if value is not ...}
    with pytest.raises(ValueError, match=message):
        from_reference(config, weights)


def test_parameters_that_are_no_numbers_or_of_another_shape_are_refused():
    config, weights = reference("leignn")
    name = "out_energy.0.weight"
    broken = {**weights, name: np.full_like(weights[name], np.nan)}
    with pytest.raises(ValueError, match=f"not finite in the parameter {name}"):
        from_reference(config, broken)
    with pytest.raises(ValueError, match=r"got \[16, 32\] for the parameter readout/layer_0/kern"):
        from_reference(config, {**weights, name: weights[name].T})
