"""Measures what a request costs the server: processor time of one process, with one client and with many at a time.

    OMP_NUM_THREADS=1 python benchmarks/serving.py --model <artifact or checkpoint> --requests 2000

Each request is one text to POST /v1/embeddings. Rounds with 1 and with 64 clients come in turns; medians. What the
clients cost is theirs. Memory is the server's resident set after the first and after the last round.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import httpx
import psutil

import rcc

ROUNDS, CLIENTS = 5, (1, 8, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=str(Path(rcc.__file__).parent / "assets/clip_tiny"))
    parser.add_argument("--requests", type=int, default=640, help="of each round")
    options = parser.parse_args()
    command = [
        sys.executable,
        "-u",
        "-m",
        "rcc.cli",
        "job=serve",
        "threads=1",
        "serve.port=0",
        f"serve.embed={options.model}",
    ]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    said = ""
    while "until Ctrl-C" not in said:
        said = server.stdout.readline() or sys.exit("the server did not start")
    address = re.search(r"at (\S+?)/ ", said)
    assert address is not None
    process = psutil.Process(server.pid)
    took: dict[int, list[float]] = {count: [] for count in CLIENTS}
    unanswered = 0
    held = []
    for _ in range(ROUNDS):
        for clients in CLIENTS:
            started = sum(process.cpu_times()[:2])
            unanswered += asyncio.run(asked(address[1], options.requests, clients))
            took[clients].append(1e3 * (sum(process.cpu_times()[:2]) - started) / options.requests)
        held.append(process.memory_info().rss / 1e6)
    server.send_signal(signal.SIGTERM)
    server.wait()
    alone = statistics.median(took[1])
    print("| clients | ms of the server's processor a request | of one client's |\n| --: | --: | --: |")
    for clients, each in took.items():
        print(f"| {clients} | {statistics.median(each):.2f} | {statistics.median(each) / alone:.2f} |")
    total = ROUNDS * len(CLIENTS) * options.requests
    print(
        f"\n{total:,} requests, {unanswered} unanswered; memory {held[0]:.0f} → {held[-1]:.0f} MB;"
        f" exit code {server.returncode}"
    )


async def asked(address: str, requests: int, clients: int) -> int:
    """Send the requests, so many at a time; how many were not answered with 200."""
    places = iter(range(requests))
    failed = 0

    async with httpx.AsyncClient(base_url=address, timeout=60) as client:

        async def one() -> None:
            nonlocal failed
            for place in places:
                answer = await client.post("/v1/embeddings", json={"input": f"a photo of the digit {place}"})
                failed += answer.status_code != 200

        await asyncio.gather(*(one() for _ in range(clients)))
    return failed


if __name__ == "__main__":
    main()
