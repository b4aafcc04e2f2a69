"""SO3krates against the numbers of the published implementation."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mlffjax.interop import from_reference
from mlffjax.neighbors import atom_graph
from mlffjax.potential import Potential

PARITY = Path(__file__).parent / "data" / "parity" / "so3krates.npz"
SYSTEMS = ["ethanol", "cu110_o", "si_triclinic"]


def reference():
    data = np.load(PARITY)
    prefix = "weights/"
    weights = {k.removeprefix(prefix): data[k] for k in data.files if k.startswith(prefix)}
    return data, json.loads(str(data["config"])), weights


@pytest.mark.parametrize(
    ("system", "dtype", "tolerance"),
    [(system, jnp.float64, 1e-8) for system in SYSTEMS] + [("si_triclinic", jnp.float32, 1e-4)],
)
def test_energy_and_forces_equal_the_reference(system, dtype, tolerance):
    data, config, weights = reference()
    potential = from_reference(config, weights, dtype=dtype)

    def get(name):
        return data[f"{system}/{name}"]

    graph = atom_graph(
        get("numbers"), get("positions"), get("cell"), get("pbc"), potential.cutoff, dtype
    )
    assert len(graph.senders) == len(get("centers"))
    result = jax.jit(Potential.energy_forces)(potential, graph)
    assert result.energy.dtype == dtype
    np.testing.assert_allclose(result.energy[0], get("energy")[0], rtol=tolerance)
    scale = np.abs(get("forces")).max()
    np.testing.assert_allclose(result.forces, get("forces"), rtol=0, atol=tolerance * scale)


def test_a_missing_parameter_is_named():
    _, config, weights = reference()
    weights.pop("params/layers_1/InteractionBlock_0/MLP_0/layers_0/bias")
    with pytest.raises(ValueError, match="InteractionBlock_0/MLP_0/layers_0/bias"):
        from_reference(config, weights)


def test_a_parameter_nobody_reads_is_named():
    _, config, weights = reference()
    weights["params/layers_7/extra"] = np.zeros(1)
    with pytest.raises(ValueError, match="layers_7/extra"):
        from_reference(config, weights)
