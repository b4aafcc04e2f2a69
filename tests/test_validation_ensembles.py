"""Thermostats before the judge ``physical_validation``, which comes with the ``test`` extra."""

import pytest
from validation_scripts import script

pytest.importorskip("physical_validation")

# Of the judge and of what it is built on.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def ensembles():
    return script("ensembles")


def verdict(ensembles, title, steps):
    case = next(c for c in ensembles.CASES if c.title == title)
    runs = [ensembles.run(case, index, steps) for index in range(len(case.states))]
    return ensembles.judge(case, runs)


@pytest.mark.slow
def test_langevin_dynamics_of_oscillators_passes(ensembles):
    row = verdict(ensembles, "Langevin, oscillators", 60_000)
    assert row["passes"]
    assert min(row["exact"]) > 1e-3


@pytest.mark.slow
def test_a_thermostat_without_fluctuations_is_found_out(ensembles):
    row = verdict(ensembles, "wrong: Berendsen's thermostat", 15_000)
    assert not row["passes"]
    assert abs(row["kinetic"][0]["width"]) > 5
