"""Cost of a force call at the size of the paper's peptide: 42 atoms, a network of its width.

    python paper_size.py

The cost depends on the numbers of atoms and edges, not on the elements: three molecules of butane
in contact stand in for the 42 atoms of Ac-Ala3-NHMe, and the weights are random.
"""

import argparse
import json
import time
from pathlib import Path

import ase.build
import jax
import jax.numpy as jnp
import numpy as np

from mlffjax.data import Frame
from mlffjax.explore.batch import evaluate_batch, fill_slots, needs, plan_batch
from mlffjax.models import SO3krates
from mlffjax.potential import Potential

RESULTS = Path(__file__).parent / "results"
PAPER_FORCE_CALLS = 30e6
REPEATS = 12


def stand_in() -> Frame:
    """42 atoms."""
    single = ase.build.molecule("trans-butane")
    rows = [single.positions + np.array([0.0, 0.0, 4.2 * k]) for k in range(3)]
    free = np.zeros(3, bool)
    return Frame(np.tile(single.numbers, 3), np.concatenate(rows), np.zeros((3, 3)), free)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="of the results")
    out = parser.parse_args().out
    frame = stand_in()
    module = SO3krates(num_features=132, num_layers=3, degrees=(1, 2, 3), cutoff=5.0)
    potential = Potential.init(module, [1, 6], jax.random.key(0))
    need = needs(frame, 5.0)
    rows = []
    for walkers in (1, 8):
        plan = plan_batch([need] * walkers, walkers, 5.0, False)
        slots = jax.device_put(fill_slots(plan, [frame] * walkers, np.float32))
        positions = jnp.tile(jnp.asarray(frame.positions, jnp.float32), (walkers, 1, 1))
        active = jnp.ones(walkers, bool)
        call = jax.jit(lambda x, s=slots, a=active, p=plan: evaluate_batch(p, potential, s, x, a))
        assert not bool(call(positions).overflow(plan))
        used = []
        for _ in range(REPEATS):
            begin = time.process_time()
            jax.block_until_ready(call(positions))
            used.append(time.process_time() - begin)
        rate = walkers / float(np.median(used))
        rows.append(
            {
                "walkers": walkers,
                "force_calls_per_processor_second": rate,
                "processor_days_for_30_million_calls": PAPER_FORCE_CALLS / rate / 86400,
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    result = {"atoms": len(frame.numbers), "edges": need.edges, "rows": rows}
    out.mkdir(parents=True, exist_ok=True)
    (out / "paper_size.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
