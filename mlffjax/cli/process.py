"""Settings of the process that must stand before JAX is loaded: allocator, kernels, cache."""

import hashlib
import os
import platform
import sys
from pathlib import Path

from mlffjax.allocator import keep_freed_memory
from mlffjax.xla_flags import use_plain_loops

#: Memory in huge pages where the system gives them to those who ask (Linux' ``madvise``). A
#: training step of SO3krates met 6,800 page faults in spite of :func:`keep_freed_memory`, most
#: likely because glibc maps large requests of threads anew, and now 30 (``benchmarks/README.md``).
HUGE_PAGES = "glibc.malloc.hugetlb=1"


def prepare(*, compilation_cache: bool) -> None:
    """Set the cache of compiled programs, the allocator, and how XLA writes kernels for CPUs.

    The allocator stays as it is with ``MLFFJAX_ALLOCATOR=system`` or settings of the user's own,
    XLA with ``MLFFJAX_XLA=default`` or extra options in ``XLA_FLAGS``. glibc reads its tunables
    once, at the start of a process, so the process replaces itself, once.

    Args:
      compilation_cache: whether to keep compiled programs between calls.
    """
    environment = dict(os.environ)
    if compilation_cache:
        if not environment.get("JAX_COMPILATION_CACHE_DIR"):
            environment["JAX_COMPILATION_CACHE_DIR"] = str(cache_folder())
        environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        # XLA's loader writes an error line for every cached program whose list of processor
        # features names XLA's own tuning flags; failures still arrive as Python exceptions.
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    else:
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    os.environ.update(environment)
    own = any(name.startswith("MALLOC_") for name in environment)
    kept = environment.get("MLFFJAX_ALLOCATOR") != "system" and not own and keep_freed_memory()
    if kept and "GLIBC_TUNABLES" not in environment:
        os.environ["GLIBC_TUNABLES"] = HUGE_PAGES
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    if environment.get("MLFFJAX_XLA") != "default":
        use_plain_loops()


def use_x64(dtype: str) -> None:
    """Let JAX compute in double precision, where that is asked for."""
    if dtype == "float64":
        import jax

        jax.config.update("jax_enable_x64", True)


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
