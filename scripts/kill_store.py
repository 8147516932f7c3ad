"""Kill a writer of a store with SIGKILL at random instants, and count acknowledged rows that were lost: none may be.

    python scripts/kill_store.py [--kills 100] [--seed 0]

A writer, in a process of its own, adds, replaces and deletes rows one block after the other and notes each change in a
journal, forced to disk, before it begins and after it was acknowledged. It is killed after a random time and started
again on the same store. After each kill the store must hold what the journal acknowledges, or that and the change that
was under way, whole. Prints a line a kill and a summary; exits 1 if a row was lost or is not what was written.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from rcc.store import EmbeddingStore

DIMENSIONS, ROWS, IDS = 32, 40, 400
LONGEST = 0.4
"""Seconds that a writer lives at most."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lost = killed_often(Path(folder), options.kills, options.seed)
    sys.exit(1 if lost else 0)


def killed_often(folder: Path, kills: int, seed: int, told: Any = print) -> int:
    """Kill a writer so often; returns after how many kills the store did not hold what it had to."""
    chooser = random.Random(seed)
    lost = between = changes = 0
    for kill in range(1, kills + 1):
        child = os.fork()
        if child == 0:
            try:
                write(folder, chooser.randrange(2**31))
            finally:
                os._exit(1)
        time.sleep(chooser.uniform(0.02, LONGEST))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        acknowledged, under_way = read_journal(folder)
        held = contents(folder)
        fine = held in (acknowledged, under_way)
        lost += not fine
        between += acknowledged != under_way
        changes = len((folder / "journal").read_text().splitlines()) if (folder / "journal").exists() else 0
        if not fine:
            missing = {id: value for id, value in acknowledged.items() if held.get(id) != value}
            told(f"kill {kill}: {len(missing)} acknowledged rows are lost or changed, {len(held)} held")
    told(
        f"{kills} kills, {between} of them within a change, {changes} lines of the journal: after {lost} of them"
        f" something acknowledged was lost; {len(contents(folder))} rows at the end."
    )
    return lost


def write(folder: Path, seed: int) -> None:
    """Change the store until the process dies."""
    chooser = random.Random(seed)
    store = EmbeddingStore(folder / "store", dimensions=DIMENSIONS)
    with (folder / "journal").open("a", encoding="utf-8") as journal:
        state = contents(folder)  # a change that was under way when the last writer died was done or not
        journal.write("\n")  # after a line that the kill cut
        note(journal, {"is": state})
        while True:
            ids = chooser.sample(range(IDS), ROWS)
            if chooser.random() < 0.25 and state:
                gone = chooser.sample(sorted(state), min(ROWS, len(state)))
                after = {id: value for id, value in state.items() if id not in gone}
                note(journal, {"to": after})
                store.delete(gone)
            else:
                turn = chooser.randrange(10**6)
                after = state | {f"row {id}": turn for id in ids}
                note(journal, {"to": after})
                vectors = np.random.default_rng(turn).normal(size=(ROWS, DIMENSIONS))
                store.add([f"row {id}" for id in ids], vectors, [{"turn": turn}] * ROWS)
            state = after
            note(journal, {"is": state})


def note(journal: Any, line: dict[str, Any]) -> None:
    journal.write(json.dumps(line) + "\n")
    journal.flush()
    os.fsync(journal.fileno())


def read_journal(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """What was acknowledged, and that with the change that was under way."""
    path = folder / "journal"
    acknowledged: dict[str, int] = {}
    under_way: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            said = json.loads(line)
        except ValueError:  # cut by a kill
            continue
        acknowledged, under_way = (said["is"], said["is"]) if "is" in said else (acknowledged, said["to"])
    return acknowledged, under_way


def contents(folder: Path) -> dict[str, int]:
    """The turn in which each row of the store was written, its vector compared with the one of that turn."""
    if not (folder / "store" / "store.json").exists():
        return {}
    store = EmbeddingStore(folder / "store")
    found = {}
    for id in store.ids():
        turn = (store.fields_of(id) or {})["turn"]
        wanted = np.random.default_rng(int(turn)).normal(size=(ROWS, DIMENSIONS)).astype(np.float32)
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        own = store.vectors_of([id])[0]
        found[id] = int(turn) if float((wanted @ own).max()) > 0.9999 else -1
    return found


if __name__ == "__main__":
    main()
