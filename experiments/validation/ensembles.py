"""Do the thermostats and barostats sample what they claim? The judge is ``physical_validation``.

    pip install physical_validation
    python experiments/validation/ensembles.py --work work

Merz and Shirts, PLoS ONE 13, e0202764 (2018): the distribution of the kinetic energy against the
Maxwell-Boltzmann one, and the ratio of the distributions of energy and volume of two runs at
different temperature and pressure against that of the Boltzmann factors. Two systems with exact
answers come on top: harmonic oscillators and the ideal gas. The last rows are wrong on purpose,
so that it shows whether the judge judges. Runs that are in the work folder are not done again.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import physical_validation as pv
from ase import Atoms
from ase.build import bulk
from pymbar import timeseries
from scipy import stats

from mlffjax.config.md import MDSettings
from mlffjax.md import barostat, simulate
from mlffjax.md.engine import run_md
from mlffjax.pair_potentials import PairPotential, lennard_jones
from mlffjax.potential import Potential
from mlffjax.units import BOLTZMANN, GPA

HERE = Path(__file__).parent
COLUMNS = ("kinetic", "potential", "volume")
#: Rows that are left out at the start.
EQUILIBRATION = 0.1
KJ_PER_MOL = 96.485332  # per eV, CODATA 2018
#: Oscillators of one frequency swing between kinetic and potential energy in step, which hides
#: from the judge how slowly their sum relaxes: of them it gets rows so many apart, 0.4 ps.
THINNING = 20
#: A result further off than so many standard deviations is a failure.
LIMIT = 3.0


class Harmonic(PairPotential):
    """``(r / Angstrom)^2 / 2`` in units of the depth; all modes of N atoms have one frequency."""

    def pair_energy(self, r: Any) -> Any:
        """Energy ``[edges]`` in units of the depth."""
        return 0.5 * r**2


@dataclass(frozen=True)
class Case:
    """One ensemble to judge.

    Attributes:
      title: row of the table.
      system: ``oscillators``, ``gas`` or ``argon``.
      settings: of the dynamics, without the targets.
      states: temperature in kelvin and pressure in GPa of each run.
      claimed: the factor on the temperatures that the judge is told.
      broken: what is replaced by something wrong; empty where nothing is.
    """

    title: str
    system: str
    settings: dict[str, Any]
    states: tuple[tuple[float, float], ...]
    claimed: float = 1.0
    broken: str = ""


#: Two temperatures about as far apart as the energies scatter, as Merz and Shirts advise.
LIQUID = ((120.0, 0.0), (136.0, 0.0))
#: Above the critical point.
FLUID = ((300.0, 0.06), (330.0, 0.07))
STIFF = ((300.0, 0.0), (345.0, 0.0))
LANGEVIN = {"ensemble": "langevin", "friction_per_ps": 5.0}
CSVR = {"ensemble": "csvr", "thermostat_period_fs": 200.0}
FAST_CSVR = {"ensemble": "csvr", "thermostat_period_fs": 50.0}
CHAIN = {"ensemble": "nose-hoover", "thermostat_period_fs": 400.0}
NPT_CHAIN = {"ensemble": "npt-nose-hoover", "thermostat_period_fs": 400.0}
NPT_CHAIN["barostat_period_fs"] = 1500.0
NPT_SCR = {"ensemble": "npt-scr", "thermostat_period_fs": 200.0, "barostat_period_fs": 500.0}
NPT_SCR["compressibility_per_gpa"] = 8.0

CASES = (
    Case("Langevin, oscillators", "oscillators", LANGEVIN, STIFF),
    Case("CSVR, oscillators", "oscillators", FAST_CSVR, STIFF),
    Case("Langevin, argon", "argon", LANGEVIN, LIQUID),
    Case("CSVR, argon", "argon", CSVR, LIQUID),
    Case("Nosé-Hoover, argon", "argon", CHAIN, LIQUID),
    Case("NPT cell rescaling, ideal gas", "gas", NPT_SCR, FLUID),
    Case("NPT cell rescaling, argon", "argon", NPT_SCR, FLUID),
    Case("NPT Nosé-Hoover, argon", "argon", NPT_CHAIN, FLUID),
    Case("wrong: Berendsen's thermostat", "argon", CSVR, LIQUID, broken="thermostat"),
    Case("wrong: CSVR 3 % too hot", "argon", CSVR, LIQUID, claimed=1 / 1.03),
    Case("wrong: Berendsen's barostat", "argon", NPT_SCR, FLUID, broken="barostat"),
)


def system(name: str, density: float) -> tuple[Potential, Atoms]:
    """The potential in double precision, and atoms in a periodic cell."""
    if name == "oscillators":
        # A period of 60 fs for 20 atoms of carbon: 20 k / m = (2 pi / 60 fs)^2.
        module = Harmonic(depth=0.6826, cutoff=14.0)
        rng = np.random.default_rng(0)
        atoms = Atoms("C20", 0.04 * rng.normal(size=(20, 3)), cell=[30.0] * 3, pbc=True)
        return Potential.init(module, [6], jax.random.key(0), dtype=jnp.float64), atoms
    if name == "gas":
        edge = (20 * BOLTZMANN * 300 / (0.06 * GPA)) ** (1 / 3)
        rng = np.random.default_rng(0)
        atoms = Atoms("Ar20", rng.uniform(0, edge, (20, 3)), cell=[edge] * 3, pbc=True)
        module = Harmonic(depth=0.0, cutoff=1.0)
        return Potential.init(module, [18], jax.random.key(0), dtype=jnp.float64), atoms
    lattice = (4 / density) ** (1 / 3)
    atoms = bulk("Ar", "fcc", a=lattice, cubic=True) * (2, 2, 2)
    return lennard_jones(cutoff=6.5, dtype=jnp.float64), atoms


def weak_coupling(_: Any, kinetic: Any, kT: Any, dof: Any, decay: Any) -> Any:
    """Berendsen's factor on the momenta: the mean of the kinetic energy, and no fluctuation."""
    wanted = dof * kT / 2 / jnp.where(kinetic > 0, kinetic, 1)
    return jnp.where(kinetic > 0, jnp.sqrt(decay + (1 - decay) * wanted), 1)


def quiet_strain(key: Any, excess: Any, kT: Any, size: Any, rate: Any, motion: Any) -> Any:
    """Berendsen's barostat: the strain of cell rescaling without its noise."""
    return STRAIN(key, excess, 0 * kT, size, rate, motion)


STRAIN = barostat.strain


@contextlib.contextmanager
def broken(what: str) -> Iterator[None]:
    """Something wrong in place of the thermostat or the barostat."""
    if not what:
        yield
        return
    target: tuple[Any, str, Any] = (
        (simulate, "rescaling_factor", weak_coupling)
        if what == "thermostat"
        else (barostat, "strain", quiet_strain)
    )
    # Compiled programs do not know that a function has changed.
    jax.clear_caches()
    with mock.patch.object(*target):
        yield
    jax.clear_caches()


def run(case: Case, index: int, steps: int) -> dict[str, np.ndarray]:
    """Series of energies in eV and volume in Angstrom^3 of one of the states."""
    temperature, pressure = case.states[index]
    # Reduced densities 0.75 and 0.45.
    potential, atoms = system(case.system, 0.0114 if pressure else 0.019)
    settings = MDSettings(
        steps=steps,
        timestep_fs=2.0 if case.system == "oscillators" else 4.0,
        temperature=temperature,
        # The crystal of the start melts.
        initial_temperature=3 * temperature if case.system == "argon" else None,
        pressure_gpa=pressure,
        thermo_interval=10,
        frame_interval=steps,
        seed=index,
        **case.settings,
    )
    with broken(case.broken):
        result = run_md(potential, atoms, settings)
    if result.status != "finished":
        raise ValueError(f"{case.title}: {result.message}")
    thermo = result.thermo
    late = slice(round(EQUILIBRATION * len(thermo.step)), None)
    volume = np.full_like(thermo.kinetic, atoms.get_volume())
    series = {
        "kinetic": thermo.kinetic,
        "potential": thermo.potential,
        "volume": volume if thermo.volume is None else thermo.volume,
    }
    late = slice(late.start, None, THINNING if case.system == "oscillators" else 1)
    cut = {name: values[late] for name, values in series.items()}
    return {**cut, "atoms": np.array(len(atoms)), "dof": np.array(result.degrees_of_freedom)}


def judged(case: Case, index: int, series: dict[str, np.ndarray]) -> Any:
    """The series as the judge takes them."""
    temperature, pressure = case.states[index]
    atoms, volume = int(series["atoms"]), float(series["volume"].mean())
    constant = not case.settings["ensemble"].startswith("npt")
    target = {"volume": volume} if constant else {"pressure": pressure}
    return pv.data.SimulationData(
        units=pv.data.UnitData(
            kb=BOLTZMANN,
            energy_str="eV",
            energy_conversion=KJ_PER_MOL,
            length_str="A",
            length_conversion=0.1,
            volume_str="A^3",
            volume_conversion=1e-3,
            temperature_str="K",
            temperature_conversion=1.0,
            pressure_str="GPa",
            pressure_conversion=1e4,
            time_str="fs",
            time_conversion=1e-3,
        ),
        ensemble=pv.data.EnsembleData(
            "NVT" if constant else "NPT",
            natoms=atoms,
            temperature=case.claimed * temperature,
            **target,
        ),
        system=pv.data.SystemData(
            natoms=atoms,
            nconstraints=0,
            ndof_reduction_tra=3 * atoms - int(series["dof"]),
            ndof_reduction_rot=0,
        ),
        observables=pv.data.ObservableData(
            kinetic_energy=series["kinetic"],
            potential_energy=series["potential"],
            total_energy=series["kinetic"] + series["potential"],
            volume=series["volume"],
        ),
    )


def exact(case: Case, index: int, series: dict[str, np.ndarray]) -> float | None:
    """Probability (Kolmogorov and Smirnov) of the values if they had the known distribution.

    Potential energy of oscillators: gamma, half the modes, kT. Volume of the ideal gas with its
    centre at rest: ``p(V) ~ V^(f/3) exp(-P V / kT)``.
    """
    temperature, pressure = case.states[index]
    kT, atoms = BOLTZMANN * temperature, int(series["atoms"])
    if case.system == "oscillators":
        values, law = series["potential"], stats.gamma(1.5 * (atoms - 1), scale=kT)
    elif case.system == "gas":
        values, law = series["volume"], stats.gamma(atoms, scale=kT / (pressure * GPA))
    else:
        return None
    chosen = timeseries.subsample_correlated_data(values)
    return float(stats.kstest(values[chosen], law.cdf).pvalue)


def judge(case: Case, runs: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """The verdict: deviations in standard deviations, probabilities."""
    data = [judged(case, index, series) for index, series in enumerate(runs)]
    common = {"verbosity": 0, "screen": False}
    row: dict[str, Any] = {"title": case.title, "states": case.states, "kinetic": [], "exact": []}
    for index, (datum, series) in enumerate(zip(data, runs, strict=True)):
        means, widths = pv.kinetic_energy.distribution(
            datum, strict=False, bootstrap_seed=1, **common
        )
        p = pv.kinetic_energy.distribution(datum, strict=True, **common)
        row["kinetic"].append({"mean": float(means), "width": float(widths), "p": float(p)})
        row["exact"].append(exact(case, index, series))
    if case.system == "gas":
        # No potential energy: only the volumes have something to compare.
        row["ensemble"] = None
    else:
        off = pv.ensemble.check(*data, total_energy=False, bootstrap_seed=1, **common)
        row["ensemble"] = [float(value) for value in off]
    worst = [abs(k[name]) for k in row["kinetic"] for name in ("mean", "width")]
    worst += [abs(value) for value in row["ensemble"] or []]
    small = [p for p in row["exact"] if p is not None]
    row["largest_deviation"] = max(worst)
    row["passes"] = max(worst) < LIMIT and min(small, default=1.0) > 1e-3
    return row


def done(case: Case, index: int, steps: int, work: Path) -> dict[str, np.ndarray]:
    """The series of a run, from the work folder if it is there."""
    name = "".join(c if c.isalnum() else "_" for c in case.title)
    path = work / f"{name}_{index}_{steps}.npz"
    if not path.is_file():
        begin = time.process_time()
        series = run(case, index, steps)
        series["seconds"] = np.array(time.process_time() - begin)
        work.mkdir(parents=True, exist_ok=True)
        np.savez(path, **series)
    with np.load(path) as file:
        return dict(file)


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge thermostats and barostats.")
    parser.add_argument("--steps", type=int, default=200_000, help="of each run (200,000)")
    parser.add_argument("--work", type=Path, default=Path("work"), help="for the series")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="of the results")
    args = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    for case in CASES:
        runs = [done(case, index, args.steps, args.work) for index in range(len(case.states))]
        row = judge(case, runs)
        row["processor_s"] = [round(float(series["seconds"]), 1) for series in runs]
        rows.append(row)
        shown = {name: row[name] for name in ("kinetic", "ensemble", "exact", "passes")}
        print(case.title, json.dumps(shown), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "ensembles.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
