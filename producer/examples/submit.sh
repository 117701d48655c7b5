#!/bin/sh
# Submit a job, wait for its end, and use the result. Needs a broker, and a worker that offers `echo`.
set -eu
id=$(sluice submit echo text=hello --tag example)
if sluice wait "$id" --for 60s >/dev/null; then
  sluice get "$id" --json
else
  echo "job $id: exit status $?" >&2
  exit 1
fi
