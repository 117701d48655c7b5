#!/usr/bin/python3
"""How soon jobs are dealt again after Redis was away (promise P6): an external redis-server is killed while
all slots are busy, and started again after each of some outages. Nodes are heard every 8 s only, so that no
heartbeat helps. Not a test: it prints figures.

    outage_times.py [SECONDS ...]      default: 1 2 3 ... 12; SLUICE_BIN is the folder of the programs"""

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))
from cluster import Cluster, json_job  # noqa: E402


def main():
    outages = [float(word) for word in sys.argv[1:]] or list(range(1, 13))
    cluster = Cluster("private")
    try:
        process, path = cluster.start_redis("--appendonly", "yes")
        cluster.redis_address = f"unix://{path}"
        cluster.start_broker("--heartbeat-ms", "8s", "--dead-after-ms", "60s")
        cluster.start_worker("--builtin", "sleep", "--concurrency", 4)
        client = cluster.client()
        times = []
        for outage in outages:
            ids = client.submit(*[json_job("sleep", 50) for _ in range(200)])
            time.sleep(0.5)
            process.kill()
            time.sleep(outage)
            process, path = cluster.start_redis("--appendonly", "yes", path=path)
            back_ms = time.time() * 1000  # it has answered
            views = client.wait(ids)
            next_ms = min(view["started_ms"] for view in views.values() if view["started_ms"] > back_ms)
            times.append(next_ms - back_ms)
            print(f"away {outage:g} s: the next job starts {times[-1]:.0f} ms after Redis answers", flush=True)
        print(f"median {statistics.median(times):.0f} ms, worst {max(times):.0f} ms")
    finally:
        cluster.close()


if __name__ == "__main__":
    main()
