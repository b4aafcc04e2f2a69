"""Tables and figures of measurements."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

Result = Mapping[str, Any]


def line(result: Result) -> str:
    """One line of a result, for the terminal."""
    first, median, third = result["ms"]
    text = (
        f"{result['allocator']:<10}{result['row']:<22}{result['code']:<12}{result['model']:<22}"
        f"{median:>10.2f} ms [{first:.2f}, {third:.2f}]  cpu {result['cpu_ms']:.1f} ms"
        f"  first call {result['first_call_s']:.1f} s"
    )
    if result.get("compile_s") is not None:
        text += f"  compile {result['compile_s']:.1f} s  buffers {result['temp_mb']:.0f} MB"
    if result["task"] == "md":
        text += f"  {result['steps_per_s']:.1f} steps/s"
    return text


def table(results: Sequence[Result]) -> str:
    """A table in markdown: a row for each task, system and model, a column for each code.

    The last column is the time of the fastest other code over ours, where both have the model.
    """
    codes = list(dict.fromkeys(r["code"] for r in results))
    lines = []
    for allocator in dict.fromkeys(r["allocator"] for r in results):
        lines += [
            f"Allocator: {allocator}. Median ms of a call (dynamics: of a step) [quartiles].",
            "",
            f"| task | atoms | edges | model | {' | '.join(codes)} | others / ours |",
            "|---" * (len(codes) + 5) + "|",
        ]
        chosen = [r for r in results if r["allocator"] == allocator]
        for key in dict.fromkeys((r["row"], r["model"]) for r in chosen):
            group = {r["code"]: r for r in chosen if (r["row"], r["model"]) == key}
            some = next(iter(group.values()))
            edges = next((r["edges"] for r in group.values() if r.get("edges")), "")
            cells = [_cell(group.get(code)) for code in codes]
            lines.append(
                f"| {key[0]} | {some['atoms']} | {edges} | {key[1]} | {' | '.join(cells)} | "
                f"{_ratio(group)} |"
            )
        lines.append("")
    return "\n".join(lines)


def _cell(result: Result | None) -> str:
    if result is None:
        return ""
    first, median, third = result["ms"]
    text = f"{median:.4g} [{first:.4g}, {third:.4g}]"
    return f"{text}; {result['steps_per_s']:.4g} steps/s" if result["task"] == "md" else text


def _ratio(group: Mapping[str, Result]) -> str:
    others = [r["ms"][1] for code, r in group.items() if code != "mlffjax"]
    if not others or "mlffjax" not in group:
        return ""
    return f"{min(others) / group['mlffjax']['ms'][1]:.2f}"


def figure(results: Sequence[Result], path: Path) -> None:
    """Time against atoms for each code and model, one panel a task and allocator.

    Systems of one kind are joined by lines.
    """
    panels = list(dict.fromkeys((r["task"], r["allocator"]) for r in results))
    columns = len(list(dict.fromkeys(r["task"] for r in results)))
    rows = -(-len(panels) // columns)
    fig, axes = plt.subplots(
        rows, columns, figsize=(4.6 * columns, 3.8 * rows), squeeze=False, layout="constrained"
    )
    models = list(dict.fromkeys(r["model"] for r in results))
    codes = list(dict.fromkeys(r["code"] for r in results))
    panels.sort(key=lambda p: p[1])
    for axis, (task, allocator) in zip(axes.flat, panels, strict=False):
        chosen = [r for r in results if (r["task"], r["allocator"]) == (task, allocator)]
        for model, code in itertools.product(models, codes):
            own = [r for r in chosen if (r["model"], r["code"]) == (model, code)]
            for k, kind in enumerate(dict.fromkeys(map(_kind, own))):
                points = sorted((r["atoms"], r["ms"]) for r in own if _kind(r) == kind)
                label = "" if k else f"{code}: {model}"
                place = codes.index(code)
                # One model: a colour for each code tells more than one for all.
                shade = models.index(model) if len(models) > 1 else place
                _curve(axis, points, label, shade, place)
        axis.set(xscale="log", yscale="log", xlabel="atoms", ylabel="ms")
        axis.xaxis.set_minor_formatter("")
        # A single point is not to fill the panel with its quartiles.
        medians = [r["ms"][1] for r in chosen]
        axis.set_ylim(min(medians) / 2, 2 * max(medians))
        axis.set_title(f"{task}, {allocator} allocator", fontsize=10)
        axis.legend(fontsize=6)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _kind(result: Result) -> str:
    """A row without the number of atoms and of structures in a batch."""
    return re.sub(r"\d+( x \d+)?$", "", result["row"])


def _curve(
    axis: Any, points: Sequence[tuple[int, Sequence[float]]], label: str, shade: int, code: int
) -> None:
    atoms, times = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    axis.errorbar(
        atoms,
        times[:, 1],
        yerr=np.abs(times[:, [0, 2]] - times[:, [1]]).T,
        label=label,
        color=plt.colormaps["tab20"]((2 * shade + shade // 10) % 20),
        marker="osv^D"[code % 5],
        linestyle=("-", "--", ":", "-.", (0, (1, 3)))[code % 5],
        markersize=4,
        linewidth=1.2,
    )


def exponents(results: Sequence[Result], smallest: int = 400) -> list[str]:
    """Growth of our time of energy and forces with the atoms of one kind of system."""
    lines = []
    chosen = [r for r in results if r["task"] == "forces" and r["code"] == "mlffjax"]
    kinds = {(_kind(r), r["model"], r["allocator"]) for r in chosen}
    for kind, model, allocator in sorted(kinds):
        points = [
            (r["atoms"], r["ms"][1])
            for r in chosen
            if (_kind(r), r["model"], r["allocator"]) == (kind, model, allocator)
            and r["atoms"] >= smallest
        ]
        if len(points) > 1:
            logs = np.log(np.array(points))
            slope = np.polyfit(logs[:, 0], logs[:, 1], 1)[0]
            span = f"{min(points)[0]} to {max(points)[0]} atoms"
            lines.append(f"{kind} {model} ({allocator}): time ~ atoms^{slope:.2f}, {span}")
    return lines
