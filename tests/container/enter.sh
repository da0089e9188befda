#!/usr/bin/env bash
# Runs a command in a root file system as a container engine would: as process 1 of its own process, mount, IPC
# and host-name namespaces, and with a network of its own that has nothing but the loopback interface.
#
#   enter.sh ROOT [--network] [--scratch FOLDER] [--read-only] [--volume HOST:GUEST]... [--directory FOLDER]
#            [--user UID:GID] -- COMMAND...
#
# --network     the machine's network, for build steps
# --scratch     an empty folder: changes to ROOT go into memory, mounted there, and vanish with the namespaces
# --read-only   ROOT itself cannot be written; --volume is always read-only
# --user        also drops every capability and forbids gaining any
set -euo pipefail

if [ -z "${SERVABLE_TEST_ENTERED:-}" ]; then
  network=--net
  for option in "$@"; do
    case $option in --) break ;; --network) network= ;; esac
  done
  export SERVABLE_TEST_ENTERED=1
  exec unshare --mount --pid --ipc --uts $network --fork --kill-child -- "$0" "$@"
fi

root=$1
shift
network='' scratch='' read_only='' directory=/ user='' volumes=()
while [ "$1" != -- ]; do
  case $1 in
    --network) ;;
    --read-only) read_only=1 ;;
    --scratch) scratch=$2 && shift ;;
    --volume) volumes+=("$2") && shift ;;
    --directory) directory=$2 && shift ;;
    --user) user=$2 && shift ;;
    *) echo "enter.sh: unknown option $1" >&2 && exit 2 ;;
  esac
  shift
done
shift

if [ -n "$scratch" ]; then
  mount -t tmpfs tmpfs "$scratch"
  mkdir "$scratch"/{changes,work,root}
  mount -t overlay overlay -o "lowerdir=$root,upperdir=$scratch/changes,workdir=$scratch/work" "$scratch/root"
  root=$scratch/root
else
  mount --bind "$root" "$root"
fi
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
for volume in "${volumes[@]}"; do
  from=${volume%%:*} to=$root${volume#*:}
  if [ -d "$from" ]; then mkdir -p "$to"; else mkdir -p "${to%/*}" && touch "$to"; fi
  mount --bind "$from" "$to"
  mount -o remount,bind,ro "$to"
done
if [ -n "$read_only" ]; then mount -o remount,ro "$root"; fi
if [ -z "$network" ]; then ip link set lo up; fi
unset SERVABLE_TEST_ENTERED

drop=()
if [ -n "$user" ]; then
  drop=(setpriv "--reuid=${user%:*}" "--regid=${user#*:}" --clear-groups --no-new-privs --bounding-set=-all
    --pdeathsig=KILL) # a change of user clears what unshare's --kill-child had set
fi
exec chroot "$root" env "--chdir=$directory" "${drop[@]}" "$@"
