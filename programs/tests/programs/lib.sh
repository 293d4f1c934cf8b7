# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the scripts of this folder share. They get the mount point as argument, and in the environment WORK (a directory of the host),
# IMAGE, BUILD, MINUTES and MOUNT_OPTIONS.

set -eu -o pipefail
shopt -s inherit_errexit

export LC_ALL=C TZ=UTC
mnt=${1:?}
deadline=$((SECONDS + MINUTES * 60))

fail() {
    echo "$*"
    exit 1
}

skip() {
    echo "$*"
    exit 77
}

need() {
    local program
    for program; do
        command -v "$program" >/dev/null || skip "$program is not installed"
    done
}

time_left() {
    ((SECONDS < deadline))
}

# Names, kinds, modes, owners, sizes, times, link counts and targets of a tree, in order. Sizes and link counts of directories are each
# filesystem's own affair.
list_tree() {
    (cd "$1" && find . -mindepth 1 \( -type d -printf '%P\0 d %m %U %G %T@\n' \) -o \
        -printf '%P\0 %y %m %U %G %s %T@ %n %l\n' | sort -z)
}

# Contents by checksum.
list_contents() {
    (cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum)
}

same_trees() {
    diff <(list_tree "$1") <(list_tree "$2") | head -n 20 || fail "$1 and $2 differ in names or attributes"
    diff <(list_contents "$1") <(list_contents "$2") | head -n 20 || fail "$1 and $2 differ in contents"
}

# kill -9 of the daemon, and a new mount of what it left.
kill_daemon() {
    local pid
    pid=$("$BUILD/mapfs" info --json "$mnt" | sed -n 's/.*"pid" *: *\([0-9]*\).*/\1/p' | head -n 1)
    kill -9 "$pid"
}

mount_again() {
    while mountpoint -q "$mnt"; do umount -l "$mnt"; done
    "$BUILD/mapfs" mount -o "$MOUNT_OPTIONS" "$IMAGE" "$mnt"
}
