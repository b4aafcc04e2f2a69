"""Configurations under experiments/ describe models that exist, in the sizes their texts state."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mlffjax.config.run import RunSettings
from mlffjax.graph import EdgeGraph
from mlffjax.models import build

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


def pair() -> EdgeGraph:
    """Two atoms: only shapes are traced."""
    return EdgeGraph(
        vectors=jnp.array([[1.0, 0.2, 0.1], [-1.0, -0.2, -0.1]]),
        species=jnp.zeros(2, jnp.int32),
        numbers=jnp.ones(2, jnp.int32),
        graph_index=jnp.zeros(2, jnp.int32),
        senders=jnp.array([1, 0], jnp.int32),
        receivers=jnp.array([0, 1], jnp.int32),
        node_mask=jnp.ones(2, bool),
        edge_mask=jnp.ones(2, bool),
        graph_mask=jnp.ones(1, bool),
    )


def size(name: str, num_elements: int, **settings: object) -> int:
    """Parameters of the model of ``experiments/name/config.yaml``, without making them."""
    run = RunSettings.load(EXPERIMENTS / name / "config.yaml")
    assert run.model.architecture is not None
    fields = {**run.model.fields, **settings, "num_elements": num_elements}
    tree = jax.eval_shape(build(run.model.architecture, fields).init, jax.random.key(0), pair())
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("num_elements", "settings", "published", "redundant"),
    [
        (4, {}, 3_769_616, 125),
        (4, {"num_channels": 128, "hidden_degree": 1}, 848_528, 72),
        (5, {"num_channels": 128, "hidden_degree": 1}, 945_168, 72),
    ],
)
def test_mace_has_the_parameters_of_mace_torch_without_the_redundant(
    num_elements, settings, published, redundant
):
    """``redundant`` couplings that differ in the order of factors, an element and channel."""
    channels = settings.get("num_channels", 256)
    ours = size("mace", num_elements, **settings)
    assert ours == published - redundant * num_elements * channels


def test_nequip_instantiates_in_its_published_size():
    assert size("nequip", 4) == 2_073_384
