"""A code under test as a process that answers requests: one JSON line in, one JSON line out.

Runs in the environment of each peer, so it needs no more than Python and NumPy. A request is
``{"op": "prepare", "name": ..., "case": {...}}``, ``{"op": "time", "name": ...}`` or
``{"op": "drop", "name": ...}``; the end of the input ends the process.
"""

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

#: Runs the case once and waits for the result; returns the steps done.
Call: TypeAlias = Callable[[], int]
#: From a case to its call and what is to be known of it (edges, parameters, ...).
Prepare: TypeAlias = Callable[[dict[str, Any]], tuple[Call, dict[str, Any]]]

#: Calls after the first that are not timed.
WARM_UP = 2
#: While the others had their turn, memory and caches went cold: calls of less than so many seconds
#: are made once before the clock starts.
WARM_AGAIN_SECONDS = 1.0
#: Short calls are repeated for so long.
TIMED_SECONDS = 0.1


def serve(tasks: dict[str, Prepare], versions: Callable[[], dict[str, str]]) -> None:
    """Answer requests until the input ends.

    Args:
      tasks: what this code can do, by the ``task`` of a case.
      versions: of the packages that matter; asked once.
    """
    # What a library prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    calls: dict[str, Call] = {}
    answers.write(json.dumps({"tasks": sorted(tasks), "versions": versions()}) + "\n")
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _answer(request, tasks, calls)
        except Exception as error:  # goes to the one who asked, as the reason of an empty place
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        answers.write(json.dumps(answer) + "\n")


def _answer(
    request: dict[str, Any], tasks: dict[str, Prepare], calls: dict[str, Call]
) -> dict[str, Any]:
    name = request["name"]
    if request["op"] == "drop":
        calls.pop(name, None)
        return {}
    if request["op"] == "prepare":
        start = time.perf_counter()
        call, facts = tasks[request["case"]["task"]](request["case"])
        built = time.perf_counter()
        call()
        first = time.perf_counter()
        # PyTorch's compiler changes its mind in the calls after the first.
        for _ in range(WARM_UP):
            call()
        calls[name] = call
        return {
            "build_s": built - start,
            "first_call_s": first - built,
            "peak_memory_mb": _peak_memory(),
            **facts,
        }
    seconds, busy, steps = _timed(calls[name])
    if seconds < WARM_AGAIN_SECONDS:
        seconds, busy, steps = _timed(calls[name])
    return {
        "ms": 1e3 * seconds / steps,
        "cpu_ms": 1e3 * busy / steps,
        "peak_memory_mb": _peak_memory(),
    }


def _timed(call: Call) -> tuple[float, float, int]:
    """Seconds of wall and of processor, and steps, of calls for :data:`TIMED_SECONDS`."""
    steps, start, before = 0, time.perf_counter(), time.process_time()
    while not steps or time.perf_counter() - start < TIMED_SECONDS:
        steps += call()
    return time.perf_counter() - start, time.process_time() - before, steps


def _peak_memory() -> float:
    """Highest resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
