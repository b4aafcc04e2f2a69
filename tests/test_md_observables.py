"""Energy drift."""

import numpy as np
import pytest

from mlffjax.md.observables import energy_drift
from mlffjax.md.records import Thermo


def test_drift_and_fluctuation():
    rng = np.random.default_rng(0)
    time_fs = np.arange(1000) * 10.0
    noise = rng.normal(size=1000) * 1e-3
    conserved = -5.0 + 0.02 * time_fs * 1e-3 + noise
    zeros = np.zeros(1000)
    thermo = Thermo(np.arange(1000), time_fs, conserved, zeros, conserved, zeros)
    drift, fluctuation = energy_drift(thermo, num_atoms=10)
    assert drift == pytest.approx(0.002, rel=0.02)
    assert fluctuation == pytest.approx(1e-4, rel=0.05)
    lost = Thermo(np.arange(1000), time_fs, conserved, zeros, zeros * np.nan, zeros)
    with pytest.raises(ValueError, match="use NVE"):
        energy_drift(lost, 10)
