"""Pickled models of mace-torch against what mace-torch computes with them."""

import gzip
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mlffjax import checkpoint, cli
from mlffjax.graph import batch
from mlffjax.interop import from_checkpoint, mace, mace_checkpoint
from mlffjax.interop.torch_file import TorchObject, read_torch_file, state_dict_of
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential

#: Written by experiments/mace/reference.py with mace-torch 0.3.16, random parameters.
DATA = Path(__file__).parent / "data" / "interop"
MODELS = ["mace", "scaleshift_agnesi_zbl", "density_agnesi_zbl"]
SYSTEMS = ["molecule", "crystal"]


@pytest.fixture(autouse=True)
def without_torch(monkeypatch):
    for name in ("torch", "mace", "e3nn"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mace")
    for name in MODELS:
        content = gzip.decompress((DATA / f"{name}.model.gz").read_bytes())
        (folder / f"{name}.model").write_bytes(content)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_pickled_model_computes_what_it_did(name, files):
    potential = from_checkpoint("mace", files / f"{name}.model", dtype="float64")
    data = np.load(DATA / f"{name}.npz")

    def graph(system):
        get = [data[f"{system}/{key}"] for key in ("numbers", "positions", "cell", "pbc")]
        return atom_graph(*get, potential.cutoff, np.float64)

    def expected(key):
        return np.concatenate([np.atleast_1d(data[f"{s}/{key}"]) for s in SYSTEMS])

    # In one batch, which compiles once.
    result = jax.jit(Potential.energy_forces_stress)(potential, batch([*map(graph, SYSTEMS)]))
    baseline = np.array([potential.baseline_energy(data[f"{s}/numbers"]) for s in SYSTEMS])
    np.testing.assert_allclose(result.energy, expected("energy") - baseline, rtol=1e-10)
    forces, stress = expected("forces"), data["crystal/stress"][0]
    atol = 1e-10 * np.abs(forces).max()
    np.testing.assert_allclose(result.forces, forces, rtol=0, atol=atol)
    np.testing.assert_allclose(result.stress[1], stress, rtol=0, atol=1e-10 * np.abs(stress).max())


def test_the_command_reads_a_pickled_model(files, tmp_path, capsys):
    arguments = ["import", "mace", str(files / "mace.model"), str(tmp_path / "out")]
    assert cli.main([*arguments, "--dtype", "float64"]) == 0
    assert "425 parameters" in capsys.readouterr().out
    stored = checkpoint.load(tmp_path / "out")
    expected = from_checkpoint("mace", files / "mace.model", dtype="float64")
    assert stored.module == expected.module
    jax.tree.map(np.testing.assert_array_equal, stored.params, expected.params)
    assert cli.main(arguments) == 2
    assert "exists" in capsys.readouterr().err


def test_other_files_are_refused(files):
    with pytest.raises(ValueError, match="object of the class dict"):
        from_checkpoint("mace", DATA / "state_dict.pt")
    with pytest.raises(ValueError, match="without a state dict"):
        from_checkpoint("leignn", files / "mace.model", {"num_layers": 1})


def change(model: TorchObject, place: str, **attributes) -> None:
    """Set attributes of a part of the model."""
    for name in filter(None, place.split(".")):
        model = model.get(name)
    for name, value in attributes.items():
        if name == "kind":
            model.__class__ = type("Other", (TorchObject,), {"kind": value})
        else:
            model.state.setdefault("_buffers", {}).pop(name, None)
            model.state[name] = value


@pytest.mark.parametrize(
    ("place", "attributes", "message"),
    [
        ("", {"heads": ["a", "b"]}, "heads a, b; expected one"),
        ("", {"apply_cutoff": False}, "apply_cutoff = False; expected True"),
        ("", {"use_agnostic_product": True}, "use_agnostic_product"),
        ("interactions.0", {"kind": "mace.modules.blocks.RealAgnosticAttResidualInteractionBlock"},
         "RealAgnosticAttResidualInteractionBlock; expected"),
        ("interactions.0", {"kind": "mace.modules.blocks.RealAgnosticDensityInteractionBlock"},
         "RealAgnosticResidualInteractionBlock; expected RealAgnosticDensityResidual"),
        ("interactions.1", {"kind": "mace.modules.blocks.RealAgnosticInteractionBlock"},
         "RealAgnosticInteractionBlock; expected RealAgnosticResidual"),
        ("interactions.1.linear_up", {"kind": "cuequivariance_torch.Linear"}, "of the package cue"),
        ("interactions.1", {"avg_num_neighbors": 3.0}, "avg_num_neighbors"),
        ("readouts.1", {"kind": "mace.modules.blocks.NonLinearBiasReadoutBlock"}, "readouts"),
        ("radial_embedding.bessel_fn", {"kind": "mace.modules.radial.GaussianBasis"}, "Gaussian"),
        ("radial_embedding.distance_transform", {"kind": "mace.modules.radial.SoftTransform"},
         "SoftTransform; expected AgnesiTransform"),
        ("readouts.1.non_linearity.acts.0", {"cst": 1.0}, "normalisation 1.0 of SiLU"),
        ("", {"radial_embedding": None}, "other parts than mace-torch"),
        ("spherical_harmonics", {"normalization": "norm"}, "norm norm; expected component"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(place, attributes, message, files):
    model = read_torch_file(files / "scaleshift_agnesi_zbl.model")
    change(model, place, **attributes)
    with pytest.raises(ValueError, match=message):
        mace_checkpoint.hyperparameters(model)


@pytest.mark.parametrize(
    "name", ["pair_repulsion_fn.a_exp", "radial_embedding.distance_transform.q"]
)
def test_trained_constants_are_refused(name, files):
    config, weights = mace_checkpoint.read_model(files / "scaleshift_agnesi_zbl.model")
    with pytest.raises(ValueError, match=name):
        mace.read(config, {**weights, name: 1.01 * weights[name]})


def test_names_are_those_of_a_state_dict(files):
    names = state_dict_of(read_torch_file(files / "mace.model"), "mace.model")
    assert "interactions.1.conv_tp._compiled_main_left_right._w3j_1_1_2" in names
    assert names["products.0.symmetric_contractions.contractions.1.weights.0"].shape == (4, 1, 2)
