/* SPDX-License-Identifier: MIT */

/* The second pass: each item is put right, or taken out. */

#include <dirent.h>
#include <inttypes.h>
#include <string.h>

#include "repair/repair-private.h"

#define PROGRESS_ITEMS 4096u

/* --- the inode itself --- */

static void inode_begin(MapfsRepair *repair, RepairCurrent *current, const RepairReader *reader) {
    *current =
        (RepairCurrent){.object = reader->key.object, .inode = mapfs_repair_lookup_inode(repair, reader->key.object)};
    if (reader->key.kind != MAPFS_KIND_INODE)
        return;
    memcpy(&current->stored, reader->value, sizeof(current->stored));
    current->fixed = current->stored;
    current->may_lack = current->inode && current->inode->nlink == 0 && current->inode->orphan & MAPFS_ORPHAN_UNLINKED;
}

static void say_number(MapfsRepair *repair, uint64_t ino, const char *what, struct mapfs_le64 was,
                       struct mapfs_le64 is) {
    /* A size that does not fit its data: one of the two is not what it was. */
    MapfsRepairKind kind = what[0] == 's' ? MAPFS_REPAIR_LOST : MAPFS_REPAIR_FIXED;

    if (was.raw != is.raw)
        mapfs_repair_say(repair, kind, ino, "inode %" PRIu64 ": %s is %" PRIu64 ", was %" PRIu64, ino, what,
                         mapfs_le64_load(is), mapfs_le64_load(was));
}

/* All items of the inode are seen. */
static int inode_finish(MapfsRepair *repair, RepairCurrent *current) {
    const MapfsKey key = {.object = current->object, .kind = MAPFS_KIND_INODE};
    const struct mapfs_disk_inode *stored = &current->stored;
    struct mapfs_disk_inode *fixed = &current->fixed;
    int r;

    if (!current->inode || current->inode->is_dead)
        return 0;
    r = mapfs_repair_finish_xattr(repair, current);
    if (r < 0)
        return r;
    fixed->n_blocks = mapfs_le64_store(current->n_blocks);
    say_number(repair, current->object, "number of blocks", stored->n_blocks, fixed->n_blocks);
    if (!current->may_lack) {
        fixed->n_xattrs = mapfs_le32_store((uint32_t)current->n_xattrs);
        /* The target of a deleted symlink may be gone already. */
        if (current->has_inline || (current->inode->type == DT_LNK && current->inode->nlink > 0))
            fixed->size = mapfs_le64_store(current->n_inline);
        say_number(repair, current->object, "size", stored->size, fixed->size);
        say_number(repair, current->object, "number of extended attributes",
                   mapfs_le64_store(mapfs_le32_load(stored->n_xattrs)), mapfs_le64_store(current->n_xattrs));
    }
    if (memcmp(stored, fixed, sizeof(*fixed)) == 0)
        return 0;
    return mapfs_repair_put(repair, key, fixed, sizeof(*fixed));
}

/* --- inline data --- */

static int fix_inline(MapfsRepair *repair, RepairCurrent *current, const RepairReader *reader) {
    if (current->inode->type == DT_LNK) {
        /* What was not whole is dead already; what is left may only be too long. */
        if (reader->key.offset == current->n_inline || current->may_lack) {
            current->n_inline = reader->key.offset + reader->value_len;
            return 0;
        }
        return mapfs_repair_remove(repair, reader->key);
    }
    if (reader->key.offset == 0) {
        current->has_inline = true;
        current->n_inline = reader->value_len;
        return 0;
    }
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, current->object,
                     "file %" PRIu64 ": removed %zu bytes of inline data that stand apart", current->object,
                     reader->value_len);
    return mapfs_repair_remove(repair, reader->key);
}

/* --- one item --- */

static int fix_inode_item(MapfsRepair *repair, RepairCurrent *current, RepairReader *reader) {
    if (!current->inode || current->inode->is_dead) {
        if (!current->inode || reader->key.kind != MAPFS_KIND_INODE)
            mapfs_repair_say(repair, MAPFS_REPAIR_LOST, current->object,
                             "removed an item of kind %u of inode %" PRIu64 ", which is not there", reader->key.kind,
                             current->object);
        return mapfs_repair_remove(repair, reader->key);
    }
    if (!mapfs_item_fits_type(reader->key.kind, current->inode->type)) {
        mapfs_repair_say(repair, MAPFS_REPAIR_LOST, current->object,
                         "inode %" PRIu64 ": removed an item of kind %u, which one of its type cannot have",
                         current->object, reader->key.kind);
        return mapfs_repair_remove(repair, reader->key);
    }
    switch (reader->key.kind) {
    case MAPFS_KIND_XATTR:
        return mapfs_repair_fix_xattr(repair, current, reader);
    case MAPFS_KIND_INLINE:
        return fix_inline(repair, current, reader);
    case MAPFS_KIND_EXTENT:
        return mapfs_repair_fix_extent(repair, current, reader);
    case MAPFS_KIND_DIRENT:
        return mapfs_repair_fix_dirent(repair, current, reader);
    default:
        return 0;
    }
}

/* Of the system's items, summaries of groups whose bitmaps stay are right; others are made at the end. */
static int fix_system_item(MapfsRepair *repair, const RepairReader *reader) {
    const RepairGroup *group;

    switch (reader->key.kind) {
    case MAPFS_KIND_ORPHAN:
        return 0;
    case MAPFS_KIND_GROUP:
        group = mapfs_repair_lookup_group(repair, reader->key.offset);
        return group && group->is_kept ? 0 : mapfs_repair_remove(repair, reader->key);
    case MAPFS_KIND_PENDING:
    case MAPFS_KIND_SHARED:
        return mapfs_repair_remove(repair, reader->key);
    default:
        mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, 0, "removed an item of kind %u, which this version does not use",
                         reader->key.kind);
        return mapfs_repair_remove(repair, reader->key);
    }
}

int mapfs_repair_fix_items(MapfsRepair *repair) {
    RepairReader reader = {.has_begun = false};
    RepairCurrent current = {0};
    uint64_t n_items = 0;
    int r;

    while ((r = mapfs_repair_read(repair, &reader)) > 0) {
        bool is_inode = reader.key.object < MAPFS_INO_LIMIT;

        if (n_items++ % PROGRESS_ITEMS == 0)
            mapfs_repair_progress(repair, "items", n_items, repair->n_items_estimate);
        if (n_items == 1 || current.object != reader.key.object) {
            r = inode_finish(repair, &current);
            if (r < 0)
                return r;
            inode_begin(repair, &current, &reader);
        }
        r = is_inode ? fix_inode_item(repair, &current, &reader) : fix_system_item(repair, &reader);
        if (r < 0)
            return r;
    }
    return r < 0 ? r : inode_finish(repair, &current);
}
