"""Memory settings of the C library."""

import ctypes
import platform
import sys

#: What glibc's ``mallopt`` is told (malloc.h): nothing is mapped by itself (M_MMAP_MAX), nothing is
#: returned to the system (M_TRIM_THRESHOLD), a heap grows by 256 MB (M_TOP_PAD). Threads keep heaps
#: of their own: in a single one they meet what the compiler left behind, and a training that had
#: compiled its programs took a third longer. Such a heap ends at 64 MB, and beyond that, it
#: seems, threads still map anew; huge pages make that cheap, but are asked for before a process
#: starts (``mlffjax/cli/process.py``).
_SETTINGS = ((-4, 0), (-1, -1), (-2, 2**28))


def keep_freed_memory() -> bool:
    """Let this process keep the memory it frees, for the next use.

    XLA asks for the buffers of a program in every call on a CPU, and glibc maps what is larger than
    32 MB anew each time: every page is then a page fault, and a call can take twice as long
    (``benchmarks/README.md``). The ``mlffjax`` command does this for itself; call it at the start
    of a program of your own, and give it ``GLIBC_TUNABLES=glibc.malloc.hugetlb=1`` in its
    environment. The process then never shrinks.

    Returns:
      Whether the settings were made: on Linux with glibc.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all(library.mallopt(parameter, value) for parameter, value in _SETTINGS)
