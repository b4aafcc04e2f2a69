"""Settings of every test: float64 available, and a compilation cache between runs."""

import os
from pathlib import Path

import jax

CACHE = os.environ.get("MLFFJAX_TEST_CACHE") or Path(
    os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "mlffjax-tests"
)

jax.config.update("jax_enable_x64", True)
if not jax.config.jax_compilation_cache_dir:
    jax.config.update("jax_compilation_cache_dir", str(CACHE))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
