"""Settings of the process that must stand before JAX is loaded: allocator and cache."""

import hashlib
import os
import platform
import sys
from pathlib import Path

#: Keeps freed memory in the process. XLA's buffers are otherwise mapped and unmapped by the
#: system at every call, and the page faults can cost as much time as the computation. Threads keep
#: heaps of their own: in a single one (``MALLOC_ARENA_MAX=1``) they meet what the compiler left
#: behind, and a training that compiled its programs itself took a third longer.
ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
}


def prepare(*, compilation_cache: bool) -> None:
    """Set the cache of compiled programs, and start again with the allocator's settings.

    glibc reads its settings once, at the start of a process, so the process replaces itself;
    this happens on Linux with glibc only, once, and not with ``MLFFJAX_ALLOCATOR=system``.

    Args:
      compilation_cache: whether to keep compiled programs between calls.
    """
    environment = dict(os.environ)
    if compilation_cache:
        if not environment.get("JAX_COMPILATION_CACHE_DIR"):
            environment["JAX_COMPILATION_CACHE_DIR"] = str(cache_folder())
        environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
        # XLA's loader writes an error line for every cached program whose list of processor
        # features names XLA's own tuning flags; failures still arrive as Python exceptions.
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    else:
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    tuned = allocator_settings(environment)
    os.environ.update(environment)
    if tuned:
        os.environ.update(tuned)
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def use_x64(dtype: str) -> None:
    """Let JAX compute in double precision, where that is asked for."""
    if dtype == "float64":
        import jax

        jax.config.update("jax_enable_x64", True)


def allocator_settings(environment: dict[str, str]) -> dict[str, str]:
    """The allocator's settings that are still to be made; none if the user made any."""
    glibc = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
    wanted = environment.get("MLFFJAX_ALLOCATOR", "tuned") != "system"
    if not glibc or not wanted or any(name.startswith("MALLOC_") for name in environment):
        return {}
    return dict(ALLOCATOR)


def cache_folder() -> Path:
    """Where compiled programs are kept: below ``$MLFFJAX_CACHE`` or ``~/.cache/mlffjax/jax``.

    Each kind of processor has a folder of its own: machines that share a home directory must
    not run each other's programs.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    chosen = os.environ.get("MLFFJAX_CACHE") or Path(base, "mlffjax", "jax")
    return Path(chosen, f"{platform.machine()}-{_processor()}")


def _processor() -> str:
    """A short name for the features of this processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor()]
    features = sorted(
        {line for line in lines if line.startswith(("flags", "Features", "model name"))}
    )
    return hashlib.sha256("\n".join(features or lines[:1]).encode()).hexdigest()[:8]
