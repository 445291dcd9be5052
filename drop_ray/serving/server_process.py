"""vLLM's server as a child whose output is passed on as it comes, and whose root cause is said last if it fails.

vLLM's own last line says of an engine that did not start to see the root cause above, which is hundreds of lines up.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType

# Of the output, what is kept to look for the cause: vLLM prints a failing start's traceback two or three times.
KEPT_BYTES = 1 << 19
CAUSE_LINES = 8
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
# `(EngineCore pid=12) ERROR 11-29 21:50:21 [core.py:1136] `: the process, and the header of a line that was logged.
PROCESS = re.compile(r"^\((\w+)[^()]*\) ?")
HEADER = re.compile(r"^[A-Z]+ \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\] ?")
RAISED = re.compile(r"^(?:\w+\.)*[A-Z]\w*(?:Error|Exception)(?:: .*|$)")
CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
# What other processes say when one of them has failed.
ELSEWHERE = re.compile(
    r"see root cause|see stack trace|engine core initialization failed|EngineDeadError", re.IGNORECASE
)
# Where causes arise, the nearest to them first: processes of single GPUs, the engine, the server.
NEAREST = ("Worker", "Engine")
ABOUT_MEMORY = re.compile(r"memory|kv cache", re.IGNORECASE)
REMEDY = (
    "give the server less behind `--`: --max-model-len N, --max-num-seqs N, or another --gpu-memory-utilization (of a "
    "GPU's memory, or this machine's) or --kv-cache-memory-bytes; or end what else is in memory"
)
DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def run_server(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the server until it ends, and return its exit code. SIGTERM and Ctrl-C are passed on to it."""
    server = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # A server without anybody to stop it would keep its GPUs.
        preexec_fn=_end_with_parent,
    )
    assert server.stdout is not None
    output = bytearray()
    asked: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        # Whoever asks again wants it gone, not tidy.
        server.send_signal(signal.SIGKILL if asked else signal.SIGTERM)
        asked.append(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        while chunk := os.read(server.stdout.fileno(), 1 << 16):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            output += chunk
            del output[:-KEPT_BYTES]
        code = server.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code and not asked:
        cause = root_cause(output.decode(errors="replace")) or "it said no reason"
        remedy = f"\n{REMEDY}" if ABOUT_MEMORY.search(cause) else ""
        print(f"\ndrop-ray: vLLM's server ended with exit code {code}: {cause}{remedy}", file=sys.stderr)
    return code if code >= 0 else 128 - code


def root_cause(output: str) -> str | None:
    """The exception that the others follow from, with its message; None if the output has none."""
    found = list(_raised(output))
    for process in (*NEAREST, ""):
        causes = [(is_chained, text) for name, is_chained, text in found if name.startswith(process)]
        if causes:
            # The first is the cause; those that were raised while it was handled say more.
            last = next((index for index, (is_chained, _) in enumerate(causes[1:]) if not is_chained), len(causes) - 1)
            return causes[last][1]
    said = [line for line in output.splitlines() if " error: " in line]
    return said[-1].partition(" error: ")[2] if said else None


def _raised(output: str) -> Iterator[tuple[str, bool, str]]:
    """(process, whether another one was being handled, exception with its message) of every traceback's last line."""
    lines = [_parted(line) for line in COLOURS.sub("", output).splitlines()]
    chained: set[str] = set()
    for number, (process, line) in enumerate(lines):
        if line.startswith(CHAINED):
            chained.add(process)
        elif RAISED.match(line) and not ELSEWHERE.search(line):
            more = [line]
            for other, following in lines[number + 1 : number + CAUSE_LINES]:
                # Messages of several lines are indented, or end with an empty one.
                if other != process or not following.startswith(" "):
                    break
                more.append(following)
            yield process, process in chained, "\n".join(more)
            chained.discard(process)


def _parted(line: str) -> tuple[str, str]:
    """The process that printed a line, empty if it does not say, and the line without process and header."""
    match = PROCESS.match(line)
    rest = line[match.end() :] if match else line
    return (match[1] if match else ""), HEADER.sub("", rest)


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGTERM)
