#!/bin/bash
# own_kernel.sh UNIT_TESTS: runs the tests of control groups in a kernel of their own (user-mode Linux, Debian's package
# user-mode-linux), where there are such as a node is given: once of v2, once of v1. It is an ordinary process, sees
# this machine's files and changes none. Exit: 0 passed, 77 could not be tried here.
set -eu

outside() { # UNIT_TESTS
  command -v linux.uml >/dev/null || { echo "skipped: there is no linux.uml (Debian: user-mode-linux)"; exit 77; }
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  for version in v2 v1; do
    # What is no option of the kernel's own comes into the environment of its first process.
    timeout 200 linux.uml mem=1G rootfstype=hostfs rootflags=/ ro init="$(realpath "$0")" quiet con=null con0=fd:0,fd:1 \
      uml_dir="$scratch" VERSION=$version UNIT_TESTS="$(realpath "$1")" </dev/null 2>&1 | tee "$scratch/$version" || true
  done
  grep -q "^v2 passed" "$scratch/v2" && grep -q "^v1 passed" "$scratch/v1"
}

mount_groups() {
  if [[ $VERSION == v2 ]]; then
    mount -t cgroup2 none /sys/fs/cgroup
  else
    mount -t tmpfs none /sys/fs/cgroup
    mkdir /sys/fs/cgroup/memory /sys/fs/cgroup/pids
    for controller in memory pids; do mount -t cgroup -o $controller none /sys/fs/cgroup/$controller; done
  fi
}

first_process() {
  mount -t proc none /proc
  mount -t sysfs none /sys
  mount -t tmpfs none /tmp
  mount_groups
  local trees=(/sys/fs/cgroup/memory /sys/fs/cgroup/pids)
  if [[ $VERSION == v2 ]]; then
    echo "+memory +pids" >/sys/fs/cgroup/cgroup.subtree_control
    trees=(/sys/fs/cgroup)
  fi
  for tree in "${trees[@]}"; do mkdir "$tree/given"; done
  (
    for tree in "${trees[@]}"; do echo "$BASHPID" >"$tree/given/cgroup.procs"; done
    exec unshare --cgroup --mount "$0" inside
  ) && echo "$VERSION passed"
  exec /usr/bin/python3 -c 'import ctypes; ctypes.CDLL(None).reboot(0x4321fedc)' # off
}

# Where the groups that were given are the uppermost ones, as in a container.
inside() {
  umount --recursive /sys/fs/cgroup
  mount_groups
  exec "$UNIT_TESTS" --gtest_filter='*Cgroup*:*Grouped*' --gtest_brief=1
}

if [[ ${1-} == inside ]]; then
  inside
elif (($$ == 1)); then
  first_process
else
  outside "$1"
fi
