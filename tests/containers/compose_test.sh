#!/usr/bin/env bash
# compose/ for real: builds the images, scales the workers to three, submits jobs, kills one container in the
# middle, and sees every job end. Needs podman-compose (../shared/tools/containers.sh makes it work on a
# machine without Docker) and root; skips with a reason (exit 77) otherwise. Ends only what it started.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
skip() { echo "skipped: $1"; exit 77; }

[ "$(id -u)" = 0 ] || skip "needs root for podman"
setup=${SLUICE_CONTAINERS_SETUP:-$root/../shared/tools/containers.sh}
if [ -x "$setup" ] || [ -f "$setup" ]; then
  bash "$setup"
elif ! command -v podman-compose >/dev/null; then
  skip "no podman-compose, and no ../shared/tools/containers.sh to set it up"
fi
podman ps -a --format '{{.Names}}' | grep -q '^sluice_' && skip "containers named sluice_* exist already; not ours to touch"

export SLUICE_WORKERS=3
compose() { podman-compose -f "$root/compose/docker-compose.yml" "$@"; }
clean_up() {
  status=$?
  [ "$status" = 0 ] || for name in broker worker_1 redis; do
    echo "--- sluice_$name"; podman logs --tail 20 "sluice_${name%_1}_1" 2>&1 || true
  done
  compose down -v >/dev/null 2>&1 || true
}
trap clean_up EXIT

compose up --build -d
sluice() { podman exec -i sluice_broker_1 sluice "$@"; }
# Tries until it works, 90 times at most, a second apart: containers start in any order.
until_true() {
  for _ in $(seq 90); do "$@" >/dev/null 2>&1 && return; sleep 1; done
  echo "did not come true within 90 s: $*"; return 1
}
has_workers() { [ "$(sluice workers --json | grep -o '"node"' | wc -l)" = "$1" ]; }
completed() { sluice stats --json | grep -o '"completed": *[0-9]*' | grep -o '[0-9]*$'; }
all_completed() { [ "$(completed)" = "$1" ]; }

until_true sluice ping
until_true has_workers 3
echo "three workers are there"

for i in $(seq 300); do
  printf '{"id": "compose-%d", "task": "sleep", "payload": 100}\n' "$i"
done | sluice submit --jsonl -
sluice submit checksum hello --id compose-sum

podman kill --signal KILL sluice_worker_2 >/dev/null
echo "one worker container was killed with jobs running"
until_true all_completed 301
until_true has_workers 2 || true
[ "$(sluice stats --json | grep -o '"failed": *[0-9]*' | grep -o '[0-9]*$')" = 0 ]
for port in 7711 7712 7713; do
  ! ss -ltn 2>/dev/null | grep -q "0.0.0.0:$port" || { echo "port $port is open to other machines"; exit 1; }
done
echo "all 301 jobs completed"
