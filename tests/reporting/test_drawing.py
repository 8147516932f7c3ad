"""The terminal of a run: whoever reads it may leave."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from rcc.reporting.drawing import Terminal, say
terminal = Terminal(highlight=False)
for line in range(20_000):
    say(terminal, f"line {line} of what a long run has to say")
print("done", file=sys.stderr)
"""


def test_a_run_goes_on_when_its_reader_leaves() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith("line 0")
    process.stdout.close()
    assert process.stderr.read() == "done\n"
    process.stderr.close()
    assert process.wait(60) == 0
