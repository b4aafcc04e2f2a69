"""Train the models of ``models.yaml`` on one data set with one budget, and write their errors.

    python run.py ethanol.yaml data.train=TRAIN.npz data.test=TEST.npz output.folder=runs/ethanol

trains one model after another and writes ``results/ethanol/NAME.json``; ``--models A B`` chooses
some. A run that was stopped goes on where it was, one that is finished is left alone.
"""

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mlffjax.config.files import override, read_yaml, write_yaml
from mlffjax.config.run import RunSettings
from mlffjax.training import train
from mlffjax.training.callbacks import Callback, Record, RunInfo, read_records
from mlffjax.training.evaluate import evaluate
from mlffjax.workflow import prepare

HERE = Path(__file__).parent
MODELS = HERE / "models.yaml"


class ProcessorTime(Callback):
    """Appends the processor time of this process at each training record to ``cpu.jsonl``."""

    def __init__(self) -> None:
        self.path = Path()
        self.begin = time.process_time()

    def started(self, info: RunInfo) -> None:
        self.path = info.folder / "cpu.jsonl"
        self._write(info.first_step)

    def recorded(self, record: Record) -> None:
        if record.kind == "train":
            self._write(record.step)

    def _write(self, step: int) -> None:
        seconds = time.process_time() - self.begin
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "seconds": seconds}) + "\n")


def milliseconds_per_step(path: Path) -> float:
    """Median of the processor time a step, between records of one process."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    times = [
        1e3 * (b["seconds"] - a["seconds"]) / (b["step"] - a["step"])
        for a, b in pairwise(rows)
        if b["step"] > a["step"] and b["seconds"] > a["seconds"]
    ]
    return float(np.median(times))


def run(name: str, model: dict[str, Any], base: dict[str, Any], target: Path) -> None:
    """Train one model and write its results."""
    folder = Path(base["output"]["folder"]) / name
    settings = RunSettings.parse(
        {**base, "model": model, "output": {"folder": str(folder)}}, source=name
    )
    ready = prepare(settings)
    resume = (folder / "training.json").exists()
    if not resume:
        write_yaml(folder / "settings.yaml", settings)
    outcome = train(
        ready.potential,
        ready.sets.train,
        ready.sets.valid,
        settings.training,
        folder,
        resume=resume,
        callbacks=[ProcessorTime()],
    )
    test = evaluate(outcome.potential, ready.sets.test, batch_size=20).metrics.as_dict()
    records = read_records(folder / "metrics.jsonl")
    valid = [r for r in records if r.kind == "valid"]
    result = {
        "model": name,
        "parameters": outcome.potential.num_parameters,
        "steps": settings.training.steps,
        "batch_size": settings.training.batch_size,
        "milliseconds_per_step": milliseconds_per_step(folder / "cpu.jsonl"),
        "atoms": len(ready.sets.test[0].numbers),
        "test_frames": len(ready.sets.test),
        "test": test,
        "curve": {
            "step": [r.step for r in valid],
            "energy_mae": [r.values["energy_mae"] for r in valid],
            "forces_mae": [r.values["forces_mae"] for r in valid],
        },
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n")
    print(
        f"{name}: energy MAE {1e3 * test['energy_mae']:.3f} meV/atom, "
        f"force MAE {1e3 * test['forces_mae']:.1f} meV/Å, "
        f"{result['milliseconds_per_step']:.1f} ms a step",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train several architectures alike.")
    parser.add_argument("config", type=Path, help="data and training of a run")
    parser.add_argument("settings", nargs="*", help="section.key=value in place of the file's")
    parser.add_argument("--models", nargs="+", help="names in models.yaml; all by default")
    parser.add_argument("--results", type=Path, help="folder of the results")
    args = parser.parse_args()
    base = override(read_yaml(args.config), args.settings)
    models = read_yaml(MODELS)
    results = args.results or HERE / "results" / args.config.stem
    for name in args.models or models:
        target = results / f"{name}.json"
        if target.exists():
            print(f"{name}: finished, {target}", flush=True)
            continue
        run(name, models[name], base, target)


if __name__ == "__main__":
    main()
