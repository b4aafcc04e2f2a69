"""Table and learning curves of finished runs: ``python table.py results/ethanol [NAME ...]``.

Prints a Markdown table and writes ``learning_curves.png`` beside the results. With names, only
those models, in their order.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mlffjax.plots.style import figure

#: Okabe and Ito (2008), and a dashed line for the published face of a model.
COLOURS = {
    "schnet": "#e69f00",
    "so3krates": "#0072b2",
    "leignn": "#009e73",
    "alphanet": "#d55e00",
    "equiformer_v2": "#cc79a7",
    "painn": "#56b4e9",
    "nequip": "#4d4d4d",
    "mace": "#8c6bb1",
}
NAMES = {
    "schnet": "SchNet",
    "so3krates": "SO3krates",
    "leignn": "LEIGNN",
    "alphanet": "AlphaNet",
    "equiformer_v2": "EquiformerV2",
    "painn": "PaiNN",
    "nequip": "NequIP",
    "mace": "MACE",
}


def label(name: str) -> str:
    base = name.removesuffix("_published")
    return NAMES[base] + (", published" if base != name else "")


def markdown(results: list[dict[str, Any]]) -> str:
    lines = [
        "| | parameters | energy MAE (meV) | force MAE (meV/Å) | ms a step |",
        "|---|---|---|---|---|",
    ]
    for r in results:
        energy = 1e3 * r["test"]["energy_mae"] * r["atoms"]
        forces = 1e3 * r["test"]["forces_mae"]
        lines.append(
            f"| {label(r['model'])} | {r['parameters']:,} | {energy:.1f} | {forces:.1f} "
            f"| {r['milliseconds_per_step']:.1f} |"
        )
    return "\n".join(lines)


def _ticks(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def curves(path: Path, results: list[dict[str, Any]]) -> None:
    with figure(path, 11.0, 4.2, columns=2) as (left, right):
        for r in results:
            base = r["model"].removesuffix("_published")
            style: dict[str, Any] = {"color": COLOURS[base], "label": label(r["model"])}
            if base != r["model"]:
                style["dashes"] = (4, 2)
            steps = r["curve"]["step"]
            errors = [1e3 * e for e in r["curve"]["forces_mae"]]
            left.plot(steps, errors, **style)
            minutes = [s * r["milliseconds_per_step"] / 6e4 for s in steps]
            right.plot(minutes, errors, **style)
        left.set_xlabel("steps")
        right.set_xlabel("minutes of one core")
        right.set_xscale("log")
        right.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for ax in (left, right):
            _ticks(ax)
            ax.set_ylabel("validation force MAE (meV/Å)")
        left.legend(ncols=2)


def main(folder: Path, names: list[str]) -> None:
    """Print the table and draw the curves.

    Raises:
      SystemExit: no result there.
    """
    files = [folder / f"{n}.json" for n in names] if names else sorted(folder.glob("*.json"))
    if not files:
        raise SystemExit(f"got no result in {folder}; expected NAME.json; run run.py first")
    results = [json.loads(file.read_text()) for file in files]
    print(markdown(results))
    curves(folder / "learning_curves.png", results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of the results")
    parser.add_argument("names", nargs="*", help="models, all by default")
    args = parser.parse_args()
    main(args.folder, args.names)
