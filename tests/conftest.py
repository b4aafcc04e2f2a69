"""Settings of every test: float64 available, shapes checked, a compilation cache between runs."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

from mlffjax.xla_flags import WITHOUT_TILES, use_plain_loops

# Compiling is most of the time of the tests. XLA is told to write kernels without MLIR, which
# takes it less than half of the time, and LLVM to optimise little; in processes that tests start
# too. MLFFJAX_TEST_OPTIMIZED=1 leaves both as they are for users.
OPTIMIZED = os.environ.get("MLFFJAX_TEST_OPTIMIZED") == "1"
if not OPTIMIZED and "xla_backend_extra_options" not in os.environ.get("XLA_FLAGS", ""):
    own = f"{WITHOUT_TILES},xla_cpu_disable_new_fusion_emitters"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {own}".strip()
use_plain_loops()  # as the command line does, before JAX is loaded

import jax  # noqa: E402
import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

CACHE = os.environ.get("MLFFJAX_TEST_CACHE") or Path(
    os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mlffjax-tests"
)

jax.config.update("jax_enable_x64", True)
if not jax.config.jax_compilation_cache_dir:
    jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

if not OPTIMIZED:
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

# Shapes and types of every annotated argument and result are checked while JAX traces. Only
# where arrays are computed: the pytrees of graph.py and potential.py also hold NumPy arrays on
# the host and placeholders inside JAX transformations, which their annotations do not name.
install_import_hook(("mlffjax.nn", "mlffjax.models"), "beartype.beartype")


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_freed() -> Iterator[None]:
    """Every program that XLA compiles for the CPU maps some pages of memory. The kernel allows a
    process 65,530 maps by default; all files in one process reach it, and the process dies."""
    yield
    jax.clear_caches()
    gc.collect()
