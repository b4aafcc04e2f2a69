"""A ball-and-stick picture of a structure."""

import os

import numpy as np
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from jaxtyping import Float, Int
from matplotlib.colors import to_rgb
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline

from mlffjax.plots.style import FAINT, figure

#: A line is drawn between two atoms within this multiple of the sum of their covalent radii
#: (Cordero et al. 2008, as tabulated in ASE): a little more than for a bond, as structures that
#: are shown may be far from a minimum.
BOND_FACTOR = 1.25

_BALL = 0.42  # radius of a ball in covalent radii
_SMALLEST = 0.24  # Angstrom; keeps hydrogen visible
_STICK = 0.10  # half width in Angstrom
_FOG = 0.35  # how far the rear atoms fade to white
_BALL_PIXELS = 160


def structure(
    path: str | os.PathLike[str],
    numbers: Int[np.ndarray, "atoms"],
    positions: Float[np.ndarray, "atoms 3"],
    cell: Float[np.ndarray, "3 3"] | None = None,
) -> None:
    """Ball-and-stick picture, looking along the direction of least extent.

    Bonds are guessed from covalent radii. A cell that is given is drawn as its edges; the
    bonds across its faces are not.

    Args:
      path: PNG to write.
      numbers: atomic numbers.
      positions: in Angstrom.
      cell: lattice vectors as rows in Angstrom, or ``None`` for a molecule.

    Raises:
      ValueError: no atoms, or a non-finite position.
    """
    if len(numbers) == 0 or not np.isfinite(positions).all():
        raise ValueError(
            f"got {len(numbers)} atoms with {int((~np.isfinite(positions)).sum())} non-finite "
            "coordinates; expected at least one atom at finite places"
        )
    center, axes = _view(positions)
    points = (positions - center) @ axes.T
    radii = np.maximum(_BALL * covalent_radii[numbers], _SMALLEST)
    depth = points[:, 2]
    far, near = depth.min(), depth.max()
    fade = lambda z: _FOG * (near - z) / max(near - far, 2.0)  # noqa: E731
    corners = None if cell is None else (_cell_edges(cell) - center) @ axes.T
    extent = np.concatenate([points - radii[:, None], points + radii[:, None]])
    if corners is not None:
        extent = np.concatenate([extent, corners.reshape(-1, 3)])
    low, high = extent[:, :2].min(0) - 0.25, extent[:, :2].max(0) + 0.25
    size = high - low
    width = 5.0
    with figure(path, width, float(np.clip(width * size[1] / size[0], 2.0, 7.0))) as ax:
        for start, end in [] if corners is None else corners:
            ax.plot(*np.stack([start, end])[:, :2].T, color=FAINT, linewidth=0.9, zorder=0)
        for first, second in _bonds(numbers, positions):
            _stick(ax, points, radii, (first, second), numbers, fade)
        for k in range(len(numbers)):
            _ball(ax, points[k], radii[k], _faded(jmol_colors[numbers[k]], fade(depth[k])))
        ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
        ax.axis("off")


def _view(positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre, and the rows x, y, z of a right-handed frame: z looks along the least extent."""
    center = positions.mean(0)
    _, _, rows = np.linalg.svd(positions - center, full_matrices=True)
    rows[2] = np.cross(rows[0], rows[1])
    # A slight turn, so that atoms behind one another can be told apart.
    a, b = np.deg2rad(14.0), np.deg2rad(-10.0)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    return center, about_x @ about_y @ rows


def _bonds(numbers: np.ndarray, positions: np.ndarray) -> list[tuple[int, int]]:
    reach = BOND_FACTOR * (covalent_radii[numbers][:, None] + covalent_radii[numbers])
    distances = np.linalg.norm(positions[:, None] - positions, axis=-1)
    pairs = np.argwhere(np.triu(distances < reach, 1))
    return [(int(i), int(j)) for i, j in pairs]


def _cell_edges(cell: np.ndarray) -> np.ndarray:
    """The twelve edges of the cell as pairs of points ``[12, 2, 3]``."""
    edges = []
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        for u in (0, 1):
            for v in (0, 1):
                start = u * cell[others[0]] + v * cell[others[1]]
                edges.append([start, start + cell[axis]])
    return np.array(edges)


def _faded(color, amount: float) -> np.ndarray:
    rgb = np.asarray(to_rgb(color))
    return rgb + amount * (1 - rgb)


def _stick(ax, points, radii, bond, numbers, fade) -> None:
    """A stick in two halves, each in the colour of its atom, lighter along its middle."""
    i, j = bond
    direction = points[j] - points[i]
    flat = direction[:2] / max(float(np.linalg.norm(direction)), 1e-9)
    side = np.array([-direction[1], direction[0]])
    side /= max(float(np.linalg.norm(side)), 1e-9)
    middle = 0.5 * (points[i, :2] + points[j, :2])
    depth = 0.5 * (points[i, 2] + points[j, 2])
    for k, sign in ((i, 1.0), (j, -1.0)):
        start = points[k, :2] + sign * 0.6 * radii[k] * flat
        base = 0.94 * _faded(jmol_colors[numbers[k]], fade(depth))
        for width in np.linspace(1, 0.05, 12):
            height = np.sqrt(1 - width**2)  # of a cylinder's surface, at the edge of this band
            color = base * (0.55 + 0.45 * height) + 0.25 * height**12 * (1 - base)
            offset = width * _STICK * side
            corners = [start - offset, middle - offset, middle + offset, start + offset]
            outline = Outline(np.array([*corners, corners[0]]))
            ax.add_patch(PathPatch(outline, facecolor=color, lw=0, zorder=10 + depth))


def _ball(ax, point, radius: float, color: np.ndarray) -> None:
    """A sphere lit from the upper left, as an image."""
    line = np.linspace(-1, 1, _BALL_PIXELS)
    x, y = np.meshgrid(line, line)
    inside = 1 - x**2 - y**2
    z = np.sqrt(np.clip(inside, 0, None))
    light = np.array([-0.45, 0.55, 0.70]) / np.linalg.norm([-0.45, 0.55, 0.70])
    diffuse = np.clip(x * light[0] + y * light[1] + z * light[2], 0, 1)
    half = light + np.array([0, 0, 1])
    half /= np.linalg.norm(half)
    shine = np.clip(x * half[0] + y * half[1] + z * half[2], 0, 1) ** 40
    shade = (0.50 + 0.50 * diffuse)[..., None] * color + 0.45 * shine[..., None]
    rim = np.clip(inside / 0.25, 0, 1)[..., None]  # a darker rim separates white from white
    shade *= 0.72 + 0.28 * rim
    alpha = np.clip((1 - np.hypot(x, y)) * _BALL_PIXELS / 4, 0, 1)
    image = np.dstack([np.clip(shade, 0, 1), alpha])
    box = (point[0] - radius, point[0] + radius, point[1] - radius, point[1] + radius)
    ax.imshow(image, extent=box, origin="lower", interpolation="bilinear", zorder=10 + point[2])
