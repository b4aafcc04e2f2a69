"""The command itself: help, process settings, light imports."""

import ast
import os
import platform
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import pytest

import mlffjax
from mlffjax import cli
from mlffjax.cli import process, train
from mlffjax.config.run import RunSettings
from mlffjax.data import load_sets
from mlffjax.workflow import architecture

ROOT = Path(__file__).parents[1]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_help_needs_nothing_heavy():
    code = (
        "import sys, mlffjax.cli as c\n"
        "c.parser().format_help()\n"
        "print([m for m in ('jax', 'numpy', 'ase', 'matplotlib', 'pydantic') if m in sys.modules])"
    )
    done = run("-c", code)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "md", "info", "quickstart"])
def test_every_command_has_examples(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    assert f"mlffjax {command}" in capsys.readouterr().out.split("examples:")[1]


def test_the_file_in_the_help_of_train_can_be_used(tmp_path):
    path = tmp_path / "ethanol.yaml"
    path.write_text(textwrap.dedent(train.EXAMPLES.split("ethanol.yaml:\n")[1]))
    settings = RunSettings.load(path)
    architecture(settings.model)
    sets = load_sets(settings.data)
    assert (len(sets.train), len(sets.valid), len(sets.test)) == (1000, 100, 200)


def test_version_is_that_of_the_project(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"mlffjax {mlffjax.__version__}\n"
    assert f'version = "{mlffjax.__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_settings_may_follow_an_option():
    parsed = cli._parse(cli.parser(), ["train", "c.yaml", "a=1", "--overwrite", "b.c=2"])
    assert parsed.settings == ["a=1", "b.c=2"]
    assert parsed.overwrite


@pytest.mark.parametrize("wrong", [["train", "c.yaml", "--dryrun"], ["info", "a", "b=1"], ["fly"]])
def test_unknown_arguments_stop(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(wrong)
    assert stop.value.code == 2
    assert "error" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            RuntimeError("got a list that outgrew its room; expected less"),
            "got a list that outgrew",
        ),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory\n1. buffer"), "more memory"),
        (MemoryError(), "more memory"),
    ],
    ids=["room", "device", "host"],
)
def test_a_computation_that_failed_is_one_line(monkeypatch, capsys, error, says):
    def fail(_):
        raise error

    monkeypatch.setattr(cli.info, "run", fail)
    assert cli.main(["info"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    with pytest.raises(type(error)):
        cli.main(["info", "--debug"])


FAULTS = """
import resource, sys
from mlffjax.cli import process
process.prepare(compilation_cache=True)
def used():
    return bytes([1]) * 2**26
used()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
used()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
@pytest.mark.parametrize(
    "own", [{}, {"MLFFJAX_ALLOCATOR": "system"}, {"MALLOC_TOP_PAD_": "4096"}], ids=str
)
def test_freed_memory_is_kept_unless_the_user_has_settings(tmp_path, own):
    path = tmp_path / "command.py"
    path.write_text(FAULTS)
    # 64 MB are 16,384 pages.
    faults = int(run(str(path), MLFFJAX_CACHE=str(tmp_path), **own).stdout)
    assert faults > 8000 if own else faults < 100


TUNABLES = """
import os, sys
from mlffjax.cli import process
process.prepare(compilation_cache=False)
print(os.environ.get("GLIBC_TUNABLES"), *sys.argv[1:])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, process.HUGE_PAGES),
        ({"GLIBC_TUNABLES": "glibc.malloc.check=0"}, "glibc.malloc.check=0"),
        ({"MLFFJAX_ALLOCATOR": "system"}, "None"),
    ],
    ids=str,
)
def test_the_process_starts_once_more_to_ask_for_huge_pages(tmp_path, monkeypatch, own, expected):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    path = tmp_path / "command.py"
    path.write_text(TUNABLES)
    assert run(str(path), "one", "two words", **own).stdout == f"{expected} one two words\n"


KERNELS = """
import os, sys
from mlffjax.cli import process
process.prepare(compilation_cache=False)
import jax
x = jax.ShapeDtypeStruct((223, 132), "float32")
jax.jit(lambda a, b: a * b).lower(x, x).compile()
"""


@pytest.mark.parametrize(
    "own",
    [{}, {"MLFFJAX_XLA": "default"}, {"XLA_FLAGS": "--xla_backend_extra_options=xla_cpu_none"}],
    ids=str,
)
def test_kernels_are_plain_loops_unless_the_user_has_flags(tmp_path, own):
    path = tmp_path / "command.py"
    path.write_text(KERNELS)
    dump = f"--xla_dump_to={tmp_path} --xla_dump_emitter_re=.*"
    flags = f"{own.get('XLA_FLAGS', '')} {dump}"
    run(str(path), **{**own, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"})
    (kernel,) = tmp_path.glob("*lambda*.ir-with-opt.ll")
    # Tiles go through the stack.
    assert ("alloca" in kernel.read_text()) == bool(own)


def test_flags_that_come_too_late_are_refused():
    with pytest.raises(RuntimeError, match="got a process that has loaded JAX; expected one"):
        mlffjax.use_plain_loops()


def test_the_cache_has_a_place_that_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFFJAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert process.cache_folder().parent == tmp_path / "mlffjax" / "jax"
    monkeypatch.setenv("MLFFJAX_CACHE", str(tmp_path / "own"))
    assert process.cache_folder().parent == tmp_path / "own"


def test_public_names_are_there_and_the_two_lists_agree():
    tree = ast.parse(Path(mlffjax.__file__).read_text())
    typed = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mlffjax")
        for alias in node.names
    }
    assert typed == mlffjax._HOMES
    for name in typed:
        assert getattr(mlffjax, name) is not None
    with pytest.raises(AttributeError, match="Potentail"):
        mlffjax.Potentail  # noqa: B018
