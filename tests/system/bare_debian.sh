#!/usr/bin/env bash
# Shows that README's two commands work where nothing is installed: in a bare Debian 12 tree, on a clean clone.
#
# usage: tests/system/bare_debian.sh [--setup-only | --demo-only | --test-only] [--quick] [--keep] [--seconds N]
#   --setup-only   only ./dev setup       --demo-only   only the demo       --test-only   only the tests
#   --quick        ./dev test --quick instead of ./dev test
#   --keep         leave the tree, and print how to enter it
#   --seconds N    how long the demo runs (20)
#
# Needs root and debootstrap, 4 GB under TMPDIR, and a Debian mirror that apt reaches from here: the tree gets this machine's
# Debian 12 sources and its Acquire options (proxies, for example) when it is made. What is cloned is the last commit. All mounts
# live in a mount namespace of their own and end with it, whatever happens.
set -euo pipefail

demo=1 test=1 setup=0 keep=0 seconds=20
test_options=()
arguments=("$@")
while [[ $# -gt 0 ]]; do
  case $1 in
    --setup-only) demo=0 test=0 setup=1 ;;
    --demo-only) test=0 ;;
    --test-only) demo=0 ;;
    --quick) test_options=(--quick) ;;
    --keep) keep=1 ;;
    --seconds) seconds=$2; shift ;;
    *) sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
  esac
  shift
done

say() { printf '== %s\n' "$*"; }
die() { printf 'bare_debian: %s\n' "$*" >&2; exit 1; }

[[ $(id -u) -eq 0 ]] || die "needs root (chroot, mount)"
for tool in debootstrap unshare git apt-get python3; do command -v "$tool" >/dev/null || die "$tool is missing"; done

if [[ -z ${BARE_DEBIAN_TREE:-} ]]; then
  # Outside: make the folder, do everything in namespaces of its own, remove the folder after all its mounts are gone.
  BARE_DEBIAN_TREE=$(mktemp -d "${TMPDIR:-/tmp}/bare-debian.XXXXXX")
  export BARE_DEBIAN_TREE
  finish() {
    # The namespaces' first process takes the rest, and so all mounts, with it. unshare itself ignores milder signals.
    if [[ -n ${inner:-} ]] && kill -KILL "$inner" 2>/dev/null; then wait "$inner" 2>/dev/null || true; fi
    rm -f "$BARE_DEBIAN_TREE.log"
    if [[ $keep -eq 1 ]]; then
      say "kept: chroot $BARE_DEBIAN_TREE (mount its /proc first)"
    else
      rm -rf --one-file-system "$BARE_DEBIAN_TREE"
    fi
  }
  trap finish EXIT
  trap 'exit 130' INT TERM
  unshare --mount --propagation private --pid --fork --kill-child --mount-proc bash "${BASH_SOURCE[0]}" "${arguments[@]}" &
  inner=$!
  status=0
  wait "$inner" || status=$?
  inner=
  exit "$status"
fi

tree=$BARE_DEBIAN_TREE
repository=$(git -C "$(dirname "${BASH_SOURCE[0]}")" rev-parse --show-toplevel)
log=$tree.log
trap 'rm -f "$log"' EXIT

# This machine's way to Debian's packages, read at run time: nothing about it is written down in the project.
sources() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk '$2 ~ /^bookworm(-updates|-security|-backports)?$/ && !seen[$0]++'
}
mirror=$(sources | awk '$2 == "bookworm" {print $1; exit}')
[[ -n $mirror ]] || die "this machine's apt has no Debian 12 (bookworm) source"

say "a bare Debian 12 tree"
start=$SECONDS
bootstrap=(debootstrap --variant=minbase)
case $mirror in https:*) bootstrap+=(--include=ca-certificates) ;; esac
if ! "${bootstrap[@]}" bookworm "$tree" "$mirror" >"$log" 2>&1; then
  tail -n 30 "$log"
  die "debootstrap failed"
fi
sources | awk '{print "deb", $1, $2, $3}' >"$tree/etc/apt/sources.list"
apt-config dump | grep -E '^Acquire::(https?|Check|Retries)' >"$tree/etc/apt/apt.conf.d/99host" || true
cp -L /etc/resolv.conf /etc/hosts "$tree/etc/"
case $mirror in https:*) cp /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/" ;; esac
# Like a fresh image: what is known of packages is what the user's first command fetches.
rm -rf "$tree"/var/lib/apt/lists/* "$tree"/var/cache/apt/archives/*.deb
mount -t proc proc "$tree/proc"
mount -t sysfs -o ro sysfs "$tree/sys"
mkdir -p "$tree/dev/pts" "$tree/dev/shm"
mount -t tmpfs tmpfs "$tree/dev/shm"
mount -t devpts devpts "$tree/dev/pts" || true
say "made in $((SECONDS - start)) s: $(chroot "$tree" dpkg-query -W | wc -l) packages, $(du -sxm "$tree" | cut -f1) MB"
for tool in g++ cmake ninja python3 git curl sudo; do
  if chroot "$tree" /bin/sh -c "command -v $tool" >/dev/null; then die "the tree is not bare: it has $tool"; fi
done

[[ -z $(git -C "$repository" status --porcelain) ]] || say "note: uncommitted changes here are not in the clone"
git clone --quiet --no-hardlinks "file://$repository" "$tree/srv/alcedo"
say "cloned: $(git -C "$repository" log -1 --format='%h %s')"

# Only what a login would give, and the proxies that this machine may need.
environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb)
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALCEDO_JOBS; do
  if [[ -n ${!name:-} ]]; then environment+=("$name=${!name}"); fi
done
inside() { env -i "${environment[@]}" chroot "$tree" /bin/bash -c 'cd /srv/alcedo && exec "$@"' inside "$@" </dev/null; }

failures=0
observe() {  # NAME STATUS SINCE
  say "$1: exit $2 after $((SECONDS - $3)) s; now $(chroot "$tree" dpkg-query -W | wc -l) packages, $(du -sxm "$tree" | cut -f1) MB"
  if [[ $2 -ne 0 ]]; then failures=$((failures + 1)); fi
}

if [[ $setup -eq 1 ]]; then
  say "./dev setup"
  start=$SECONDS status=0
  inside ./dev setup || status=$?
  observe "./dev setup" "$status" "$start"
  say "./dev setup again (must be quiet)"
  inside ./dev setup >"$log" 2>&1 || failures=$((failures + 1))
  if [[ -s $log ]]; then cat "$log"; failures=$((failures + 1)); fi
fi
if [[ $demo -eq 1 ]]; then
  command=(./dev demo --headless --seconds "$seconds" --json)
  say "${command[*]}"
  start=$SECONDS status=0
  inside "${command[@]}" >"$log" || status=$?
  cat "$log"
  observe "${command[*]}" "$status" "$start"
  # stdout must be the summary and nothing else.
  if ! python3 -c 'import json, sys; sys.exit(not isinstance(json.load(sys.stdin), dict))' <"$log" 2>/dev/null; then
    say "stdout is not one JSON object"
    failures=$((failures + 1))
  fi
fi
if [[ $test -eq 1 ]]; then
  command=(./dev test "${test_options[@]}")
  say "${command[*]}"
  start=$SECONDS status=0
  inside "${command[@]}" | tee "$log" || status=$?
  observe "${command[*]}" "$status" "$start"
  if ! tail -n 1 "$log" | grep -qE '^[1-9][0-9]* passed, 0 failed(, [0-9]+ skipped)?$'; then
    say "the last line is not a count without failures"
    failures=$((failures + 1))
  fi
fi
if [[ $failures -eq 0 ]]; then say "all as promised"; else say "$failures broken promises"; fi
[[ $failures -eq 0 ]]
