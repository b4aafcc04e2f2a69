"""YAML files, assignments, and the sections of a training file."""

import pytest

from mlffjax.config.base import ConfigError
from mlffjax.config.files import override, read_yaml, to_yaml, write_text, write_yaml
from mlffjax.config.run import ModelSettings, RunSettings
from mlffjax.models import SO3krates
from mlffjax.workflow import architecture

RUN = """
data: {train: builtin:ethanol}
model: {architecture: so3krates, num_features: 24, degrees: [1, 2]}
training: {epochs: 3, optimizer: {learning_rate: 1e-3}}
output: {folder: run}
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(RUN)
    return path


def test_numbers_with_an_exponent_are_numbers(tmp_path):
    path = tmp_path / "n.yaml"
    path.write_text("{a: 1e-3, b: 2.5E4, c: 7, d: -1e5, e: e3, f: '1e-3'}")
    assert read_yaml(path) == {"a": 1e-3, "b": 2.5e4, "c": 7, "d": -1e5, "e": "e3", "f": "1e-3"}


def test_assignments_are_read_as_yaml_and_leave_the_file_alone(config):
    values = read_yaml(config)
    changed = override(
        values,
        ["training.optimizer.learning_rate=2e-3", "model.degrees=[1, 2, 3]", "data.split.seed=4"],
    )
    assert changed["training"]["optimizer"]["learning_rate"] == 2e-3
    assert changed["model"]["degrees"] == [1, 2, 3]
    assert changed["data"]["split"] == {"seed": 4}
    assert values == read_yaml(config)


def test_settings_survive_a_file(config, tmp_path):
    settings = RunSettings.load(config, ["training.batch_size=5"])
    assert settings.training.batch_size == 5
    write_yaml(tmp_path / "out.yaml", settings)
    assert RunSettings.load(tmp_path / "out.yaml") == settings
    assert "learning_rate: 0.001" in to_yaml(settings)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.batchsize=5", "unknown key 'training.batchsize'; did you mean 'batch_size'"),
        ("training.epochs=three", "got 'three' for 'training.epochs'"),
        ("training.loss.energy_weight=.inf", "got inf for 'training.loss.energy_weight'"),
        ("training.epochs=0", "got 0 for 'training.epochs'"),
        ("training.steps=5", "exactly one of 'epochs' and 'steps'"),
        ("training.steps=5", "for 'training'; expected: exactly"),
        ("data.units.energy=ev", "got 'ev' for 'data.units.energy'; expected: one of eV, meV,"),
        ("data.units.forces=eV", "expected: energy/length, as eV/Angstrom"),
        ("trainin.epochs=5", "did you mean 'training'"),
        ("training", "expected section.key=value"),
        ("=5", "expected section.key=value"),
        ("data.train.file=5", "'train' is the value 'builtin:ethanol'"),
        ("output.folder=[", "not YAML"),
        ("output.folder=''", "output.folder"),
        ("data.split={train: 1, trian: 2}", "did you mean 'train'"),
    ],
)
def test_a_wrong_setting_is_explained(config, assignment, message):
    with pytest.raises(ConfigError) as error:
        RunSettings.load(config, [assignment])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got an empty file"),
        ("- a\n- b\n", "got a list"),
        ("a: {b: 1", "not YAML"),
        ("a: 1\nb: 2\na: 3\n", "the key 'a' twice (line 3)"),
        ("a: {b: 1, b: 2}", "the key 'b' twice"),
        ("a: {1: 1, 1.0: 2}", "the key 1.0 twice"),
        ("x-a: &a {b: 1, b: 2}\nc: {<<: *a}", "the key 'b' twice (line 1)"),
        ("x-a: &a {b: 1}\nc: {<<: *a, <<: *a}", "the key '<<' twice (line 2)"),
        ("x-a: &a [1]\nc: {<<: *a}", "not YAML in line 1: expected a mapping for merging"),
        ("a: {<<: *b}", "undefined alias 'b'"),
        ("[1, 2]: 3", "unhashable key"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert message in str(error.value)
    assert "wrong.yaml" in str(error.value)


def test_anchors_are_merged(tmp_path):
    """The mapping's own keys stand, of several anchors the first; ``x-`` holds no settings."""
    path = tmp_path / "merged.yaml"
    path.write_text(
        "x-base: &base {a: 1, bond: {c: 2}}\n"
        "x-more: &more {a: 5, d: 6, bond: 4}\n"
        "one: &one {<<: *base, bond: 3}\n"
        "two: {<<: [*base, *more]}\n"
        "three: {<<: [*one, *more], d: 8}\n"
        "<<: *one\n"
        "a: 7\n"
    )
    assert read_yaml(path) == {
        "one": {"a": 1, "bond": 3},
        "two": {"a": 1, "bond": {"c": 2}, "d": 6},
        "three": {"a": 1, "bond": 3, "d": 8},
        "a": 7,
        "bond": 3,
    }


def test_a_missing_section_is_named(tmp_path):
    path = tmp_path / "short.yaml"
    path.write_text("data: {train: a.xyz}\ntraining: {epochs: 1}\noutput: {folder: x}\n")
    with pytest.raises(ConfigError, match="no value for 'model'"):
        RunSettings.load(path)


def test_the_model_section_becomes_a_module(config):
    module = architecture(RunSettings.load(config).model)
    assert module == SO3krates(num_features=24, degrees=(1, 2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"architecture": "so3crates"}, "expected one of"),
        ({"num_feature": 3}, "did you mean 'num_features'"),
        ({"num_features": "many"}, "got 'many' for 'num_features'"),
        ({"degrees": 3}, "got 3 for 'degrees'"),
        ({"cutoff": -1.0}, "cutoff"),
    ],
)
def test_a_wrong_field_of_the_model_is_explained(fields, message):
    with pytest.raises(ConfigError) as error:
        architecture(ModelSettings.parse({"architecture": "so3krates", **fields}))
    assert message in str(error.value)


def test_a_text_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    write_text(path, "old")

    def full(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", full)
        with pytest.raises(OSError, match="No space left"):
            write_text(path, "new")
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
