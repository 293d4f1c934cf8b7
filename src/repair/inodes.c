/* SPDX-License-Identifier: MIT */

/* The first pass over the tree under repair: which inodes there are. Where only data or entries are left of one, it is made anew, since they are
 * worth more than the attributes. */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "format/time.h"
#include "repair/repair-private.h"

#define PROGRESS_ITEMS 4096u

/* What was seen of the items of one object. */
typedef struct {
    uint64_t object;
    bool has_inode, has_dirents, has_extents, has_nul;
    uint64_t inline_end;   /* without a gap from the start */
    uint64_t n_inline;     /* items */
    uint64_t extent_bytes; /* where the last extent ends */
} Seen;

RepairInode *mapfs_repair_lookup_inode(const MapfsRepair *repair, uint64_t ino) {
    RepairInode *inodes = repair->inodes.data;
    size_t low = 0, high = repair->inodes.n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (inodes[middle].ino == ino)
            return &inodes[middle];
        if (inodes[middle].ino < ino)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

void mapfs_repair_make_inode(const MapfsRepair *repair, uint32_t mode, struct mapfs_disk_inode *ret_inode) {
    struct timespec now;
    struct mapfs_le64 time;

    (void)repair;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with this clock */
    time = mapfs_le64_store(mapfs_time_from_timespec(now));
    *ret_inode = (struct mapfs_disk_inode){.mode = mapfs_le32_store(mode),
                                           .nlink = mapfs_le32_store(S_ISDIR(mode) ? 2 : 1),
                                           .parent = mapfs_le64_store(S_ISDIR(mode) ? MAPFS_INO_ROOT : 0),
                                           .atime = time,
                                           .mtime = time,
                                           .ctime = time,
                                           .btime = time};
}

static int inode_push(MapfsRepair *repair, uint64_t ino, const struct mapfs_disk_inode *inode) {
    const RepairInode kept = {.ino = ino,
                              .parent = mapfs_le64_load(inode->parent),
                              .size = mapfs_le64_load(inode->size),
                              .nlink = mapfs_le32_load(inode->nlink),
                              .type = mapfs_dirent_type_from_mode(mapfs_le32_load(inode->mode))};

    if (ino >= repair->next_ino)
        repair->next_ino = MAPFS_MIN(ino + 1, MAPFS_INO_LIMIT);
    return mapfs_vector_push(&repair->inodes, &kept, sizeof(kept));
}

/* --- one object --- */

static void seen_inline(Seen *seen, const RepairReader *reader) {
    seen->n_inline++;
    if (reader->key.offset == seen->inline_end)
        seen->inline_end += reader->value_len;
    seen->has_nul |= memchr(reader->value, '\0', reader->value_len) != NULL;
}

static void seen_extent(Seen *seen, const RepairReader *reader) {
    struct mapfs_disk_extent extent;

    memcpy(&extent, reader->value, sizeof(extent));
    seen->has_extents = true;
    if (!(mapfs_le32_load(extent.flags) & MAPFS_EXTENT_UNWRITTEN))
        seen->extent_bytes = (reader->key.offset + mapfs_le32_load(extent.n_blocks)) << MAPFS_BLOCK_SHIFT;
}

/* Makes the inode whose other items were found, of the type that they are for. */
static int inode_invent(MapfsRepair *repair, const Seen *seen) {
    const MapfsKey key = {.object = seen->object, .kind = MAPFS_KIND_INODE};
    struct mapfs_disk_inode inode;
    const char *what = "file";
    uint32_t mode = S_IFREG | 0600;
    int r;

    if (seen->has_dirents) {
        mode = S_IFDIR | 0700;
        what = "directory";
    } else if (seen->n_inline > 1 && !seen->has_extents) {
        mode = S_IFLNK | 0777;
        what = "symlink";
    }
    mapfs_repair_make_inode(repair, mode, &inode);
    if (!S_ISDIR(mode))
        inode.size =
            mapfs_le64_store(MAPFS_MIN(seen->has_extents ? seen->extent_bytes : seen->inline_end, MAPFS_FILE_SIZE_MAX));
    if (S_ISLNK(mode) && (seen->inline_end == 0 || seen->inline_end > MAPFS_SYMLINK_LEN_MAX))
        return 0;
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, seen->object,
                     "inode %" PRIu64 " is lost: made a %s of what is left of it, with new attributes", seen->object,
                     what);
    r = mapfs_repair_put(repair, key, &inode, sizeof(inode));
    return r < 0 ? r : inode_push(repair, seen->object, &inode);
}

/* A symlink of which a part is missing leads to somewhere else. */
static void symlink_judge(MapfsRepair *repair, const Seen *seen, RepairInode *inode) {
    bool may_be_cut = seen->inline_end % MAPFS_SYMLINK_CHUNK == 0 && seen->inline_end < inode->size;

    if (inode->nlink == 0 || (seen->inline_end == inode->size && !seen->has_nul))
        return;
    if (seen->inline_end > 0 && seen->inline_end <= MAPFS_SYMLINK_LEN_MAX && !seen->has_nul && !may_be_cut) {
        mapfs_repair_say(repair, MAPFS_REPAIR_LOST, inode->ino,
                         "symlink %" PRIu64 ": its target has %" PRIu64 " bytes, its size was %" PRIu64, inode->ino,
                         seen->inline_end, inode->size);
        return;
    }
    inode->is_dead = true;
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, inode->ino, "symlink %" PRIu64 ": its target is not whole: removed",
                     inode->ino);
}

static int object_finish(MapfsRepair *repair, const Seen *seen) {
    RepairInode *inode;

    if (seen->object == 0 || seen->object >= MAPFS_INO_LIMIT)
        return 0;
    if (!seen->has_inode)
        return seen->has_dirents || seen->has_extents || seen->n_inline > 0 ? inode_invent(repair, seen) : 0;
    inode = (RepairInode *)repair->inodes.data + (repair->inodes.n - 1);
    if (inode->type == DT_LNK)
        symlink_judge(repair, seen, inode);
    return 0;
}

static int object_item(MapfsRepair *repair, Seen *seen, const RepairReader *reader) {
    struct mapfs_disk_inode inode;

    switch (reader->key.kind) {
    case MAPFS_KIND_INODE:
        memcpy(&inode, reader->value, sizeof(inode));
        seen->has_inode = true;
        return reader->key.object == 0 ? 0 : inode_push(repair, reader->key.object, &inode);
    case MAPFS_KIND_INLINE:
        seen_inline(seen, reader);
        return 0;
    case MAPFS_KIND_EXTENT:
        seen_extent(seen, reader);
        return 0;
    case MAPFS_KIND_DIRENT:
        seen->has_dirents = true;
        return 0;
    default:
        return 0;
    }
}

static void orphan_note(const MapfsRepair *repair, const RepairReader *reader) {
    RepairInode *inode = mapfs_repair_lookup_inode(repair, reader->key.offset);
    struct mapfs_disk_orphan orphan;

    memcpy(&orphan, reader->value, sizeof(orphan));
    if (inode)
        inode->orphan = (uint8_t)mapfs_le32_load(orphan.flags);
}

/* --- the root --- */

static int root_make(MapfsRepair *repair) {
    const MapfsKey key = {.object = MAPFS_INO_ROOT, .kind = MAPFS_KIND_INODE};
    struct mapfs_disk_inode inode;
    int r;

    r = mapfs_repair_get(repair, key, &inode, sizeof(inode));
    if (r < 0 && r != -ENOENT)
        return r;
    if (r >= 0 && S_ISDIR(mapfs_le32_load(inode.mode)))
        return 0;
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, MAPFS_INO_ROOT, "there was no root directory: made one");
    mapfs_repair_make_inode(repair, S_IFDIR | 0755, &inode);
    return mapfs_repair_put(repair, key, &inode, sizeof(inode));
}

int mapfs_repair_find_inodes(MapfsRepair *repair) {
    RepairReader reader = {.has_begun = false};
    uint64_t n_items = 0;
    Seen seen = {0};
    int r;

    r = root_make(repair);
    if (r < 0)
        return r;
    while ((r = mapfs_repair_read(repair, &reader)) > 0) {
        if (n_items++ % PROGRESS_ITEMS == 0)
            mapfs_repair_progress(repair, "inodes", n_items, repair->n_items_estimate);
        if (reader.key.object != seen.object) {
            r = object_finish(repair, &seen);
            if (r < 0)
                return r;
            seen = (Seen){.object = reader.key.object};
        }
        if (reader.key.object < MAPFS_INO_LIMIT)
            r = object_item(repair, &seen, &reader);
        else if (reader.key.kind == MAPFS_KIND_ORPHAN)
            orphan_note(repair, &reader);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : object_finish(repair, &seen);
}
