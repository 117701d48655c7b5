#!/usr/bin/python3
"""What a node at its limit costs while nothing happens but heartbeats: SLUICE_BIN=build/release/bin
tests/bench/heartbeat_cost.py [SLOTS]. Every slot has a job that sleeps; CPU of the node and of the
broker, in per cent of a core, in five intervals of ten seconds. The heartbeats are the default's, 3 s."""

import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from cluster import Cluster, json_job, until  # noqa: E402

INTERVALS, SECONDS = 5, 10
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as stat:
        user, system = stat.read().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / TICKS


def main():
    slots = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    cluster = Cluster()
    try:
        broker = cluster.start_broker("--heartbeat-ms", "3s", "--dead-after-ms", "16s")
        node = cluster.start_worker("--concurrency", slots, "--builtin", "sleep")
        client = cluster.client()
        client.submit(*[json_job("sleep", 600_000) for _ in range(slots)])
        until(lambda: sum(worker["running"] for worker in client.workers()) == slots)
        shares = {"node": [], "broker": []}
        for _ in range(INTERVALS):
            before = {"node": cpu_s(node.pid), "broker": cpu_s(broker.pid)}
            time.sleep(SECONDS)
            for name, process in (("node", node), ("broker", broker)):
                shares[name].append((cpu_s(process.pid) - before[name]) / SECONDS * 100)
        for name, values in shares.items():
            print(f"{name:8} {statistics.median(values):5.2f} % of a core ({min(values):.2f} - {max(values):.2f}), "
                  f"{slots} slots busy")
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
