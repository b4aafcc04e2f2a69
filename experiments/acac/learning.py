"""How fast MACE learns here and in mace-torch, step by step with the same settings.

    python learning.py setup FOLDER train_300K.xyz      # division, batches, scales
    python reference_training.py FOLDER train_300K.xyz  # mace-torch, in its environment
    python learning.py run FOLDER train_300K.xyz NAME ...
    python learning.py figure FOLDER                    # learning.json, learning.png

The variant ``initial`` starts from the random weights of mace-torch's run, ``same`` from ones
drawn here.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mlffjax.config.run import RunSettings
from mlffjax.data.loader import BatchOrder
from mlffjax.interop import from_checkpoint
from mlffjax.plots import style
from mlffjax.plots.style import figure
from mlffjax.training import train
from mlffjax.training.callbacks import read_records
from mlffjax.workflow import prepare

HERE = Path(__file__).parent
STEPS = 1000
PAPER_LOSS = {"energy_weight": 1.0, "forces_weight": 1000.0, "forces_by": "atom"}
VARIANTS = ("same", "initial")
#: Label, colour and line of each curve.
CURVES = {
    "mace_torch": ("mace-torch", style.REFERENCE, "-"),
    "same": ("here", style.MODEL, "-"),
    "initial": ("here, from mace-torch's initial weights", style.SECOND, "--"),
}


def settings(data: Path, folder: Path, name: str) -> RunSettings:
    """The paper's settings with 32 channels, and mace-torch's clipping."""
    training = {
        "batch_size": 5, "steps": STEPS, "loss": PAPER_LOSS, "ema": 0.99, "log_interval": 100,
        "optimizer": {"name": "amsgrad", "learning_rate": 0.01, "clip_norm": 10.0},
        "schedule": {"name": "constant"}, "validation_interval": 100, "progress": False,
        "tensorboard": False,
    }  # fmt: skip
    model = {"architecture": "mace", "num_channels": 32, "cutoff": 5.0}
    return RunSettings.parse(
        {
            "data": {
                "train": str(data),
                "split": {"train": 450, "valid": 50, "seed": 0},
                "baseline": {"source": "least_squares"},
            },
            "model": model,
            "training": training,
            "output": {"folder": str(folder / name)},
        },
        source=name,
    )


def setup(data: Path, folder: Path) -> None:
    """Write what mace-torch needs to train on the same batches."""
    chosen = settings(data, folder, "same")
    ready = prepare(chosen)
    training = chosen.training
    order = BatchOrder(len(ready.sets.train), training.batch_size, training.seed)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "setup.npz",
        train=np.asarray(ready.sets.split.train),
        valid=np.asarray(ready.sets.split.valid),
        order=order.rows(0, STEPS),
        elements=np.asarray(ready.potential.elements),
        baseline=np.asarray(ready.potential.baseline),
        scale=ready.potential.scale,
        shift=np.asarray(ready.potential.shift)[0],
        avg_num_neighbors=ready.potential.module.avg_num_neighbors,
        learning_rate=training.optimizer.learning_rate,
        ema=training.ema,
    )


def run(data: Path, folder: Path, name: str) -> None:
    """Train one variant."""
    chosen = settings(data, folder, name)
    ready = prepare(chosen)
    potential = ready.potential
    if name == "initial":
        theirs = from_checkpoint("mace", folder / "initial.model")
        potential = replace(potential, params=theirs.params, module=theirs.module)
    train(
        potential, ready.sets.train, ready.sets.valid, chosen.training, folder / name,
        overwrite=True,
    )  # fmt: skip
    print(name, errors(folder, name)["forces_rmse"][-1], flush=True)


def errors(folder: Path, name: str) -> dict[str, list[float]]:
    """Validation errors of a run by step, in meV and Angstrom."""
    if name == "mace_torch":
        return json.loads((folder / "mace_torch.json").read_text())
    valid = [r for r in read_records(folder / name / "metrics.jsonl") if r.kind == "valid"]
    return {
        "step": [r.step for r in valid],
        "energy_rmse": [1e3 * r.values["energy_rmse"] for r in valid],
        "forces_rmse": [1e3 * r.values["forces_rmse"] for r in valid],
    }


def draw(folder: Path, out: Path) -> None:
    """Validation errors of the runs there are.

    Raises:
      SystemExit: there are none.
    """
    runs = [n for n in CURVES if (folder / f"{n}.json").exists() or (folder / n / "best").exists()]
    if not runs:
        raise SystemExit(f"got no run in {folder}; expected some of {', '.join(CURVES)}; run them")
    found = {name: errors(folder, name) for name in runs}
    out.mkdir(parents=True, exist_ok=True)
    (out / "learning.json").write_text(json.dumps(found) + "\n")
    with figure(out / "learning.png", 6.4, 4.2) as ax:
        for name, result in found.items():
            label, colour, line = CURVES[name]
            ax.plot(result["step"], result["forces_rmse"], line, color=colour, label=label)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("steps of five molecules")
        ax.set_ylabel("validation force RMSE (meV/Å)")
        ax.legend()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("setup", "run", "figure"):
        child = commands.add_parser(command)
        child.add_argument("folder", type=Path, help="of the runs")
        if command == "figure":
            child.add_argument("--out", type=Path, default=HERE / "results", help="of the results")
            continue
        child.add_argument("data", type=Path, help="frames of acetylacetone at 300 K")
        if command == "run":
            child.add_argument("variants", nargs="+", choices=VARIANTS)
    args = parser.parse_args()
    if args.command == "setup":
        setup(args.data, args.folder)
    elif args.command == "run":
        for variant in args.variants:
            run(args.data, args.folder, variant)
    else:
        draw(args.folder, args.out)


if __name__ == "__main__":
    main()
