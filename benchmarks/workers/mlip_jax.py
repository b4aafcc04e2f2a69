"""mlip under test: energy and forces, a training step, dynamics with its JAX-MD engine."""

import json
from functools import cache
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ase import Atoms
from mlip.data import DatasetInfo
from mlip.data.chemical_system import ChemicalSystem
from mlip.graph import Graph
from mlip.graph.batching_helpers import batch_graphs
from mlip.models import ForceField, Mace, Nequip, Visnet
from mlip.simulation.enums import MDIntegrator
from mlip.simulation.jax_md import JaxMDSimulationEngine
from serve import Call, serve


@cache
def _force_field(model: str, settings: str, elements: tuple[int, ...]) -> ForceField:
    """A force field; kept, because building one takes half a minute."""
    given = json.loads(settings)
    info = DatasetInfo(
        atomic_energies_map=dict.fromkeys(elements, 0.0),
        graph_cutoff_angstrom=given["cutoff"],
        avg_num_neighbors=given["avg_num_neighbors"],
        avg_r_min_angstrom=1.0,
    )
    if model == "visnet":
        return ForceField.from_mlip_network(Visnet(Visnet.Config(), info))
    channels, degree = given["num_channels"], given["max_degree"]
    if model == "mace":
        config = Mace.Config(
            num_layers=given["num_layers"],
            num_channels=channels,
            l_max=degree,
            node_symmetry=given["hidden_degree"],
            correlation=given["correlation"],
        )
        return ForceField.from_mlip_network(Mace(config, info))
    parities = (1, -1) if given["both_parities"] else (1,)
    irreps = "+".join(
        f"{channels}x{d}{'e' if p * (-1) ** d == 1 else 'o'}"
        for d in range(degree + 1)
        for p in parities
    )
    config = Nequip.Config(num_layers=given["num_layers"], target_irreps=irreps, l_max=degree)
    return ForceField.from_mlip_network(Nequip(config, info))


def _built(case: dict[str, Any]) -> ForceField:
    settings = json.dumps(case["settings"], sort_keys=True)
    return _force_field(case["model"], settings, tuple(case["elements"]))


def _atoms(case: dict[str, Any]) -> list[Atoms]:
    return [
        Atoms(s["numbers"], positions=s["positions"], cell=s["cell"], pbc=s["pbc"])
        for s in case["structures"]
    ]


def _graph(case: dict[str, Any]) -> Graph:
    graphs = [
        Graph.from_chemical_system(
            ChemicalSystem.from_ase_atoms(atoms, get_property_fields=False),
            graph_cutoff_angstrom=case["settings"]["cutoff"],
        )
        for atoms in _atoms(case)
    ]
    graph = batch_graphs(graphs) if len(graphs) > 1 else graphs[0]
    as_single = lambda x: np.float32(x) if np.asarray(x).dtype == np.float64 else x  # noqa: E731
    return jax.device_put(jax.tree.map(as_single, graph))


def _facts(field: ForceField, graph: Graph | None = None) -> dict[str, Any]:
    return {
        "parameters": sum(x.size for x in jax.tree.leaves(field.params)),
        "edges": None if graph is None else int(graph.senders.shape[0]),
    }


def forces(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Energy and forces of a batch whose neighbour lists are at hand."""
    field, graph = _built(case), _graph(case)
    program = jax.jit(lambda params, graph: field.predictor.apply(params, graph).to_prediction())

    def call() -> int:
        out = program(field.params, graph)
        jax.block_until_ready((out.energy, out.forces))
        return 1

    return call, _facts(field, graph)


def training(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """Steps of Adam on the mean squared errors of energies and forces."""
    field, graph = _built(case), _graph(case)
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.amsgrad(1e-6))
    state = (field.params, optimizer.init(field.params))

    def error(params: Any, graph: Graph) -> jax.Array:
        out = field.predictor.apply(params, graph).to_prediction()
        return jnp.mean(out.energy**2) + 100 * jnp.mean(out.forces**2)

    @jax.jit
    def step(state: Any, graph: Graph) -> Any:
        params, moments = state
        gradient = jax.grad(error)(params, graph)
        change, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, change), moments

    def call() -> int:
        nonlocal state
        for _ in range(case["steps"]):
            state = step(state, graph)
        jax.block_until_ready(state)
        return case["steps"]

    return call, _facts(field, graph)


def md(case: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
    """NVE dynamics with the JAX-MD engine, steps too short for random forces to matter.

    One engine; each call runs its compiled episode once more.
    """
    field = _built(case)
    (atoms,) = _atoms(case)
    box = atoms.cell.lengths().tolist() if atoms.pbc.all() else None
    config = JaxMDSimulationEngine.Config(
        md_integrator=MDIntegrator.NVE_VELOCITY_VERLET,
        num_steps=case["steps"],
        num_episodes=1,
        snapshot_interval=case["steps"],
        timestep_fs=1e-3,
        temperature_kelvin=300.0,
        box=box,
    )
    engine = JaxMDSimulationEngine(atoms, field, config)

    def call() -> int:
        engine.run()
        return case["steps"]

    return call, _facts(field)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("mlip", "jax", "jaxlib", "jax-md", "numpy")}


if __name__ == "__main__":
    serve({"forces": forces, "training": training, "md": md}, _versions)
