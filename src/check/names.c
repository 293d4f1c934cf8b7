/* SPDX-License-Identifier: MIT */

/* Names against inodes: link counts, parents, reachability, orphans. */

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>

#include "check/check-private.h"

/* MapfsCheckInode.visited */
#define VISITED_NO 0u
#define VISITED_NOW 1u
#define VISITED_REACHED 2u
#define VISITED_LOST 3u

static MapfsCheckPlace place_of(uint64_t ino) {
    return (MapfsCheckPlace){.object = ino, .ino = ino};
}

static MapfsCheckInode *inode_at(const MapfsCheck *check, size_t index) {
    return (MapfsCheckInode *)check->inodes.data + index;
}

MapfsCheckInode *mapfs_check_lookup_inode(const MapfsCheck *check, uint64_t ino) {
    size_t low = 0, high = check->inodes.n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        MapfsCheckInode *inode = inode_at(check, middle);

        if (inode->ino == ino)
            return inode;
        if (inode->ino < ino)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void name_count(MapfsCheck *check, const MapfsCheckName *name) {
    MapfsCheckInode *directory = inode_at(check, name->directory);
    MapfsCheckInode *inode = mapfs_check_lookup_inode(check, name->ino);

    if (!inode) {
        mapfs_check_found(check, MAPFS_PROBLEM_DIRENT_TARGET, place_of(directory->ino),
                          "directory %" PRIu64 " names inode %" PRIu64 ", which does not exist", directory->ino,
                          name->ino);
        return;
    }
    inode->n_names++;
    if (inode->type != name->type)
        mapfs_check_found(check, MAPFS_PROBLEM_DIRENT_TYPE, place_of(directory->ino),
                          "directory %" PRIu64 " names inode %" PRIu64 " with type %u, which has type %u",
                          directory->ino, name->ino, name->type, inode->type);
    if (inode->type != DT_DIR)
        return;
    directory->n_subdirectories++;
    if (inode->parent != directory->ino)
        mapfs_check_found(check, MAPFS_PROBLEM_DIRECTORY_PARENT, place_of(inode->ino),
                          "directory %" PRIu64 " has parent %" PRIu64 ", but directory %" PRIu64 " names it",
                          inode->ino, inode->parent, directory->ino);
}

/* Whether an orphan item allows a written extent past the end of its file. */
static bool orphan_covers(const MapfsCheckOrphan *orphan, const MapfsCheckBeyond *beyond) {
    if (!orphan)
        return false;
    return orphan->flags & MAPFS_ORPHAN_UNLINKED || beyond->logical << MAPFS_BLOCK_SHIFT >= orphan->cut;
}

static int orphan_compare(const void *key, const void *element) {
    uint64_t ino = *(const uint64_t *)key;
    const MapfsCheckOrphan *orphan = element;

    return ino < orphan->ino ? -1 : ino > orphan->ino;
}

static void check_beyond(MapfsCheck *check) {
    const MapfsCheckBeyond *beyond = check->beyond.data;

    for (size_t i = 0; i < check->beyond.n; i++) {
        const MapfsCheckOrphan *orphan = NULL;

        if (check->orphans.n > 0)
            orphan = bsearch(&beyond[i].ino, check->orphans.data, check->orphans.n, sizeof(*orphan), orphan_compare);
        if (!orphan_covers(orphan, &beyond[i]))
            mapfs_check_found(check, MAPFS_PROBLEM_EXTENT_BEYOND, place_of(beyond[i].ino),
                              "file %" PRIu64 ": its block %" PRIu64 " lies past its end", beyond[i].ino,
                              beyond[i].logical);
    }
}

static void check_orphans(MapfsCheck *check) {
    const MapfsCheckOrphan *orphans = check->orphans.data;

    for (size_t i = 0; i < check->orphans.n; i++) {
        MapfsCheckInode *inode = mapfs_check_lookup_inode(check, orphans[i].ino);

        if (!inode) {
            mapfs_check_found(check, MAPFS_PROBLEM_ORPHAN, place_of(orphans[i].ino),
                              "there is an orphan item of inode %" PRIu64 ", which does not exist", orphans[i].ino);
            continue;
        }
        inode->unlinked = orphans[i].flags & MAPFS_ORPHAN_UNLINKED;
        if (orphans[i].flags & MAPFS_ORPHAN_TRUNCATED && inode->type != DT_REG)
            mapfs_check_found(check, MAPFS_PROBLEM_ORPHAN, place_of(orphans[i].ino),
                              "an orphan item wants to truncate inode %" PRIu64 ", which is no file", orphans[i].ino);
    }
}

static void check_root(MapfsCheck *check) {
    const MapfsCheckInode *root = mapfs_check_lookup_inode(check, MAPFS_INO_ROOT);

    if (!root || root->type != DT_DIR) {
        mapfs_check_found(check, MAPFS_PROBLEM_ROOT, place_of(MAPFS_INO_ROOT), "there is no root directory");
        return;
    }
    if (root->parent != MAPFS_INO_ROOT || root->n_names > 0 || root->unlinked)
        mapfs_check_found(check, MAPFS_PROBLEM_ROOT, place_of(MAPFS_INO_ROOT),
                          "the root directory has parent %" PRIu64 " and %" PRIu32 " names", root->parent,
                          root->n_names);
}

static void check_links(MapfsCheck *check, const MapfsCheckInode *inode) {
    const MapfsCheckPlace place = place_of(inode->ino);
    uint64_t expected = inode->n_names;

    if (inode->type == DT_DIR && (inode->n_names > 0 || inode->ino == MAPFS_INO_ROOT))
        expected = UINT64_C(2) + inode->n_subdirectories;
    if (inode->nlink != expected)
        mapfs_check_found(check, MAPFS_PROBLEM_LINK_COUNT, place,
                          "inode %" PRIu64 " has link count %" PRIu32 ", expected %" PRIu64, inode->ino, inode->nlink,
                          expected);
    if (inode->unlinked != (inode->nlink == 0))
        mapfs_check_found(check, MAPFS_PROBLEM_UNLINKED, place,
                          inode->unlinked ? "inode %" PRIu64 " has links, but an orphan item says that it has none"
                                          : "inode %" PRIu64 " has no links and no orphan item",
                          inode->ino);
    if (inode->type == DT_DIR && inode->ino != MAPFS_INO_ROOT && inode->n_names != 1 && inode->nlink > 0)
        mapfs_check_found(check, MAPFS_PROBLEM_DIRECTORY_NAMES, place,
                          "directory %" PRIu64 " has %" PRIu32 " names, expected one", inode->ino, inode->n_names);
}

/* Follows parents from a directory up to one that is known, then marks all on the way as that one: each is visited twice. */
static void directory_visit(MapfsCheck *check, MapfsCheckInode *directory) {
    MapfsCheckInode *at = directory;
    uint8_t verdict;

    while (at && at->type == DT_DIR && at->visited == VISITED_NO) {
        at->visited = VISITED_NOW;
        at = at->ino == MAPFS_INO_ROOT ? at : mapfs_check_lookup_inode(check, at->parent);
    }
    if (at && at->ino == MAPFS_INO_ROOT && at->type == DT_DIR)
        verdict = VISITED_REACHED;
    else
        verdict = at && at->type == DT_DIR && at->visited == VISITED_REACHED ? VISITED_REACHED : VISITED_LOST;
    at = directory;
    while (at && at->type == DT_DIR && at->visited == VISITED_NOW) {
        at->visited = verdict;
        at = at->ino == MAPFS_INO_ROOT ? NULL : mapfs_check_lookup_inode(check, at->parent);
    }
}

static void check_reachable(MapfsCheck *check) {
    for (size_t i = 0; i < check->inodes.n; i++) {
        MapfsCheckInode *directory = inode_at(check, i);

        if (directory->type != DT_DIR || directory->nlink == 0)
            continue;
        directory_visit(check, directory);
        if (directory->visited == VISITED_LOST)
            mapfs_check_found(check, MAPFS_PROBLEM_DIRECTORY_UNREACHABLE, place_of(directory->ino),
                              "directory %" PRIu64 " is not reached from the root", directory->ino);
    }
}

void mapfs_check_names(MapfsCheck *check) {
    const MapfsCheckName *names = check->names.data;

    for (size_t i = 0; i < check->names.n; i++)
        name_count(check, &names[i]);
    mapfs_check_progress(check, "names", 1, 2);
    check_orphans(check);
    check_beyond(check);
    check_root(check);
    for (size_t i = 0; i < check->inodes.n; i++)
        check_links(check, inode_at(check, i));
    check_reachable(check);
    mapfs_check_progress(check, "names", 2, 2);
}
