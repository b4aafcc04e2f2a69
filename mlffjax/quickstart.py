"""From nothing to a checked potential: ethanol, trained, simulated and reported."""

import datetime
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from mlffjax import __version__, plots
from mlffjax.analysis.pairs import RadialDistribution
from mlffjax.analysis.results import Curves
from mlffjax.config.base import ConfigError
from mlffjax.config.files import to_yaml
from mlffjax.config.md import MDSettings
from mlffjax.config.run import RunSettings
from mlffjax.data import Frame, read_frames
from mlffjax.md.bonds import find_bonds
from mlffjax.md.trajectory_readers import FrameBlock
from mlffjax.plots import Picture, Row
from mlffjax.simulation import Simulation, simulate
from mlffjax.training.metrics import Metrics
from mlffjax.workflow import Outcome, check_folder, train

REPORT = "report.html"
#: Training steps of a minute with compilation, measured on two cores of an x86-64 server.
STEPS_A_MINUTE = 12_500
#: Minutes of the whole that dynamics and figures take, measured there too.
OTHER_MINUTES = 0.8
#: Enough for 30,000 steps.
MINUTES = 3.2
TEMPERATURE = 500.0  # K, that of the reference frames (experiments/datasets/ethanol)

_SAMPLING = (
    f"The reference frames come from dynamics at {TEMPERATURE:g} K with the semi-empirical method "
    "GFN2-xTB and were then labelled with DFT (PBE/def2-SVP). Dynamics with the trained potential "
    "moves on the DFT surface. So its distributions need not coincide with those of the frames: "
    "the two methods differ in bond lengths and barriers. The errors of the potential itself are "
    "those in the table."
)


def settings_for(folder: Path, minutes: float) -> RunSettings:
    """The settings of the training: as many steps as fit into the time."""
    steps = max(50, round(STEPS_A_MINUTE * max(minutes - OTHER_MINUTES, 0)))
    return RunSettings.parse(
        {
            "data": {
                "train": "builtin:ethanol",
                "split": {"train": 1000, "valid": 100, "test": "rest"},
            },
            "model": {"architecture": "so3krates", "num_features": 72, "num_layers": 3},
            "training": {
                "steps": steps,
                "batch_size": 5,
                "optimizer": {"learning_rate": 5e-3},
                "schedule": {"name": "cosine", "warmup_steps": 200, "minimum": 0.01},
                "ema": 0.995,
                "validation_interval": max(25, steps // 40),
                "tensorboard": False,
            },
            "output": {"folder": str(folder / "training")},
        },
        source="quickstart",
    )


def quickstart(
    folder: Path,
    *,
    minutes: float = MINUTES,
    overwrite: bool = False,
    say: Callable[[str], None] = print,
) -> list[Row]:
    """Train SO3krates on the built-in ethanol, check it, simulate, and write a report.

    Args:
      folder: where everything goes: ``training``, ``nvt``, ``nve``, ``report.html``.
      minutes: about how long it may take on two CPU cores; it sets the number of steps.
      overwrite: replace an earlier quickstart in the folder.
      say: told what happens.

    Returns:
      The table of results, as in the report.

    Raises:
      ConfigError: ``minutes`` is not positive, or the folder holds something.
    """
    if not minutes > 0:
        raise ConfigError(f"got --minutes {minutes}; expected a number above 0")
    begin = time.perf_counter()
    settings = settings_for(folder, minutes)
    check_folder(settings, resume=False, overwrite=overwrite)
    say(f"1/3  training SO3krates, {settings.training.steps} steps")
    outcome = train(settings, overwrite=overwrite)
    trained = time.perf_counter()
    scale = min(1.0, minutes / MINUTES)
    say(f"2/3  dynamics: NVT at {TEMPERATURE:g} K, then NVE for 10 ps")
    nvt, nve = _dynamics(outcome, folder, scale, overwrite)
    say("3/3  figures and report")
    rows = _rows(outcome, nvt, nve)
    rows.append(Row("Training time", f"{(trained - begin) / 60:.1f}", "min", "with compilation"))
    figures = _Figures(folder / "figures")
    pictures = figures.draw(outcome, nvt, nve)
    rows.append(Row("Time in all", f"{(time.perf_counter() - begin) / 60:.1f}", "min"))
    plots.write_report(
        folder / REPORT,
        title="Ethanol: a force field in minutes",
        lead=(
            f"SO3krates with {outcome.potential.num_parameters:,} parameters, trained on "
            f"{len(outcome.sets.train):,} DFT frames, checked on {len(outcome.sets.test):,} frames "
            "that it never saw, and run in molecular dynamics."
        ),
        rows=rows,
        pictures=pictures,
        notes=[_SAMPLING],
        settings=to_yaml(settings),
        cover=figures.molecule,
        footer=f"mlffjax {__version__}, {datetime.date.today().isoformat()}",
    )
    return rows


def _dynamics(
    outcome: Outcome, folder: Path, scale: float, overwrite: bool
) -> tuple[Simulation, Simulation]:
    """NVT at the temperature of the frames, then NVE from where it ended."""
    hot = MDSettings(
        ensemble="langevin",
        temperature=TEMPERATURE,
        friction_per_ps=10.0,
        steps=max(2000, round(60_000 * scale)),
        frame_interval=50,
        seed=1,
    )
    start = outcome.sets.test[0]
    nvt = simulate(outcome.potential, start, hot, folder / "nvt", overwrite=overwrite)
    free = MDSettings(
        ensemble="nve", temperature=TEMPERATURE, steps=20_000, thermo_interval=5, frame_interval=100
    )
    nve = simulate(
        outcome.potential,
        nvt.result.final,
        free,
        folder / "nve",
        overwrite=overwrite,
        initial_velocities=nvt.result.velocities,
    )
    return nvt, nve


def _rows(outcome: Outcome, nvt: Simulation, nve: Simulation) -> list[Row]:
    metrics = outcome.test
    assert metrics is not None, "the split has test frames"
    held_out = f"{len(outcome.sets.test)} held-out frames"
    return [
        *_errors(metrics, held_out),
        Row(
            "Drift of the total energy",
            "–" if nve.drift is None else f"{nve.drift:+.4f}",
            "meV/atom/ps",
            _length(nve, "NVE"),
        ),
        Row(
            "Mean temperature",
            f"{nvt.settled_temperature:.0f}",
            "K",
            f"second half of {_length(nvt, 'NVT')}, target {TEMPERATURE:.0f} K",
        ),
        Row("Speed of dynamics", f"{nve.result.steps_per_second:,.0f}", "steps/s", "NVE, 9 atoms"),
        Row("Parameters", f"{outcome.potential.num_parameters:,}"),
    ]


def _errors(metrics: Metrics, held_out: str) -> list[Row]:
    values = (
        ("Force MAE", metrics.forces_mae, "meV/Å"),
        ("Force RMSE", metrics.forces_rmse, "meV/Å"),
        ("Energy MAE", metrics.energy_mae, "meV/atom"),
        ("Energy RMSE", metrics.energy_rmse, "meV/atom"),
    )
    return [
        Row(name, f"{1000 * value:.2f}", unit, held_out)
        for name, value, unit in values
        if value is not None
    ]


def _length(simulation: Simulation, ensemble: str) -> str:
    result = simulation.result
    ended = "" if result.status == "finished" else f", ended early: {result.message}"
    return f"{ensemble}, {result.thermo.time_fs[-1] / 1000:.1f} ps at 0.5 fs{ended}"


@dataclass(frozen=True)
class _Figures:
    """Draws the figures that the report needs besides those of the runs."""

    folder: Path

    @property
    def molecule(self) -> Path:
        return self.folder / "molecule.png"

    def draw(self, outcome: Outcome, nvt: Simulation, nve: Simulation) -> list[Picture]:
        """All figures of the report, in order."""
        reference = list(outcome.sets.train)
        moved = _settled_frames(nvt)
        plots.structure(self.molecule, nve.result.final.numbers, _reference_pose(reference))
        bonds = self._bonds(moved, reference)
        distances = self._distances(moved, reference)
        run, test = outcome.folder, outcome.folder / "test"
        return [
            Picture(
                run / "learning_curve.png",
                "Learning curve",
                "Loss on training and validation frames, and the validation errors, along the "
                "training. The validation uses the moving average of the parameters.",
                wide=True,
            ),
            Picture(
                test / "force_parity.png",
                "Forces",
                f"All components of the forces on {len(outcome.sets.test)} held-out frames.",
            ),
            Picture(
                test / "energy_parity.png",
                "Energies",
                "Energies of the same frames, relative to their mean.",
            ),
            Picture(
                nve.folder / "energy_drift.png",
                "Energy conservation",
                "Total energy along NVE dynamics with a time step of 0.5 fs. Forces are the exact "
                "gradient of the energy, so it stays.",
            ),
            Picture(
                nvt.folder / "temperature.png",
                "Temperature",
                "NVT dynamics with a Langevin thermostat. A molecule of nine atoms fluctuates "
                "widely about the mean.",
            ),
            Picture(
                bonds,
                "Bond lengths",
                f"Bonds in NVT dynamics at {TEMPERATURE:g} K, and in the reference frames, which "
                "GFN2-xTB sampled (see above).",
                wide=True,
            ),
            Picture(
                distances,
                "Interatomic distances",
                "All pairs of atoms, in the same dynamics and frames.",
                wide=True,
            ),
        ]

    def _bonds(self, moved: Sequence[Frame], reference: Sequence[Frame]) -> Path:
        bonds = find_bonds(reference[0]).pairs
        numbers = reference[0].numbers
        kinds: dict[str, list[int]] = {}
        for column, (i, j) in enumerate(bonds):
            # Carbon first, then the heavier atom, as chemists write bonds.
            pair = sorted((int(numbers[i]), int(numbers[j])), key=lambda z: (z != 6, -z))
            kinds.setdefault("-".join(chemical_symbols[z] for z in pair), []).append(column)
        ours, theirs = _lengths(moved, bonds), _lengths(reference, bonds)
        path = self.folder / "bond_lengths.png"
        plots.bond_lengths(
            path,
            {kind: ours[:, columns].ravel() for kind, columns in kinds.items()},
            {kind: theirs[:, columns].ravel() for kind, columns in kinds.items()},
        )
        return path

    def _distances(self, moved: Sequence[Frame], reference: Sequence[Frame]) -> Path:
        ours, theirs = _distance_distribution(moved), _distance_distribution(reference)
        shown = ours.x > 0.7  # Angstrom; nothing is closer
        path = self.folder / "distances.png"
        plots.radial_distribution(
            path,
            ours.x[shown],
            ours.values[0][shown],
            theirs.values[0][shown],
            ours.y_label,
        )
        return path


def _places(frames: Sequence[Frame]) -> np.ndarray:
    """Positions ``[frames, atoms, 3]``."""
    return np.stack([frame.positions for frame in frames])


def _lengths(frames: Sequence[Frame], bonds: np.ndarray) -> np.ndarray:
    """Lengths of bonds ``[frames, bonds]`` in Angstrom."""
    places = _places(frames)
    return np.linalg.norm(places[:, bonds[:, 1]] - places[:, bonds[:, 0]], axis=-1)


def _distance_distribution(frames: Sequence[Frame]) -> Curves:
    observable = RadialDistribution(frames[0].numbers, frames[0].pbc, 4.5, 180)
    positions = _places(frames)
    observable.add(FrameBlock(positions, np.zeros((len(positions), 3, 3))))
    (result,) = observable.results()
    assert isinstance(result, Curves)
    return result


def _settled_frames(nvt: Simulation) -> Sequence[Frame]:
    """Frames of the trajectory without its first tenth."""
    frames = read_frames(nvt.folder / "trajectory.extxyz")
    return frames[len(frames) // 10 :]


def _reference_pose(reference: Sequence[Frame]) -> np.ndarray:
    """Positions of the reference frame of lowest energy."""
    energies = [np.inf if frame.energy is None else frame.energy for frame in reference]
    return reference[int(np.argmin(energies))].positions
