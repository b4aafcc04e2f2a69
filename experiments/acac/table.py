"""Errors of finished runs at 300 K and 600 K, and their learning curves.

    python table.py runs/acac test_MD_300K.xyz test_MD_600K.xyz

prints a Markdown table and writes ``NAME.json`` and ``learning_curves.png``. Of a model without
a run the stored result is shown.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

import mlffjax
from mlffjax.data import read_frames
from mlffjax.plots.style import figure
from mlffjax.training.callbacks import read_records
from mlffjax.training.evaluate import evaluate

HERE = Path(__file__).parent
NAMES = {
    "mace": "MACE",
    "mace_weak": "MACE, force weight 0.99",
    "nequip": "NequIP",
    "so3krates": "SO3krates",
}
COLOURS = {
    "mace": "#8c6bb1",
    "mace_weak": "#c9b8da",
    "nequip": "#009e73",
    "so3krates": "#0072b2",
}


def errors(run: Path, tests: list[Path]) -> dict[str, Any]:
    """RMSE of the energy of a molecule in meV and of force components in meV/Å, by file."""
    potential = mlffjax.load(run)
    records = read_records(run / "metrics.jsonl")
    valid = [r for r in records if r.kind == "valid"]
    result: dict[str, Any] = {
        "model": run.name,
        "parameters": potential.num_parameters,
        "steps": records[-1].step,
        "step": [r.step for r in valid],
        "valid_energy_rmse": [1e3 * r.values["energy_rmse"] for r in valid],
        "valid_forces_rmse": [1e3 * r.values["forces_rmse"] for r in valid],
        "test": {},
    }
    for path in tests:
        frames = read_frames(path)
        metrics = evaluate(potential, frames, batch_size=26).metrics
        assert metrics.energy_rmse is not None
        assert metrics.forces_rmse is not None
        result["test"][path.stem] = {
            "frames": len(frames),
            "energy_rmse": 1e3 * metrics.energy_rmse * len(frames[0].numbers),
            "forces_rmse": 1e3 * metrics.forces_rmse,
        }
    return result


def curves(path: Path, results: list[dict[str, Any]]) -> None:
    """Validation errors by step."""
    with figure(path, 9.0, 3.8, columns=2) as axes:
        for ax, key, what in zip(
            axes,
            ("valid_forces_rmse", "valid_energy_rmse"),
            ("force RMSE (meV/Å)", "energy RMSE (meV/atom)"),
            strict=True,
        ):
            for r in results:
                ax.plot(r["step"], r[key], color=COLOURS[r["model"]], label=NAMES[r["model"]])
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.set_xlabel("steps of two molecules")
            ax.set_ylabel(f"validation {what}")
        axes[0].legend()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("tests", type=Path, nargs=2, help="frames at 300 K and at 600 K")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="of the results")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    results = []
    print("| | parameters | steps | 300 K: E, F | 600 K: E, F |\n|---|---|---|---|---|")
    for name, title in NAMES.items():
        target = args.out / f"{name}.json"
        done = (args.runs / name / "best").exists()
        if not done and not target.exists():
            continue
        result = errors(args.runs / name, args.tests) if done else json.loads(target.read_text())
        results.append(result)
        target.write_text(json.dumps(result, indent=1) + "\n")
        cells = " | ".join(
            f"{t['energy_rmse']:.1f}, {t['forces_rmse']:.1f}" for t in result["test"].values()
        )
        print(f"| {title} | {result['parameters']:,} | {result['steps']:,} | {cells} |", flush=True)
    if not results:
        parser.error(f"got no finished run in {args.runs}; expected {', '.join(NAMES)}")
    curves(args.out / "learning_curves.png", results)


if __name__ == "__main__":
    main()
