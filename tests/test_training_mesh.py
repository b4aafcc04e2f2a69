"""A batch split over two devices gives the training of one."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from clusters import clusters, untrained

from mlffjax import checkpoint
from mlffjax.config.training import LossSettings, TrainingSettings
from mlffjax.potential import Potential
from mlffjax.training import train

SETTINGS = TrainingSettings(
    steps=4,
    batch_size=3,
    dtype="float64",
    progress=False,
    tensorboard=False,
    loss=LossSettings(forces_by="atom"),
)


def trained(folder: Path) -> Potential:
    """A short run whose batches split unevenly: three structures of two sizes on two devices."""
    frames = clusters(7, (4, 6))
    return train(untrained(), frames, frames[:3], SETTINGS, folder).potential


@pytest.mark.slow
def test_two_devices_train_as_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    code = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "import conftest, jax; assert len(jax.devices()) == 2\n"
        "from pathlib import Path\n"
        "from test_training_mesh import trained\n"
        f"trained(Path({str(tmp_path / 'two')!r}))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=600)
    assert run.returncode == 0, run.stderr.decode()[-2000:]
    one, two = trained(tmp_path / "one"), checkpoint.load(tmp_path / "two")
    moved = 0.0
    for a, b, start in zip(
        jax.tree.leaves(one.params),
        jax.tree.leaves(two.params),
        jax.tree.leaves(untrained("float64").params),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
        moved = max(moved, float(np.abs(a - np.asarray(start)).max()))
    assert moved > 1e-4
