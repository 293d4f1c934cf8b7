/* SPDX-License-Identifier: MIT */

/* Names against inodes, when all entries are settled: misplaced names, circles of directories, lost+found, link counts, parents, orphans. */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "repair/repair-private.h"

/* RepairInode.visited */
#define VISITED_NO 0u
#define VISITED_NOW 1u
#define VISITED_DONE 2u

#define LOST_AND_FOUND_TRIES 100u

static RepairInode *inode_at(const MapfsRepair *repair, size_t index) {
    return (RepairInode *)repair->inodes.data + index;
}

static int names_store(MapfsRepair *repair) {
    const RepairName *names = repair->names.data;

    for (size_t i = 0; i < repair->names.n; i++) {
        int r = mapfs_repair_add_name(repair, &names[i]);

        if (r < 0)
            return r;
        mapfs_repair_say(repair, r > 0 ? MAPFS_REPAIR_FIXED : MAPFS_REPAIR_LOST, names[i].directory,
                         "directory %" PRIu64 ": the entry \"%.*s\" of inode %" PRIu64 " lay at the wrong hash: %s",
                         names[i].directory, names[i].name_len, names[i].name, names[i].ino,
                         r > 0 ? "moved" : "removed");
    }
    return 0;
}

/* --- circles --- */

static int circle_cut(MapfsRepair *repair, RepairInode *directory) {
    RepairInode *above = mapfs_repair_lookup_inode(repair, directory->named_in);

    mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, directory->ino, "directory %" PRIu64 " lay below itself: taken out",
                     directory->ino);
    if (above) {
        above->n_entries--;
        above->n_subdirectories--;
    }
    directory->n_names--;
    directory->named_in = 0;
    return mapfs_repair_unname(repair, above ? above->ino : 0, directory->ino);
}

/* Follows the way up to what is known; what meets itself is cut there. */
static int directory_visit(MapfsRepair *repair, RepairInode *directory) {
    RepairInode *at = directory;
    int r = 0;

    while (at && at->visited == VISITED_NO) {
        at->visited = VISITED_NOW;
        at = at->named_in ? mapfs_repair_lookup_inode(repair, at->named_in) : NULL;
    }
    if (at && at->visited == VISITED_NOW)
        r = circle_cut(repair, at);
    at = directory;
    while (at && at->visited == VISITED_NOW) {
        at->visited = VISITED_DONE;
        at = at->named_in ? mapfs_repair_lookup_inode(repair, at->named_in) : NULL;
    }
    return r;
}

static int circles_cut(MapfsRepair *repair) {
    int r = 0;

    for (size_t i = 0; r == 0 && i < repair->inodes.n; i++)
        if (inode_at(repair, i)->type == DT_DIR && !inode_at(repair, i)->is_dead)
            r = directory_visit(repair, inode_at(repair, i));
    return r;
}

/* --- lost+found --- */

/* A name for the directory that is free or a directory's already. *ret_ino is 0 in the first case. */
static int lost_and_found_name(const MapfsRepair *repair, RepairName *name, uint64_t *ret_ino) {
    *name = (RepairName){.directory = MAPFS_INO_ROOT};
    for (unsigned i = 0; i < LOST_AND_FOUND_TRIES; i++) {
        const RepairInode *found;
        int r;

        name->name_len = (uint8_t)(i == 0 ? snprintf(name->name, sizeof(name->name), "lost+found")
                                          : snprintf(name->name, sizeof(name->name), "lost+found.%u", i));
        r = mapfs_repair_find_name(repair, MAPFS_INO_ROOT, name->name, ret_ino);
        if (r < 0)
            return r;
        found = *ret_ino ? mapfs_repair_lookup_inode(repair, *ret_ino) : NULL;
        if (!found || found->type == DT_DIR)
            return 0;
    }
    return -EEXIST;
}

/* The number of the directory, which is made if there is none. The table of inodes may move. */
static int lost_and_found(MapfsRepair *repair, uint64_t *ret_ino) {
    struct mapfs_disk_inode inode;
    RepairInode kept = {.type = DT_DIR, .nlink = 2, .parent = MAPFS_INO_ROOT, .visited = VISITED_DONE};
    RepairName name;
    int r;

    r = lost_and_found_name(repair, &name, ret_ino);
    if (r < 0 || *ret_ino != 0)
        return r;
    if (repair->next_ino >= MAPFS_INO_LIMIT)
        return -ENOSPC;
    kept.ino = name.ino = repair->next_ino++;
    mapfs_repair_make_inode(repair, S_IFDIR | 0700, &inode);
    r = mapfs_repair_put(repair, (MapfsKey){.object = kept.ino, .kind = MAPFS_KIND_INODE}, &inode, sizeof(inode));
    if (r == 0)
        r = mapfs_vector_push(&repair->inodes, &kept, sizeof(kept));
    if (r == 0)
        r = mapfs_repair_add_name(repair, &name);
    *ret_ino = kept.ino;
    return MAPFS_MIN(r, 0);
}

static int adopt(MapfsRepair *repair, uint64_t ino) {
    RepairName name = {.ino = ino};
    uint64_t directory;
    int r;

    r = lost_and_found(repair, &directory);
    if (r < 0)
        return r;
    name.directory = directory;
    for (unsigned i = 0; i < LOST_AND_FOUND_TRIES; i++) {
        name.name_len = (uint8_t)(i == 0 ? snprintf(name.name, sizeof(name.name), "#%" PRIu64, ino)
                                         : snprintf(name.name, sizeof(name.name), "#%" PRIu64 ".%u", ino, i));
        r = mapfs_repair_add_name(repair, &name);
        if (r != 0)
            break;
    }
    if (r > 0)
        mapfs_repair_say(repair, MAPFS_REPAIR_MOVED, ino, "inode %" PRIu64 " had no name: it is lost+found/%.*s", ino,
                         name.name_len, name.name);
    return r == 0 ? -EEXIST : MAPFS_MIN(r, 0);
}

static int orphan_put(MapfsRepair *repair, uint64_t ino, uint32_t flags) {
    const MapfsKey key = {.object = MAPFS_OBJECT_ORPHANS, .kind = MAPFS_KIND_ORPHAN, .offset = ino};
    struct mapfs_disk_orphan orphan = {.cut = mapfs_le64_store(0)};
    int len;

    len = mapfs_repair_get(repair, key, &orphan, sizeof(orphan));
    if (len < 0 && len != -ENOENT)
        return len;
    orphan.flags = mapfs_le32_store(flags);
    if (!(flags & MAPFS_ORPHAN_TRUNCATED))
        orphan.cut = mapfs_le64_store(0);
    return flags ? mapfs_repair_put(repair, key, &orphan, sizeof(orphan)) : mapfs_repair_remove(repair, key);
}

/* An inode without names: half deleted, and to be deleted, or lost. */
static int settle_nameless(MapfsRepair *repair, RepairInode *inode) {
    bool was_deleted = inode->nlink == 0 && inode->n_entries == 0;

    if (!was_deleted)
        return adopt(repair, inode->ino);
    if (inode->orphan & MAPFS_ORPHAN_UNLINKED)
        return 0;
    mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, inode->ino, "inode %" PRIu64 " was deleted: its rest goes too",
                     inode->ino);
    inode->orphan |= MAPFS_ORPHAN_UNLINKED;
    return orphan_put(repair, inode->ino, inode->orphan);
}

static int nameless_settle(MapfsRepair *repair) {
    int r = 0;

    /* lost+found itself comes last, with its name. */
    for (size_t i = 0; r == 0 && i < repair->inodes.n; i++) {
        RepairInode *inode = inode_at(repair, i);

        if (inode->n_names == 0 && inode->ino != MAPFS_INO_ROOT && !inode->is_dead)
            r = settle_nameless(repair, inode);
    }
    return r;
}

/* --- numbers --- */

static uint64_t expected_links(const RepairInode *inode) {
    if (inode->type == DT_DIR && (inode->n_names > 0 || inode->ino == MAPFS_INO_ROOT))
        return UINT64_C(2) + inode->n_subdirectories;
    return inode->n_names;
}

static int inode_settle(MapfsRepair *repair, const RepairInode *inode) {
    const MapfsKey key = {.object = inode->ino, .kind = MAPFS_KIND_INODE};
    uint64_t n_links = MAPFS_MIN(expected_links(inode), MAPFS_LINK_MAX);
    uint64_t parent = inode->ino == MAPFS_INO_ROOT ? MAPFS_INO_ROOT : inode->named_in;
    bool is_directory = inode->type == DT_DIR;
    struct mapfs_disk_inode stored;
    int r;

    /* An orphan's parent may be the one that it had. */
    if (!is_directory || (inode->n_names == 0 && inode->ino != MAPFS_INO_ROOT))
        parent = inode->parent;
    if (inode->nlink == n_links && inode->parent == parent && (!is_directory || inode->size == inode->n_entries))
        return 0;
    r = mapfs_repair_get(repair, key, &stored, sizeof(stored));
    if (r != (int)sizeof(stored))
        return r < 0 ? r : -EUCLEAN;
    if (inode->nlink != n_links)
        mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, inode->ino,
                         "inode %" PRIu64 ": link count is %" PRIu64 ", was %" PRIu32, inode->ino, n_links,
                         inode->nlink);
    if (inode->parent != parent)
        mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, inode->ino,
                         "directory %" PRIu64 ": parent is %" PRIu64 ", was %" PRIu64, inode->ino, parent,
                         inode->parent);
    if (is_directory && inode->size != inode->n_entries)
        mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, inode->ino,
                         "directory %" PRIu64 ": number of entries is %" PRIu64 ", was %" PRIu64, inode->ino,
                         inode->n_entries, inode->size);
    stored.nlink = mapfs_le32_store((uint32_t)n_links);
    stored.parent = mapfs_le64_store(parent);
    if (is_directory)
        stored.size = mapfs_le64_store(inode->n_entries);
    return mapfs_repair_put(repair, key, &stored, sizeof(stored));
}

/* --- orphans --- */

static int orphan_settle(MapfsRepair *repair, uint64_t ino, uint32_t flags) {
    const RepairInode *inode = mapfs_repair_lookup_inode(repair, ino);
    uint32_t right = flags;

    if (!inode || inode->is_dead)
        right = 0;
    else if (inode->n_names > 0 || ino == MAPFS_INO_ROOT)
        right &= ~MAPFS_ORPHAN_UNLINKED;
    if (inode && inode->type != DT_REG)
        right &= ~MAPFS_ORPHAN_TRUNCATED;
    if (right == flags)
        return 0;
    mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, ino, "orphan item of inode %" PRIu64 ": flags are %u, were %u", ino,
                     right, flags);
    return orphan_put(repair, ino, right);
}

static int orphans_settle(MapfsRepair *repair) {
    RepairReader reader = {.next = {.object = MAPFS_OBJECT_ORPHANS}};
    int r;

    while ((r = mapfs_repair_read(repair, &reader)) > 0 && reader.key.object == MAPFS_OBJECT_ORPHANS) {
        struct mapfs_disk_orphan orphan;

        memcpy(&orphan, reader.value, sizeof(orphan));
        r = orphan_settle(repair, reader.key.offset, mapfs_le32_load(orphan.flags));
        if (r < 0)
            return r;
    }
    return MAPFS_MIN(r, 0);
}

int mapfs_repair_fix_links(MapfsRepair *repair) {
    int r;

    mapfs_repair_progress(repair, "names", 0, 2);
    r = names_store(repair);
    if (r == 0)
        r = circles_cut(repair);
    if (r == 0)
        r = nameless_settle(repair);
    mapfs_repair_progress(repair, "names", 1, 2);
    for (size_t i = 0; r == 0 && i < repair->inodes.n; i++)
        if (!inode_at(repair, i)->is_dead)
            r = inode_settle(repair, inode_at(repair, i));
    return r < 0 ? r : orphans_settle(repair);
}
