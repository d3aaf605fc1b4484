#!/usr/bin/env bash
# Does what docs/operations.md says, word for word, on a fresh Debian 12 with a systemd of its own, and lets a
# browser do the whole job there through nginx over https. Run as root in a checkout: docs/deploy/rehearse.sh
#
# What runs are the page's blocks marked `sh step`, in their order, in one shell's state. Only the first, marked
# `yours`, gets other values. Blocks marked `online` reach the package registries; all else, and every
# service, lives in a network of its own that holds nothing but loopback. During those marked `steady` the site is
# asked twenty times a second, and no request may fail. The checkout's last commit is installed, with what
# is changed in files that git knows. Nothing is left behind, however it ends.
set -euo pipefail
cd "$(dirname "$0")/../.."

begin=$SECONDS
host=i2i.example.com
page=docs/operations.md

fail() {
  echo "rehearse: $*" >&2
  exit 1
}

say() {
  printf '== %3d s  %s\n' $((SECONDS - begin)) "$*"
}

[ "$(id -u)" -eq 0 ] || fail "Only root can start a machine. Run: sudo $0"
for program in debootstrap systemd-nspawn nsenter chromium; do
  command -v "$program" >/dev/null ||
    fail "$program is missing. Install it: apt-get install debootstrap systemd-container chromium"
done
make --no-print-directory .venv/.test
exec 8>/run/lock/i2i-rehearsal
flock --nonblock 8 || fail "Another rehearsal is running here."

work=$(mktemp -d /var/tmp/i2i-rehearsal.XXXXXX)
machine=$work/machine
mkdir "$work/blocks"
builder= container= leader= asker=

clean_up() {
  status=$?
  trap - EXIT
  [ "$status" -eq 0 ] || [ -z "$leader" ] || show_logs
  for child in $builder $asker; do kill -TERM "$child" 2>/dev/null || true; done
  [ -z "$leader" ] || kill -KILL "$leader" 2>/dev/null || true # its namespace ends with it
  [ -z "$container" ] || { kill -TERM "$container" 2>/dev/null || true; wait "$container" 2>/dev/null || true; }
  rm -rf --one-file-system "$work"
  remove_groups
  exit "$status"
}

# The machine's empty control groups, where no systemd of this machine removes them. Left in one
# hierarchy of two, they would keep the next machine from making its own in the other.
remove_groups() {
  for group in /sys/fs/cgroup/{systemd,unified}/{payload,supervisor}; do
    [ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done
}

show_logs() {
  echo "rehearse: failed; the last lines of the machine's journal:" >&2
  inside journalctl --no-pager --lines=60 >&2 || true
}

clean=(env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive
  PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)

# A program inside the machine, in its network of nothing but loopback.
inside() {
  nsenter --target "$leader" --all -- "${clean[@]}" "$@"
}

# The same, but in this machine's network and with its ways to the package registries.
inside_online() {
  nsenter --target "$leader" --mount --uts --ipc --pid --cgroup -- "${clean[@]}" \
    PIP_CERT=/mnt/certificates.pem ${PIP_INDEX_URL:+"PIP_INDEX_URL=$PIP_INDEX_URL"} \
    ${http_proxy:+"http_proxy=$http_proxy"} ${https_proxy:+"https_proxy=$https_proxy"} "$@"
}

# A program of the checkout's, in the machine's network, where the site's name leads to it.
beside() {
  nsenter --target "$leader" --net -- unshare --mount -- \
    sh -euc 'mount --bind "$0" /etc/hosts; exec "$@"' "$machine/etc/hosts" \
    env "I2I_JOURNEY_URL=https://$host" \
    "I2I_JOURNEY_CERTIFICATE=$machine/etc/letsencrypt/live/$host/fullchain.pem" "$@"
}

# One block of the page, with the variables and the folder that the ones before have left.
run_block() { # file mark
  local run=inside
  [ "$2" != online ] || run=inside_online
  {
    echo 'set -euo pipefail; cd; ! [ -e /run/rehearsal ] || . /run/rehearsal'
    cat "$1"
    echo 'declare -p REPOSITORY HOST ADMIN >/run/rehearsal; echo "cd $(printf %q "$PWD")" >>/run/rehearsal'
  } >"$machine/mnt/block"
  "$run" bash /mnt/block </dev/null
}

# Twenty requests a second until stop_asking, which tells how many there were and fails if one has.
start_asking() {
  beside .venv/bin/python docs/deploy/ask_steadily.py "$work/enough" >"$work/asked" 2>&1 </dev/null &
  asker=$!
  until grep -q '^asking' "$work/asked"; do
    kill -0 "$asker" 2>/dev/null || fail "Nobody could ask: $(cat "$work/asked")"
    sleep 0.1
  done
}

stop_asking() {
  sleep 1
  local status=0
  touch "$work/enough"
  wait "$asker" || status=$?
  rm "$work/enough"
  asker=
  say "$(tail -n +2 "$work/asked")"
  [ "$status" -eq 0 ] || fail "Requests failed while the services were restarted."
}

trap clean_up EXIT
trap 'exit 1' INT TERM HUP

say "a fresh Debian 12"
debootstrap --variant=minbase --include=systemd-sysv,dbus bookworm "$machine" http://deb.debian.org/debian \
  >"$work/debootstrap.log" 2>&1 &
builder=$!
wait "$builder" || { tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap failed."; }
builder=
cat >"$machine/etc/apt/sources.list" <<'END'
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian bookworm-updates main
deb http://deb.debian.org/debian-security bookworm-security main
END
echo 'Acquire::Retries "5";' >"$machine/etc/apt/apt.conf.d/80-retries"
cp -L /etc/resolv.conf "$machine/etc/resolv.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$machine/mnt/certificates.pem"
printf '127.0.0.1 localhost %s\n::1 localhost\n' "$host" >"$machine/etc/hosts"
echo i2i >"$machine/etc/hostname"

git init -q --bare "$machine/mnt/repository.git"
git update-index -q --refresh || true # without, a copied checkout seems changed, and `stash create` fails
commit=$(git -c user.name=rehearsal -c user.email=rehearsal@localhost stash create)
git push -q "$machine/mnt/repository.git" "${commit:-HEAD}:refs/heads/main"
git -C "$machine/mnt/repository.git" symbolic-ref HEAD refs/heads/main

say "systemd starts"
remove_groups # of a rehearsal that was killed
systemd-nspawn --directory="$machine" --boot --private-network --register=no --keep-unit \
  --resolv-conf=off --timezone=off --link-journal=no --console=pipe >"$work/console.log" 2>&1 </dev/null &
container=$!
for _ in $(seq 300); do
  leader=$(pgrep -P "$container" || true)
  [ -n "$leader" ] && inside systemctl is-system-running >/dev/null 2>&1 && break
  sleep 0.2
done
[ -n "$leader" ] || { cat "$work/console.log" >&2; fail "The machine did not start."; }

.venv/bin/python - "$page" "$work/blocks" <<'END'
import re
import sys
from pathlib import Path

page, folder = map(Path, sys.argv[1:])
blocks = re.findall(r"^```sh step ?(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
assert len(blocks) > 10, "the page was not understood"
assert blocks[0][0] == "yours"
assert re.findall(r"^(\w+)=", blocks[0][1], re.MULTILINE) == ["REPOSITORY", "HOST", "ADMIN"]
for number, (mark, text) in enumerate(blocks):
    (folder / f"{number:02}-{mark or 'here'}").write_text(text)
END

for block in "$work"/blocks/*; do
  mark=${block##*-}
  if [ "$mark" = yours ]; then
    printf 'REPOSITORY=/mnt/repository.git\nHOST=%s\nADMIN=you@example.com\n' "$host" >"$block"
  fi
  say "$(grep -v '^#' "$block" | head -n 1)"
  [ "$mark" != steady ] || start_asking
  run_block "$block" "$mark" >"$work/output" 2>&1 ||
    fail "This block of $page failed: $(cat "$block" && tail -n 40 "$work/output")"
  [ "$mark" != steady ] || stop_asking
done

say "the units hold what they take away"
for unit in i2i-web i2i-worker i2i-practice; do
  main=$(inside systemctl show --value --property=MainPID "$unit")
  inside sh -c "
    [ \"\$(ps -o user= -p $main 2>/dev/null || stat -c %U /proc/$main)\" = i2i_app ] &&
    grep -q '^NoNewPrivs:.1' /proc/$main/status && grep -q '^Seccomp:.2' /proc/$main/status &&
    grep -q '^CapBnd:.0*\$' /proc/$main/status" || fail "$unit runs with more rights than its unit gives."
  ! inside nsenter --target "$main" --mount -- touch /srv/i2i/app/touched /etc/touched 2>/dev/null ||
    fail "$unit could write to the program's folder."
done

inside systemd-analyze verify i2i-web.socket i2i-web.service i2i-worker.service i2i-practice.service
for unit in i2i-web i2i-worker i2i-practice; do
  inside systemd-analyze security --no-pager --threshold=15 "$unit.service" >"$work/output" 2>&1 ||
    fail "$(tail -n 1 "$work/output") docs/security.md says 1.4 and 1.5."
done

say "a browser does the whole job at https://$host"
for email in mara@example.com other@example.com; do
  echo "a long enough sentence" | inside i2i users create "$email" --password-stdin >/dev/null
done
beside .venv/bin/python -m pytest -q tests/browser/test_journey.py

for unit in i2i-web i2i-worker i2i-practice; do
  [ "$(inside systemctl show --value --property=NRestarts "$unit")" = 0 ] || fail "$unit had to be started again."
done
[ -z "$(inside systemctl --failed --no-legend)" ] || fail "Failed: $(inside systemctl --failed --no-legend)"
say "rehearsed: docs/operations.md holds"
