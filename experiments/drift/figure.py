"""``python figure.py results``: total energy along NVE, published face against default face."""

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from mlffjax.plots.style import ACCENT, MODEL, figure

TITLES = {"equiformer_v2": "EquiformerV2", "leignn": "LEIGNN", "alphanet": "AlphaNet"}


def panel(ax: Axes, face: str, run: dict[str, Any], colour: str) -> None:
    ax.plot(
        run["time_ps"],
        run["total_mev_per_atom"],
        color=colour,
        linewidth=1.1,
        label=f"{face}: {run['drift']:+.3g} meV/atom/ps",
    )
    # Linear within 1 meV/atom, logarithmic beyond: the two faces differ by orders of magnitude.
    ax.set_yscale("symlog", linthresh=1.0)


def main(folder: Path) -> None:
    with figure(folder / "drift.png", 12.0, 4.0, columns=3) as axes:
        for ax, (name, title) in zip(axes, TITLES.items(), strict=True):
            for face, suffix, colour in (
                ("published", "_published", ACCENT),
                ("default", "", MODEL),
            ):
                run = json.loads((folder / f"{name}{suffix}.json").read_text())
                panel(ax, face, run, colour)
            ax.set_title(title, loc="left")
            ax.set_xlabel("time (ps)")
            ax.legend(loc="best")
        axes[0].set_ylabel("change of total energy (meV/atom)")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
