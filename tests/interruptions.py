"""Dynamics of argon that is interrupted and goes on, for tests of single runs and of replicas."""

import os
import signal
import subprocess
import sys
import time
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from analytic_models import LennardJones
from ase.build import bulk

from mlffjax.config.md import MDSettings
from mlffjax.md import restart
from mlffjax.potential import Potential


@cache
def argon_potential(dtype=jnp.float64, depth=0.0104):
    module = LennardJones(cutoff=5.0, depth=depth)
    return Potential.init(module, [18], jax.random.key(0), baseline=[-3.0], dtype=dtype)


def argon(repeat=(2, 2, 2)):
    atoms = bulk("Ar", "fcc", a=5.3).repeat(repeat)  # a triclinic cell
    atoms.rattle(0.05, seed=1)
    return atoms


def short_run(**others):
    """Settings of some stretches, with restart files after each."""
    return MDSettings(
        **{
            "ensemble": "csvr",
            "steps": 110,
            "timestep_fs": 4.0,
            "temperature": 60.0,
            "skin": 0.3,
            "thermo_interval": 3,
            "frame_interval": 7,
            "chunk_steps": 20,
            "restart_interval": 20,
            **others,
        }
    )


def stop_after(calls):
    """Says stop when it was asked so often."""
    asked = iter([False] * (calls - 1))
    return lambda: next(asked, True)


def assert_same_end(one, other):
    """Two runs have come to the same end, bit for bit."""
    np.testing.assert_array_equal(one.final.positions, other.final.positions)
    np.testing.assert_array_equal(one.final.cell, other.final.cell)
    np.testing.assert_array_equal(one.velocities, other.velocities)
    np.testing.assert_array_equal(one.final.forces, other.final.forces)
    assert one.final.energy == other.final.energy
    assert one.rebuilds == other.rebuilds


def killed_after(code, folder, step):
    """Run ``code``, a run in ``folder``, kill it after a restart file beyond ``step``; its step."""
    path = folder / restart.RESTART_FILE
    with subprocess.Popen([sys.executable, "-c", code], env={**os.environ}) as process:
        end = time.monotonic() + 300
        while time.monotonic() < end and process.poll() is None:
            if path.exists() and restart.read_meta(path)["step"] > step:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    return restart.read_meta(path)["step"]
