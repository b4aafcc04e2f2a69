"""The commands one after the other on a tiny potential, and every refusal in one line."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import ase
import ase.io
import jax
import numpy as np
import pytest

from mlffjax import checkpoint
from mlffjax.cli import main
from mlffjax.data import load_builtin, write_extxyz
from mlffjax.interop import from_reference

CONFIG = """
data: {{train: {data}, split: {{train: 8, valid: 4, test: 4}}}}
model: {{architecture: so3krates, num_features: 6, num_layers: 1, num_heads: 2, degrees: [1],
        num_radial: 6, cutoff: 3.0}}
training: {{epochs: 2, batch_size: 4, progress: false, tensorboard: false}}
output: {{folder: {folder}}}
"""


@pytest.fixture(scope="session")
def frames():
    """Twenty labelled frames of ethanol."""
    return load_builtin("ethanol")[3:23]


@pytest.fixture(scope="session")
def data(tmp_path_factory, frames):
    path = tmp_path_factory.mktemp("data") / "ethanol.extxyz"
    write_extxyz(frames, path)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory, data):
    """A run that nothing may write to."""
    home = tmp_path_factory.mktemp("trained")
    config = home / "run.yaml"
    config.write_text(CONFIG.format(data=data, folder=home / "run"))
    assert main(["train", str(config)]) == 0
    return home


@pytest.fixture
def run(trained):
    return str(trained / "run")


def refused(arguments, capsys) -> str:
    """The only line that a refused command prints."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert "Traceback" not in output.err
    return output.err


def test_train_leaves_a_whole_run(trained):
    folder = trained / "run"
    for name in ("settings.yaml", "split.json", "metrics.jsonl", "learning_curve.png"):
        assert (folder / name).stat().st_size > 0, name
    metrics = json.loads((folder / "test" / "metrics.json").read_text())
    assert 0 < metrics["forces_mae"] < 10
    assert (folder / "test" / "force_parity.png").exists()
    potential = checkpoint.load(folder)
    assert potential.elements == (1, 6, 8)
    split = json.loads((folder / "split.json").read_text())
    assert [len(split[part]) for part in ("train", "valid", "test")] == [8, 4, 4]


def test_evaluate_prints_and_writes_the_errors(run, data, tmp_path, capsys):
    assert main(["evaluate", run, str(data), "--out", str(tmp_path / "errors")]) == 0
    shown = capsys.readouterr().out
    assert "20 frames" in shown
    metrics = json.loads((tmp_path / "errors" / "metrics.json").read_text())
    assert f"{1000 * metrics['forces_mae']:.3f}" in shown
    assert f"{1000 * metrics['energy_rmse']:.3f}" in shown
    assert "meV/atom  of 20 structures" in shown
    assert "meV/Å     of 180 atoms" in shown
    assert re.search("forces on O .* of 20 atoms", shown)


def test_evaluate_names_the_labels_it_looked_for(run, frames, tmp_path, capsys):
    path = tmp_path / "bare.extxyz"
    write_extxyz([replace(f, energy=None, forces=None) for f in frames], path)
    message = refused(["evaluate", run, path], capsys)
    assert f"got no energy, forces or stress on the 20 frames of {path}" in message
    assert "energy: REF_energy, energy, dft_energy" in message
    assert "set keys.energy" in message


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_what_cannot_be_written_is_said_before_the_computation(command, data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "file" / "new" / "errors"
    # The potential is not looked for: it does not exist either.
    message = refused([command, tmp_path / "none", data, "--out", out], capsys)
    assert f"but {tmp_path / 'file'} is a file" in message


def test_evaluate_leaves_out_isolated_atoms(run, data, tmp_path, capsys):
    """Their energies are the baseline; the network was trained on none of them."""
    assert main(["evaluate", run, str(data)]) == 0
    alone = capsys.readouterr().out.splitlines()
    path = tmp_path / "all.extxyz"
    write_extxyz(load_builtin("ethanol")[:23], path)
    assert main(["evaluate", run, str(path)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"20 frames of {path}, without isolated atoms (3)"
    assert shown[1:] == alone[1:]


def test_predict_writes_what_evaluate_compares(run, data, frames, tmp_path, capsys):
    out = tmp_path / "new" / "predicted.extxyz"
    assert main(["predict", run, str(data), "--out", str(out), "--batch-size", "7"]) == 0
    predicted = ase.io.read(out, ":")
    assert len(predicted) == len(frames)
    errors = [
        np.abs(p.get_forces() - f.forces).mean() for p, f in zip(predicted, frames, strict=True)
    ]
    assert main(["evaluate", run, str(data)]) == 0
    mae = 1000 * np.mean(errors)
    shown = next(li for li in capsys.readouterr().out.splitlines() if li.startswith("forces  "))
    assert float(shown.split()[1]) == pytest.approx(mae, abs=2e-3)


def test_md_runs_and_leaves_its_files(run, data, tmp_path, capsys):
    out = tmp_path / "nve"
    arguments = ["md", run, str(data), "--frame", "-1", "--out", str(out), "ensemble=nve"]
    settings = ["steps=20", "temperature=50", "frame_interval=10", "thermo_interval=2"]
    assert main([*arguments, *settings, "timestep_fs=0.1"]) == 0
    assert "steps/s" in capsys.readouterr().out
    assert len(ase.io.read(out / "trajectory.extxyz", ":")) == 3
    for name in ("settings.yaml", "summary.json", "temperature.png", "energy_drift.png"):
        assert (out / name).exists(), name
    assert "exists" in refused([*arguments, *settings], capsys)


def test_compress_says_what_changes_and_writes_a_potential(run, data, tmp_path, capsys):
    arguments = ["compress", run, str(data), str(tmp_path / "fast"), "--tolerance", "1e-3"]
    assert main(arguments) == 0
    change = re.search(r"largest change of a force +(\S+) meV", capsys.readouterr().out)
    assert change is not None
    assert 0 < float(change[1]) < 10
    assert checkpoint.load(tmp_path / "fast").is_compressed
    assert "exists" in refused(arguments, capsys)
    assert "got a tolerance of 2" in refused(
        [*arguments[:3], tmp_path / "a", *arguments[4:-1], "2"], capsys
    )


def test_info_describes_the_potential(run, capsys):
    assert main(["info", run]) == 0
    shown = capsys.readouterr().out
    assert "so3krates" in shown
    assert "H, C, O" in shown
    potential = checkpoint.load(run)
    assert f"H {potential.shift[0]:.4f}, C" in shown
    assert f"{potential.num_parameters:,}" in shown
    mae = json.loads(potential.metadata)["metrics"]["forces_mae"]
    assert f"metrics: forces_mae         {1000 * mae:.6g} meV/Å" in shown


def test_info_describes_the_installation(capsys):
    assert main(["info"]) == 0
    shown = capsys.readouterr().out
    assert "jax" in shown
    assert "so3krates" in shown


def test_data_report_is_printed_and_written(data, tmp_path, capsys):
    assert main(["data", "report", str(data), "--out", str(tmp_path / "report")]) == 0
    shown = capsys.readouterr().out
    assert "20 frames" in shown
    assert (tmp_path / "report" / "report.txt").read_text() in shown
    assert (tmp_path / "report" / "report.png").exists()


def test_dry_run_describes_and_trains_nothing(trained, tmp_path, capsys):
    folder = f"output.folder={tmp_path / 'dry'}"
    assert main(["train", str(trained / "run.yaml"), "--dry-run", folder]) == 0
    shown = capsys.readouterr().out
    potential = checkpoint.load(trained / "run")
    assert f"{potential.num_parameters:,}" in shown
    assert "MiB" in shown
    assert "8 train, 4 validation, 4 test" in shown
    assert not (tmp_path / "dry").exists()


def test_import_reads_reference_weights(tmp_path, capsys):
    weights = Path(__file__).parent / "data" / "parity" / "so3krates.npz"
    out = tmp_path / "potential"
    arguments = ["import", "so3krates", str(weights), str(out)]
    assert main(arguments) == 0
    potential = checkpoint.load(out)
    with np.load(weights) as file:
        config = json.loads(str(file["config"]))
        arrays = {n.removeprefix("weights/"): file[n] for n in file.files if n[:8] == "weights/"}
    expected = from_reference({**config, "model": "so3krates"}, arrays)
    jax.tree.map(np.testing.assert_array_equal, potential.params, expected.params)
    assert "exists" in refused(arguments, capsys)
    arguments[1] = "leignn"
    assert "error" in refused([*arguments, "--overwrite"], capsys)
    arguments[1] = "gap"
    assert "expected one of" in refused([*arguments, "--overwrite"], capsys)


class TestOutputFolder:
    @pytest.fixture
    def copy(self, trained, tmp_path):
        """A configuration and a run that may be changed."""
        shutil.copytree(trained / "run", tmp_path / "run", symlinks=True)
        config = tmp_path / "run.yaml"
        text = (trained / "run.yaml").read_text()
        config.write_text(text.replace(str(trained / "run"), str(tmp_path / "run")))
        record = tmp_path / "run" / "settings.yaml"
        record.write_text(record.read_text().replace(str(trained), str(tmp_path)))
        return config

    def test_a_run_is_not_overwritten_unasked(self, copy, capsys):
        before = (copy.parent / "run" / "metrics.jsonl").read_text()
        assert "--resume" in refused(["train", copy], capsys)
        assert (copy.parent / "run" / "metrics.jsonl").read_text() == before

    def test_a_run_is_overwritten_on_request(self, copy, capsys):
        run = copy.parent / "run"
        own = {p.relative_to(run) for p in run.rglob("*") if "checkpoints" not in p.parts}
        for name in ("md/trajectory.h5", "test/notes.txt"):
            (run / name).parent.mkdir(exist_ok=True)
            (run / name).write_text("mine")
        plain = ["training.epochs=1", "output.figures=false"]
        unit = "data.units.forces=Hartree/Bohr"
        assert main(["train", str(copy), "--overwrite", *plain, unit]) == 0
        shown = capsys.readouterr().out.splitlines()
        # Without a progress bar too.
        assert any(line.startswith("step 2: validation loss") for line in shown)
        assert shown[0].startswith("warning: the RMS force component is ")
        records = (run / "metrics.jsonl").read_text().splitlines()
        assert json.loads(records[-1])["step"] == 2
        # Of the earlier run nothing stays, and of other things nothing goes.
        left = {p.relative_to(run) for p in run.rglob("*") if "checkpoints" not in p.parts}
        assert {str(p) for p in left - own} == {"md", "md/trajectory.h5", "test/notes.txt"}
        assert {str(p) for p in own - left} == {
            "learning_curve.png", "test/energy_parity.png", "test/force_parity.png",
        }  # fmt: skip

    def test_bad_data_removes_nothing(self, copy, capsys):
        arguments = ["train", copy, "--overwrite", "data.train=missing.xyz"]
        assert "missing.xyz" in refused(arguments, capsys)
        assert checkpoint.load(copy.parent / "run").num_parameters > 0

    def test_a_run_is_resumed(self, copy):
        assert main(["train", str(copy), "--resume", "training.epochs=3"]) == 0
        records = (copy.parent / "run" / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(r)["step"] for r in records if '"valid"' in r] == [2, 4, 6]

    def test_another_model_does_not_resume(self, copy, capsys):
        arguments = ["train", copy, "--resume", "model.num_features=8"]
        assert "model.num_features" in refused(arguments, capsys)

    def test_nothing_to_resume(self, copy, capsys):
        arguments = ["train", copy, "--resume", f"output.folder={copy.parent / 'none'}"]
        assert "holds no run" in refused(arguments, capsys)

    def test_a_folder_of_other_things_is_left_alone(self, copy, capsys):
        other = copy.parent / "other"
        other.mkdir()
        (other / "thesis.tex").write_text("years of work")
        arguments = ["train", copy, "--overwrite", f"output.folder={other}"]
        assert "other files" in refused(arguments, capsys)
        assert (other / "thesis.tex").exists()


def wrong_data(frames, tmp_path, kind):
    """A file with one thing wrong, and what the message must say of it."""
    path = tmp_path / "wrong.extxyz"
    first = frames[0]
    if kind == "empty":
        path.write_text("")
        return path, "empty file"
    if kind == "truncated":
        write_extxyz(frames, path)
        path.write_text(path.read_text()[:-200].rsplit("\n", 1)[0] + "\n")
        return path, "cut off"
    if kind == "nan energy":
        changed, says = replace(first, energy=float("nan")), "energy"
    elif kind == "nan forces":
        forces = np.array(first.forces)
        forces[3, 1] = np.nan
        changed, says = replace(first, forces=forces), "forces"
    elif kind == "no forces":
        changed, says = replace(first, forces=None), "forces"
    elif kind == "same place":
        positions = np.array(first.positions)
        positions[4] = positions[2]
        changed, says = replace(first, positions=positions), "distance"
    else:
        changed, says = replace(first, pbc=np.ones(3, bool)), "zero volume"
    write_extxyz([*frames[1:], changed], path)
    return path, says


@pytest.mark.parametrize(
    "kind",
    ["empty", "truncated", "nan energy", "nan forces", "no forces", "same place", "flat cell"],
)
def test_wrong_frames_are_refused(kind, trained, frames, tmp_path, capsys):
    path, says = wrong_data(frames, tmp_path, kind)
    folder = tmp_path / "run"
    split = "data.split={train: rest, valid: 4}"
    message = refused(
        ["train", trained / "run.yaml", f"data.train={path}", split, f"output.folder={folder}"],
        capsys,
    )
    assert says in message
    assert "wrong.extxyz" in message
    assert not folder.exists()


def test_an_element_of_no_training_frame_is_named_with_its_frame(trained, frames, tmp_path, capsys):
    numbers = np.array(frames[0].numbers)
    numbers[0] = 16
    write_extxyz([frames[0], replace(frames[0], numbers=numbers)], tmp_path / "strange.extxyz")
    folder = f"output.folder={tmp_path / 'run'}"
    split = "data.split={train: rest, valid: 4}"
    test = f"data.test={tmp_path / 'strange.extxyz'}"
    message = refused(["train", trained / "run.yaml", split, test, folder], capsys)
    assert "got S in frame strange.extxyz#1 of the test frames" in message


def test_a_folder_is_no_file_of_frames(run, tmp_path, capsys):
    assert f"got the folder {tmp_path}" in refused(["evaluate", run, tmp_path], capsys)


def test_an_unknown_element_is_refused(run, tmp_path, capsys):
    water = tmp_path / "sulfur.xyz"
    ase.io.write(water, ase.Atoms("SH2", [[0, 0, 0], [1.3, 0, 0], [0, 1.3, 0]]))
    message = refused(["predict", run, water, "--out", tmp_path / "p.extxyz"], capsys)
    assert "16" in message
    assert "16" in refused(["md", run, water, "--out", tmp_path / "md"], capsys)
    assert not (tmp_path / "p.extxyz").exists()


class TestCheckpoint:
    @pytest.fixture
    def folder(self, trained, tmp_path):
        copy = tmp_path / "potential"
        shutil.copytree(trained / "run" / "best", copy)
        return copy

    def test_of_another_version(self, folder, capsys):
        index = json.loads((folder / "checkpoint.json").read_text())
        (folder / "checkpoint.json").write_text(json.dumps({**index, "version": 99}))
        assert "version 99" in refused(["info", folder], capsys)

    def test_without_its_index(self, folder, capsys):
        (folder / "checkpoint.json").unlink()
        assert "checkpoint.json" in refused(["info", folder], capsys)

    def test_without_its_arrays(self, folder, capsys):
        shutil.rmtree(folder / "params")
        assert "damaged" in refused(["info", folder], capsys)

    def test_that_is_not_there(self, tmp_path, capsys):
        assert "does not exist" in refused(["info", tmp_path / "none"], capsys)


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("training.epochs=many", "'many' for 'training.epochs'"),
        ("training.batchsize=3", "did you mean 'batch_size'"),
        ("model.num_layer=3", "did you mean 'num_layers'"),
        ("model.architecture=macee", "expected one of"),
        ("model.num_features=7", "num_features"),
        ("data.keys.energy=DFT_energy", "DFT_energy"),
        ("data.split.train=900", "at most 20"),
        ("training.loss.stress_weight=1", "stress"),
    ],
)
def test_wrong_settings_are_refused(assignment, says, trained, tmp_path, capsys):
    folder = f"output.folder={tmp_path / 'run'}"
    assert says in refused(["train", trained / "run.yaml", assignment, folder], capsys)


def test_results_are_not_overwritten(run, data, tmp_path, capsys):
    out = tmp_path / "p.extxyz"
    out.write_text("mine")
    assert "--overwrite" in refused(["predict", run, data, "--out", out], capsys)
    assert out.read_text() == "mine"
    assert main(["predict", run, str(data), "--out", str(out), "--overwrite"]) == 0
    assert out.read_text() != "mine"


def test_a_frame_that_is_not_there(run, data, tmp_path, capsys):
    message = refused(["md", run, data, "--frame", "20", "--out", tmp_path / "md"], capsys)
    assert "20 frames" in message


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        main(["info", str(tmp_path / "none"), "--debug"])
