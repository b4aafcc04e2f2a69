"""Minima hopping: identity of structures, a known landscape, what is rejected, kill and resume."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ase
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mlffjax.config.explore import HoppingSettings, RelaxSettings
from mlffjax.explore.fingerprint import fingerprint_bound, overlap_fingerprint
from mlffjax.explore.hop_store import read_history, read_minima
from mlffjax.explore.identity import KnownMinima, aligned_rmsd, permuted_rmsd, widest_gap
from mlffjax.explore.minima_hopping import HopResult, hop
from mlffjax.pair_potentials import lennard_jones

#: The four minima of seven Lennard-Jones atoms (Hoare and McInnes, Adv. Phys. 32, 791, 1983).
LJ7 = (-16.505384, -15.935043, -15.593211, -15.533060)
SETTINGS = HoppingSettings(
    walkers=4,
    steps=60,
    temperature=6000.0,  # half an epsilon
    energy_difference=1.0,
    timestep_fs=1.5,
    mdmin=3,
    md_steps=500,
    permutations=True,
    mirror=True,
    relax=RelaxSettings(fmax=1e-3, steps=1000),
    save_interval=7,
)


def start() -> ase.Atoms:
    """Seven atoms at the corners of a cube, distorted."""
    corners = np.stack(np.meshgrid(*3 * [np.arange(2)], indexing="ij"), -1).reshape(-1, 3)
    noise = np.random.default_rng(0).normal(0, 0.1, (7, 3))
    return ase.Atoms("Ar7", 1.12 * corners[:7] + noise)


def search(
    folder: Path,
    settings: HoppingSettings = SETTINGS,
    *,
    resume: bool = False,
    number: int = 18,
    depth: float = 1.0,
    stop: Callable[[], bool] | None = None,
) -> HopResult:
    """The search of all tests, in eV = epsilon and Angstrom = sigma."""
    potential = lennard_jones(number, depth=depth, diameter=1.0, cutoff=20.0, dtype=jnp.float64)
    atoms = start()
    atoms.numbers[:] = number
    return hop(potential, atoms, settings, folder=folder, resume=resume, stop=stop)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> tuple[Path, HopResult]:
    folder = tmp_path_factory.mktemp("hopping") / "undisturbed"
    return folder, search(folder)


def blob(num_atoms: int, seed: int) -> np.ndarray:
    """Positions of atoms no two of which are very near."""
    rng = np.random.default_rng(seed)
    sites = np.stack(np.meshgrid(*3 * [np.arange(4)], indexing="ij"), -1).reshape(-1, 3)
    return 1.5 * rng.permutation(sites)[:num_atoms] + rng.normal(0, 0.15, (num_atoms, 3))


def moved(positions: np.ndarray, seed: int) -> np.ndarray:
    rotation = Rotation.random(random_state=seed).as_matrix()
    return positions @ rotation + np.array([1.0, -2.0, 3.0])


def test_rmsd_does_not_see_rotations_and_translations() -> None:
    a = blob(8, 0)
    assert aligned_rmsd(a, moved(a, 1)) < 1e-7
    noise = np.random.default_rng(2).normal(0, 0.05, a.shape)
    assert 0.01 < aligned_rmsd(a, moved(a + noise, 1)) <= np.sqrt((noise**2).sum(1).mean())
    # A mirror image is no rotation.
    assert aligned_rmsd(a, -a) > 0.3


@pytest.mark.parametrize("num_atoms", [2, 3, 9, 20])
def test_rmsd_over_permutations_of_like_atoms(num_atoms: int) -> None:
    numbers = np.where(np.arange(num_atoms) % 3 == 0, 8, 1)
    for seed in range(4):
        a = blob(num_atoms, seed)
        rng = np.random.default_rng(seed)
        order = np.arange(num_atoms)
        for z in (1, 8):
            of = np.flatnonzero(numbers == z)
            order[of] = rng.permutation(of)
        noise = rng.normal(0, 0.02, a.shape)
        b = moved(a + noise, seed)[order]
        assert permuted_rmsd(a, b, numbers) <= np.sqrt((noise**2).sum(1).mean()) + 1e-9
        if num_atoms > 3:
            assert permuted_rmsd(a, blob(num_atoms, seed + 50), numbers) > 0.2


def test_fingerprints_move_less_than_their_bound() -> None:
    numbers = np.array([6, 6, 8, 1, 1, 1, 1, 1, 1])
    a = blob(9, 3)
    rng = np.random.default_rng(0)
    for size in (0.01, 0.1, 0.5):
        noise = rng.normal(0, size, a.shape)
        rmsd = np.sqrt((noise**2).sum(1).mean())
        away = overlap_fingerprint(numbers, moved(a + noise, 4)) - overlap_fingerprint(numbers, a)
        assert 0 < np.linalg.norm(away) < fingerprint_bound(numbers, rmsd)


def test_ten_thousand_minima_cost_few_alignments() -> None:
    numbers = np.full(8, 6)
    known = KnownMinima(numbers, HoppingSettings())
    rng = np.random.default_rng(0)
    energies = rng.uniform(-2, 0, 10_000)
    shapes = [blob(8, seed) for seed in range(200)]
    for k, energy in enumerate(energies):
        known.add(energy, shapes[k % 200] * (1 + k // 200 * 0.05))
    for k in rng.choice(10_000, 50, replace=False):
        again = known.positions[k] + rng.normal(0, 0.01, (8, 3))
        assert known.find(energies[k] + 1e-4, moved(again, 7)) == k
    assert known.find(energies[3] + 1e-4, blob(8, 999)) is None
    assert known.alignments < 50 * 4


def test_widest_gap() -> None:
    line = np.array([[0.0, 0, 0], [1.0, 0, 0], [2.5, 0, 0], [3.0, 0, 0]])
    assert widest_gap(line) == pytest.approx(1.5)


def test_finds_all_minima_of_seven_atoms(undisturbed) -> None:
    folder, result = undisturbed
    assert sorted(m.energy for m in result.minima) == pytest.approx(LJ7, abs=1e-5)
    assert len(result.escapes) == 60
    assert result.visits[result.lowest.index] > 1
    assert sum(result.visits) == 61
    assert [m.index for m in read_minima(folder)] == list(range(4))
    assert read_history(folder) == result.escapes
    lowest = ase.io.read(folder / "lowest.extxyz", index=":")
    assert [a.info["visits"] for a in lowest] == [
        result.visits[m.index] for m in sorted(result.minima, key=lambda m: m.energy)
    ]


def test_history_follows_the_rules(undisturbed) -> None:
    _, result = undisturbed
    energies = [m.energy for m in result.minima]
    now = {}
    for escape in result.escapes:
        at, t0, ediff = now.get(escape.walker, (0, 6000.0, 1.0))
        assert (escape.origin, escape.temperature, escape.energy_difference) == (at, t0, ediff)
        assert escape.target is not None
        assert escape.barrier is not None
        assert escape.barrier > max(energies[escape.origin], energies[escape.target])
        if escape.status == "same":
            assert escape.target == at
            assert not escape.accepted
        else:
            rise = energies[escape.target] - energies[at]
            assert escape.accepted == (rise < ediff)
            ediff *= 0.98 if escape.accepted else 1 / 0.98
        t0 *= 1 / 1.1 if escape.status == "new" else 1.1
        now[escape.walker] = (escape.target if escape.accepted else at, t0, ediff)
    assert {e.status for e in result.escapes} == {"same", "known", "new"}


@pytest.mark.slow
def test_killed_and_resumed_finds_the_same(undisturbed, tmp_path: Path) -> None:
    folder, result = undisturbed
    killed = tmp_path / "killed"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import conftest, time\n"
        "from pathlib import Path; import test_explore_hopping as t\n"
        "from mlffjax.explore import minima_hopping as m\n"
        "judge = m._Search._judge\n"
        "m._Search._judge = lambda *a: (judge(*a), time.sleep(0.2))\n"
        "t.search(Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), killed])
    history = killed / "history.jsonl"
    while process.poll() is None and not (
        history.exists() and history.read_text().count("\n") > 20
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 20 < len(read_history(killed)) < 60
    again = search(killed, resume=True)
    for name in ("history.jsonl", "minima.extxyz", "lowest.extxyz"):
        assert (killed / name).read_bytes() == (folder / name).read_bytes()
    assert again.visits == result.visits


def test_told_to_stop_and_resumed_finds_the_same(undisturbed, tmp_path: Path) -> None:
    folder, _ = undisturbed
    stopped = tmp_path / "stopped"
    settings = SETTINGS.model_copy(update={"steps": 20, "chunk_steps": 50})
    result = search(stopped, settings, stop=iter([False] * 12 + [True]).__next__)
    assert result.interrupted
    assert 0 < len(result.escapes) < 12
    assert read_history(stopped) == result.escapes
    assert not search(stopped, settings, resume=True).interrupted
    lines = (folder / "history.jsonl").read_text().splitlines()
    assert (stopped / "history.jsonl").read_text().splitlines() == lines[:20]


def test_more_steps_and_other_settings(undisturbed, tmp_path: Path) -> None:
    folder, _ = undisturbed
    short = tmp_path / "short"
    search(short, SETTINGS.model_copy(update={"steps": 25}))
    with pytest.raises(FileExistsError, match="resume"):
        search(short)
    with pytest.raises(ValueError, match=r"other settings \(seed\)"):
        search(short, SETTINGS.model_copy(update={"seed": 1}), resume=True)
    with pytest.raises(ValueError, match="another potential"):
        search(short, depth=2.0, resume=True)
    search(short, resume=True)
    assert (short / "history.jsonl").read_bytes() == (folder / "history.jsonl").read_bytes()
    with pytest.raises(ValueError, match="no saved search"):
        search(tmp_path / "nothing", resume=True)


def test_what_is_no_minimum_is_rejected(tmp_path: Path) -> None:
    # Twelve epsilon of kinetic energy an atom.
    hot = SETTINGS.model_copy(update={"temperature": 1e5, "steps": 12})
    result = search(tmp_path / "hot", hot)
    rejected = [e for e in result.escapes if e.target is None]
    assert "dissociated" in {e.status for e in rejected}
    assert {e.status for e in rejected} <= {"dissociated", "unfinished", "failed"}
    assert not any(e.accepted for e in rejected)
    assert all(widest_gap(m.positions) < 1.7 for m in result.minima)


def test_other_bonds_are_rejected(tmp_path: Path) -> None:
    # Atoms bonded within 1.5 sigma: each of the four minima has bonds of its own.
    settings = SETTINGS.model_copy(update={"keep_bonds": True, "steps": 24})
    result = search(tmp_path / "bonds", settings, number=10)
    assert len(result.minima) == 1
    assert {e.status for e in result.escapes} == {"same", "rebonded"}
    assert all(e.target is None for e in result.escapes if e.status == "rebonded")


def test_softened_velocities_search_too(tmp_path: Path) -> None:
    soft = SETTINGS.model_copy(update={"soften_steps": 10, "steps": 40})
    result = search(tmp_path / "soft", soft)
    assert min(m.energy for m in result.minima) == pytest.approx(LJ7[0], abs=1e-5)
    assert len(result.minima) > 1


def test_starts_must_be_free(tmp_path: Path) -> None:
    atoms = start()
    atoms.set_cell(10 * np.eye(3))
    atoms.pbc = True
    potential = lennard_jones(depth=1.0, diameter=1.0, cutoff=4.0)
    with pytest.raises(ValueError, match="free molecules"):
        hop(potential, atoms, SETTINGS, folder=tmp_path)
