# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the scripts of this folder share. They get the mount point as argument, and in the environment WORK (a directory of the host),
# IMAGE, BUILD, DURATION in seconds, MOUNT_OPTIONS, and PEER, which is empty on mapfs.

set -eu -o pipefail
shopt -s inherit_errexit

export LC_ALL=C TZ=UTC
mnt=${1:?}
deadline=$((SECONDS + DURATION))
# Little time: little to work on.
brief=$((DURATION < 60))

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

# scaled LONG BRIEF
scaled() {
    if ((brief)); then echo "$2"; else echo "$1"; fi
}

# Names, kinds, modes, owners, sizes, times, link counts and targets of a tree, in order. Sizes and link counts of directories are each
# filesystem's own affair.
list_tree() {
    (cd "$1" && find . -mindepth 1 \( -type d -printf '%P: d %m %U %G %T@\0' \) -o \
        -printf '%P: %y %m %U %G %s %T@ %n %l\0' | sort -z | tr '\0' '\n')
}

# Contents by checksum.
list_contents() {
    (cd "$1" && find . -type f -print0 | sort -z | xargs -0r sha256sum)
}

same_trees() {
    diff -a <(list_tree "$1") <(list_tree "$2") | head -n 20 || fail "$1 and $2 differ in names or attributes"
    diff -a <(list_contents "$1") <(list_contents "$2") | head -n 20 || fail "$1 and $2 differ in contents"
}

# kill -9 of the daemon, which has the image's path in its command line. The brackets: not another pgrep, which has it as well.
kill_daemon() {
    local pid
    pid=$(pgrep -f -- "[m]apfs mount .*$IMAGE" | head -n 1) || fail "there is no daemon of $IMAGE to kill"
    kill -9 "$pid"
}

# Checks what a killed daemon left, and mounts it again.
mount_again() {
    local status=0
    # mountpoint(1) does not take what a dead daemon leaves for a mount.
    while findmnt -M "$mnt" >/dev/null; do umount -l "$mnt"; done
    "$BUILD/fsck.mapfs" -n "$IMAGE" >"$WORK/fsck" 2>&1 || status=$?
    ((status == 0)) || fail "after a kill: fsck says $status: $(head -n 5 "$WORK/fsck")"
    "$BUILD/mapfs" mount -o "$MOUNT_OPTIONS" "$IMAGE" "$mnt" || fail "after a kill: no mount"
}
