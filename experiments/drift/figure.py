"""``python figure.py results``: total energy along NVE, published face against default face."""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from mlffjax.plots.style import ACCENT, MODEL, figure

TITLES = {"equiformer_v2": "EquiformerV2", "leignn": "LEIGNN", "alphanet": "AlphaNet"}
FACES = (("published", "_published", ACCENT), ("default", "", MODEL))


def panel(ax: Axes, face: str, run: dict[str, Any], colour: str) -> None:
    """One run; linear within 1 meV/atom and logarithmic beyond, where the faces differ by far."""
    label = f"{face}: {run['drift']:+.3g} meV/atom/ps"
    energy = run["total_mev_per_atom"]
    ax.plot(run["time_ps"], energy, color=colour, linewidth=1.1, label=label)
    ax.set_yscale("symlog", linthresh=1.0)


def main(folder: Path) -> None:
    """Draw ``drift.png`` beside the results.

    Raises:
      SystemExit: no result there.
    """
    runs = {file.stem: json.loads(file.read_text()) for file in folder.glob("*.json")}
    names = [name for name in TITLES if name in runs]
    if not names:
        raise SystemExit(f"got no result in {folder}; expected NAME.json; run run.py first")
    with figure(folder / "drift.png", 4.0 * len(names), 4.0, columns=len(names)) as axes:
        for ax, name in zip(axes, names, strict=True):
            for face, suffix, colour in FACES:
                if name + suffix in runs:
                    panel(ax, face, runs[name + suffix], colour)
            low, high = ax.get_ylim()
            # Room for the legend below.
            ax.set_ylim(10 * min(low, -2.0), max(high, 2.0))
            ax.set_title(TITLES[name], loc="left")
            ax.set_xlabel("time (ps)")
            ax.legend(loc="lower right")
        axes[0].set_ylabel("change of total energy (meV/atom)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of the results")
    main(parser.parse_args().folder)
