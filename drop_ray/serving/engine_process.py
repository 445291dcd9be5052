"""An engine in a process of its own: two can be resident side by side, and one that dies takes nothing with it.

`EngineProcess` starts engine_main.py and talks to it through a pipe. All that the engine prints goes to a file, whose
last lines are shown when it dies.
"""

import os
import re
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from drop_ray.serving.engine import (
    Completed,
    Completion,
    Drafted,
    EngineError,
    EngineFacts,
    EngineFailure,
    EngineSettings,
    Generation,
    Prompts,
    PromptScores,
    Scores,
)

LAST_LINES = 20
TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
ENDING_S = 20.0


class EngineProcess:
    """The engine, or the reference, that `settings` ask for. It starts at once, and `wait` waits until it is loaded.

    `who` says in messages whose engine it is. Any error in the engine ends its process, and EngineError then has its
    last lines.
    """

    def __init__(self, settings: EngineSettings, who: str):
        self._who = who
        self._log = Path(tempfile.mkstemp(prefix="drop-ray-engine-", suffix=".log")[1])
        self._pipe, theirs = Pipe()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "drop_ray.serving.engine_main", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(settings),
            )
        theirs.close()
        self._send(settings)

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self) -> "EngineProcess":
        self._receive("did not start")
        return self

    def facts(self) -> EngineFacts:
        return self._call("facts")  # type: ignore[no-any-return]

    def generate(self, prompts: Prompts, output_length: int) -> Generation:
        return self._call("generate", prompts, output_length)  # type: ignore[no-any-return]

    def sample(self, prompts: Prompts, output_length: int, temperature: float) -> Generation:
        return self._call("sample", prompts, output_length, temperature)  # type: ignore[no-any-return]

    def score_prompts(self, prompts: Prompts) -> PromptScores:
        return self._call("score_prompts", prompts)  # type: ignore[no-any-return]

    def score(self, contexts: Prompts, targets: Prompts) -> Scores:
        return self._call("score", contexts, targets)  # type: ignore[no-any-return]

    def complete(self, prompts: Prompts, completion: Completion) -> Completed:
        return self._call("complete", prompts, completion)  # type: ignore[no-any-return]

    def drafted(self) -> Drafted:
        return self._call("drafted")  # type: ignore[no-any-return]

    def greedy(self, prompts: Prompts, output_length: int) -> tuple[tuple[int, ...], ...]:
        """The greedy continuations of the prompts, which only the reference gives."""
        return self._call("greedy", prompts, output_length)  # type: ignore[no-any-return]

    def peak_memory_bytes(self) -> int:
        return self._call("peak_memory_bytes")  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the process, and wait until its memory is free."""
        self._pipe.close()
        try:
            self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.unlink(missing_ok=True)

    def _call(self, method: str, *arguments: Any) -> Any:
        self._send((method, arguments))
        return self._receive(f"died in `{method}`")

    def _send(self, message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError as error:
            raise self._lost("is gone") from error

    def _receive(self, failure: str) -> Any:
        try:
            result = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._lost(failure) from error
        if isinstance(result, EngineFailure):
            raise self._lost(f"{failure}: {result.message}")
        return result

    def _lost(self, what: str) -> EngineError:
        try:
            code = self._process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        lines = [TERMINAL_COLOURS.sub("", line) for line in self._log.read_text(errors="replace").splitlines()]
        ended = f"signal {-code}" if code < 0 else f"exit code {code}"
        return EngineError(
            "\n".join(
                [
                    f"the engine of {self._who} {what} ({ended}); its last lines:",
                    *(f"  {x}" for x in lines[-LAST_LINES:]),
                ]
            )
        )


def _environment(settings: EngineSettings) -> dict[str, str]:
    environment = dict(os.environ)
    # Ray sets it to the CPUs of an actor. More threads than free CPUs wait for each other, a hundred times as long.
    environment.pop("OMP_NUM_THREADS", None)
    if settings.threads is not None:
        environment["OMP_NUM_THREADS"] = str(settings.threads)
    if settings.device == "cpu":
        # Huge pages. Of two engines of one 0.9 GB model, the first was 4 to 8 % slower with small pages in each of four
        # loads. With huge pages they were within 2 % of each other, in either direction, in three loads.
        environment.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    if settings.enforce_eager:
        # vLLM compiles its ranks of prompt log-probabilities all the same, which takes half a minute.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    return environment
