"""Codes under test as processes that take turns: one computes, the others wait."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "workers"
#: glibc's settings under which freed memory stays in the process (mlffjax/allocator.py) and comes
#: in huge pages (mlffjax/cli/process.py), and the flag of XLA for plain loops
#: (mlffjax/xla_flags.py), which every code that uses JAX gets.
TUNED_ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
    "XLA_FLAGS": "--xla_backend_extra_options=xla_cpu_disable_tiled_emitter",
}
#: ``one-arena``: all threads share one heap, which helps codes whose large buffers are requested by
#: other threads than the main one, and costs the threads their turn.
ALLOCATORS: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "tuned": TUNED_ALLOCATOR,
    "one-arena": {**TUNED_ALLOCATOR, "MALLOC_ARENA_MAX": "1"},
}

#: Rounds that a row has in any case, if as many were asked for.
MIN_ROUNDS = 3
#: Seconds between calls: threads of the code before spin for a while, and its memory is returned.
PAUSE = 0.1


@dataclass(frozen=True)
class Code:
    """A code that can be timed.

    Attributes:
      name: as printed.
      script: file in ``workers/``.
      python: interpreter of its environment.
    """

    name: str
    script: str
    python: str = sys.executable


class WorkerError(RuntimeError):
    """A worker could not do what it was asked, for the reason given."""


@dataclass
class Worker:
    """A running code.

    Attributes:
      code: which.
      allocator: name of its settings.
      process: the process.
      tasks: what it can do.
      versions: of its packages.
    """

    code: Code
    allocator: str
    process: subprocess.Popen[str]
    tasks: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def start(cls, code: Code, allocator: str, threads: int, cache: str) -> "Worker":
        """Start a process and wait until it can be asked.

        Args:
          code: which.
          allocator: name of its settings.
          threads: of PyTorch; JAX takes as many as there are cores.
          cache: folder of compiled programs, so that the second allocator finds those of the first.

        Raises:
          WorkerError: it ended at once.
        """
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
        environment |= ALLOCATORS[allocator]
        root = str(FOLDER.parent.parent)
        if code.python == sys.executable:
            environment["PYTHONPATH"] = os.pathsep.join(
                filter(None, [root, environment.get("PYTHONPATH")])
            )
        else:
            environment.pop("PYTHONPATH", None)
        environment |= {
            "JAX_COMPILATION_CACHE_DIR": str(Path(cache, code.name)),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
            # XLA's loader writes an error line for every program it finds in the cache.
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        process = subprocess.Popen(
            [code.python, "-u", "-W", "ignore", str(FOLDER / code.script), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        worker = cls(code, allocator, process)
        hello = worker._answer()
        worker.tasks, worker.versions = tuple(hello["tasks"]), hello["versions"]
        return worker

    def ask(self, op: str, name: str, case: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises:
          WorkerError: the request failed, or the process is gone.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"op": op, "name": name, "case": case}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(f"{self.code.name} ended") from None
        answer = self._answer()
        if "error" in answer:
            raise WorkerError(f"{self.code.name}: {answer['error']}")
        return answer

    def stop(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            # Libraries print while they are imported.
            if line.startswith("{"):
                return json.loads(line)
        raise WorkerError(f"{self.code.name} ended with code {self.process.wait()}")


def take_turns(
    workers: Sequence[tuple[Worker, str]], repeats: int, seconds: float
) -> dict[int, list[dict[str, Any]]]:
    """Time prepared cases, one call each in turn, ``repeats`` rounds.

    Args:
      workers: workers with the name of a case prepared in each.
      repeats: most rounds.
      seconds: no new round begins after so long, from the fourth on.

    Returns:
      The answers to each of ``workers``, by its place; what failed on the way is left out.
    """
    answers: dict[int, list[dict[str, Any]]] = {k: [] for k in range(len(workers))}
    start = time.perf_counter()
    for done in range(repeats):
        if done >= MIN_ROUNDS and time.perf_counter() - start > seconds:
            break
        for k, (worker, name) in enumerate(workers):
            if k not in answers:
                continue
            time.sleep(PAUSE)
            try:
                answers[k].append(worker.ask("time", name))
            except WorkerError as error:
                print(f"  {error}", file=sys.stderr, flush=True)
                del answers[k]
    return answers
