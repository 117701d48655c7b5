#!/usr/bin/env bash
# The two commands on a Debian 12 that has nothing but git: ./dev test and ./dev demo from a clean
# clone, then a second build without a network. In a chroot made by debootstrap, removed afterwards.
# With `packages` as its argument it stops after the packages: minutes instead of half an hour.
set -euo pipefail

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
skip() { echo "SKIP: $*"; exit 77; }

((EUID == 0)) || skip 'a chroot needs root'
command -v debootstrap >/dev/null || skip 'debootstrap is not installed'
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1 || true)
[[ -n $mirror ]] || mirror=$(awk '$1 == "deb" {print $2; exit}' /etc/apt/sources.list 2>/dev/null || true)
[[ -n $mirror ]] || skip 'no Debian mirror in the apt sources'

scratch=$(mktemp -d -t sluice-bare-XXXXXX)
machine=$scratch/machine
mounts=()
# /dev is the real one inside: nothing is removed while a mount is left.
clean() {
  local i
  for ((i = ${#mounts[@]} - 1; i >= 0; i--)); do umount "${mounts[i]}" || umount -l "${mounts[i]}"; done
  grep -q " $machine/" /proc/self/mounts || rm -rf --one-file-system "$scratch"
}
trap clean EXIT

put() { # TYPE-AND-OPTIONS... PLACE
  mount "${@:1:$#-1}" "$machine/${*: -1}" || skip "mounting ${*: -1} is not allowed here"
  mounts+=("$machine/${*: -1}")
}

inside() { chroot "$machine" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "${proxy[@]}" "$@"; }
proxy=()
for name in http_proxy https_proxy no_proxy; do [[ -z ${!name:-} ]] || proxy+=("$name=${!name}"); done

say() { echo "--- $* ($(date -u +%T))"; }
fail() { echo "FAILED: $*"; exit 1; }

# Of the processes whose root is the chroot, a line each.
running() {
  local process
  for process in /proc/[0-9]*; do
    [[ $(readlink "$process/root" 2>/dev/null) != "$machine" ]] || tr '\0' ' ' <"$process/cmdline"
  done
}

say "a Debian 12 from $mirror"
debootstrap --variant=minbase --include=git bookworm "$machine" "$mirror" >"$scratch/log" 2>&1 ||
  { tail -n 5 "$scratch/log"; fail 'debootstrap'; }
cp -L /etc/resolv.conf "$machine/etc/resolv.conf"
put -t proc proc proc
put -t sysfs sysfs sys
put --bind /dev dev
put -t tmpfs tmpfs dev/shm
git -c safe.directory='*' clone -q --no-hardlinks "$source_root" "$machine/root/sluice"
for program in g++ cmake make redis-server python3; do
  ! inside sh -c "command -v $program" >/dev/null || fail "the machine is not bare: it has $program"
done

say 'packages'
inside /root/sluice/dev packages
inside sh -c 'command -v g++ cmake ninja ccache redis-server' >/dev/null || fail 'packages are missing'
[[ ! -e $machine/usr/sbin/policy-rc.d ]] || fail 'the policy was left behind'
[[ -z $(running) ]] || fail "something was started: $(running)"
! compgen -G "$machine/etc/rc[2-5].d/S*redis*" >/dev/null || fail 'redis-server is enabled in init'
[[ ! -e $machine/etc/systemd/system/multi-user.target.wants/redis-server.service ]] || fail 'redis-server is enabled'
[[ -z $(inside /root/sluice/dev packages) ]] || fail 'the second run installs again'
[[ ${1:-} != packages ]] || { say 'packages are right'; exit 0; }

say './dev test'
inside /root/sluice/dev test
say './dev demo'
inside /root/sluice/dev demo
[[ -z $(running) ]] || fail "left behind: $(running)"

say 'a second build, without a network'
again=$(unshare --net chroot "$machine" /root/sluice/dev build dev)
[[ $again == *'no work to do'* && $again != *installing* ]] || fail "not a no-op: $again"
say 'bare machine: all done'
