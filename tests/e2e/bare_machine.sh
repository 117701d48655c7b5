#!/usr/bin/env bash
# The two commands on a Debian 12 that has nothing but git: from a clean clone, without a step by hand.
# Two machines, each a chroot made by debootstrap and removed afterwards: on one root installs the packages; on the
# other a user with sudo runs ./dev test and ./dev demo, then builds again without a network, then after a change.
# With `packages` as its argument it stops after the packages: minutes instead of half an hour.
# SLUICE_BARE_CCACHE=DIR lends the machine a warm compiler cache, read only: quicker, and no longer the whole truth.
set -euo pipefail

source_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
skip() { echo "SKIP: $*"; exit 77; }

((EUID == 0)) || skip 'a chroot needs root'
command -v debootstrap >/dev/null || skip 'debootstrap is not installed'
mirror=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -n 1 || true)
[[ -n $mirror ]] || mirror=$(awk '$1 == "deb" {print $2; exit}' /etc/apt/sources.list 2>/dev/null || true)
[[ -n $mirror ]] || skip 'no Debian mirror in the apt sources'

scratch=$(mktemp -d -t sluice-bare-XXXXXX)
mounts=()
# /dev is the real one inside: nothing is removed while a mount is left.
clean() {
  local i
  for ((i = ${#mounts[@]} - 1; i >= 0; i--)); do umount "${mounts[i]}" || umount -l "${mounts[i]}"; done
  mounts=()
  grep -q " $scratch/" /proc/self/mounts || rm -rf --one-file-system "$scratch"
}
trap clean EXIT

say() { echo "--- $* ($(date -u +%T))"; }
fail() { echo "FAILED: $*"; exit 1; }

# --- a machine --------------------------------------------------------------------------------

put() { # TYPE-AND-OPTIONS... PLACE
  mount "${@:1:$#-1}" "$machine/${*: -1}" || skip "mounting ${*: -1} is not allowed here"
  mounts+=("$machine/${*: -1}")
}

switch_on() { # NAME: a copy of the fresh one; what one downloads the next need not
  machine=$scratch/$1
  cp -a "$scratch/fresh" "$machine"
  mkdir -p "$scratch/archives/partial"
  put -t proc proc proc
  put -t sysfs sysfs sys
  put --bind /dev dev
  put -t devpts devpts dev/pts
  put -t tmpfs tmpfs dev/shm
  put --bind "$scratch/archives" var/cache/apt/archives
  [[ -z ${SLUICE_BARE_CCACHE:-} ]] || { mkdir "$machine/srv/ccache" && put --bind "$SLUICE_BARE_CCACHE" srv/ccache; }
}

given=()
for name in http_proxy https_proxy no_proxy; do [[ -z ${!name:-} ]] || given+=("$name=${!name}"); done
[[ -z ${SLUICE_BARE_CCACHE:-} ]] ||
  given+=(CCACHE_DIR=/srv/ccache CCACHE_READONLY=1 CCACHE_TEMPDIR=/tmp/ccache CCACHE_BASEDIR=/home/ann CCACHE_NOHASHDIR=1)

inside() { # USER COMMAND...
  local home=/home/$1
  [[ $1 != root ]] || home=/root
  chroot --userspec="$1" "$machine" /usr/bin/env -i HOME="$home" USER="$1" LANG=C.UTF-8 \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin "${given[@]}" "${@:2}"
}

# Of the processes whose root is the machine, a line each.
running() {
  local process
  for process in /proc/[0-9]*; do
    [[ $(readlink "$process/root" 2>/dev/null) != "$machine" ]] || tr '\0' ' ' <"$process/cmdline"
  done
}

check_bare() {
  local program
  for program in g++ cmake make redis-server python3; do
    ! inside root sh -c "command -v $program" >/dev/null || fail "the machine is not bare: it has $program"
  done
}

check_services() { # what an installed package may have left or begun
  [[ ! -e $machine/usr/sbin/policy-rc.d ]] || fail 'the policy was left behind'
  [[ -z $(running) ]] || fail "something runs that did not run before: $(running)"
  ! compgen -G "$machine/etc/rc[2-5].d/S*redis*" >/dev/null || fail 'redis-server is enabled in init'
  ! compgen -G "$machine/etc/systemd/system/*.wants/redis*" >/dev/null || fail 'redis-server is enabled'
}

check_packages() { # USER CLONE
  check_bare
  inside "$1" "$2/dev" packages
  inside "$1" sh -c 'command -v g++ cmake ninja ccache redis-server' >/dev/null || fail 'packages are missing'
  check_services
  [[ -z $(inside "$1" "$2/dev" packages) ]] || fail 'the second run installs again'
}

# --- the story --------------------------------------------------------------------------------

say "a Debian 12 from $mirror"
debootstrap --variant=minbase --include=git bookworm "$scratch/fresh" "$mirror" >"$scratch/log" 2>&1 ||
  { tail -n 5 "$scratch/log"; fail 'debootstrap'; }
# The machine lives for an hour: dpkg need not wait for the disk after every file.
echo force-unsafe-io >"$scratch/fresh/etc/dpkg/dpkg.cfg.d/unsafe-io"
cp -L /etc/resolv.conf "$scratch/fresh/etc/resolv.conf"
echo "127.0.0.1 localhost $(hostname)" >"$scratch/fresh/etc/hosts"
git -c safe.directory='*' clone -q --no-hardlinks "$source_root" "$scratch/fresh/srv/sluice"

say 'packages, as root'
switch_on with_root
check_packages root /srv/sluice

say 'packages, as a user with sudo'
switch_on with_sudo
inside root apt-get update -qq
inside root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends sudo >/dev/null
inside root useradd --create-home --shell /bin/sh ann
echo 'ann ALL=(ALL) NOPASSWD: ALL' >"$machine/etc/sudoers.d/ann"
clone=/home/ann/sluice
inside root mv /srv/sluice "$clone"
inside root chown -R ann "$clone"
# In a chroot nobody makes a user namespace; the story of the full disk needs a small one.
mkdir "$machine/mnt/small"
put -t tmpfs -o size=8m,mode=1777 tmpfs mnt/small
given+=(SLUICE_TEST_SMALL_DISK=/mnt/small)
check_packages ann "$clone"
[[ ${1:-} != packages ]] || { say 'packages are right'; exit 0; }

say './dev test'
inside ann "$clone/dev" test
say './dev demo'
inside ann "$clone/dev" demo
check_services

say 'a second build, without a network'
again=$(unshare --net "$BASH" -c "$(declare -f inside); machine='$machine' given=(); inside ann '$clone/dev' build dev")
[[ $again == *'no work to do'* && $again != *installing* ]] || fail "not a no-op: $again"

say 'a build after a change'
echo '// A change.' | inside ann tee -a "$clone/common/retry.cpp" >/dev/null
again=$(inside ann "$clone/dev" build dev)
compiled=$(grep -c 'Building CXX object' <<<"$again" || true)
((compiled >= 1 && compiled <= 3)) || fail "one changed source compiles $compiled: $again"

say 'bare machine: all done'
