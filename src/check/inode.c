/* SPDX-License-Identifier: MIT */

/* The items of one inode, one after the other, and what must hold among them. */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "check/check-private.h"

static MapfsCheckPlace place_of(const MapfsCheck *check, uint64_t block) {
    return (MapfsCheckPlace){.block = block, .object = check->current.object, .ino = check->current.object};
}

bool mapfs_check_same_name(MapfsCheckSameHash *same, uint64_t hash, const char *name, uint8_t name_len) {
    if (same->n > 0 && same->hash != hash)
        same->n = 0;
    same->hash = hash;
    for (unsigned i = 0; i < same->n; i++)
        if (same->lengths[i] == name_len && memcmp(same->names[i], name, name_len) == 0)
            return true;
    if (same->n < MAPFS_N_ELEMENTS(same->lengths)) {
        same->lengths[same->n] = name_len;
        memcpy(same->names[same->n], name, name_len);
        same->n++;
    }
    return false;
}

static int inode_begin(MapfsCheck *check, const MapfsCheckItem *item) {
    MapfsCheckCurrent *current = &check->current;
    MapfsCheckInode kept;

    memcpy(&current->inode, item->value, sizeof(current->inode));
    current->exists = true;
    current->type = mapfs_dirent_type_from_mode(mapfs_le32_load(current->inode.mode));
    check->same.n = 0;
    if (check->inodes.n >= UINT32_MAX)
        return -EFBIG;
    current->index = (uint32_t)check->inodes.n;
    check->report->n_inodes++;
    check->report->n_directories += current->type == DT_DIR;
    if (item->key.object >= mapfs_le64_load(check->superblock.next_ino))
        mapfs_check_found(check, MAPFS_PROBLEM_INODE_NUMBER, place_of(check, item->block),
                          "inode %" PRIu64 " exists, but the next new one is to be %" PRIu64, item->key.object,
                          mapfs_le64_load(check->superblock.next_ino));
    kept = (MapfsCheckInode){.ino = item->key.object,
                             .parent = mapfs_le64_load(current->inode.parent),
                             .nlink = mapfs_le32_load(current->inode.nlink),
                             .type = current->type};
    return mapfs_vector_push(&check->inodes, &kept, sizeof(kept));
}

void mapfs_check_inline_item(MapfsCheck *check, const MapfsCheckItem *item) {
    MapfsCheckCurrent *current = &check->current;

    if (current->type == DT_LNK && memchr(item->value, '\0', item->value_len))
        mapfs_check_found(check, MAPFS_PROBLEM_SYMLINK, place_of(check, item->block),
                          "symlink %" PRIu64 ": its target holds a NUL", current->object);
    /* A symlink without names may have lost the beginning of its target already. */
    if (item->key.offset != current->n_inline_bytes && mapfs_le32_load(current->inode.nlink) > 0)
        mapfs_check_found(
            check, current->type == DT_LNK ? MAPFS_PROBLEM_SYMLINK : MAPFS_PROBLEM_INLINE, place_of(check, item->block),
            "inode %" PRIu64 ": a gap before inline data at offset %" PRIu64, current->object, item->key.offset);
    current->n_inline_bytes = item->key.offset + item->value_len;
}

int mapfs_check_extent_item(MapfsCheck *check, const MapfsCheckItem *item) {
    MapfsCheckCurrent *current = &check->current;
    const MapfsCheckPlace place = place_of(check, item->block);
    uint64_t end_of_file = mapfs_blocks_for_bytes(mapfs_le64_load(current->inode.size));
    struct mapfs_disk_extent extent;
    uint64_t start = item->key.offset, end;
    uint32_t n_blocks;
    MapfsRun run;
    int r;

    memcpy(&extent, item->value, sizeof(extent));
    n_blocks = mapfs_le32_load(extent.n_blocks);
    end = start + n_blocks;
    if (start < current->extent_end)
        mapfs_check_found(check, MAPFS_PROBLEM_EXTENT_OVERLAP, place,
                          "file %" PRIu64 ": the extent of its block %" PRIu64 " begins within the one before",
                          current->object, start);
    current->extent_end = MAPFS_MAX(current->extent_end, end);
    current->n_blocks += n_blocks;
    check->report->n_data_blocks += n_blocks;
    if (mapfs_le64_load(extent.birth_generation) > check->generation ||
        mapfs_le64_load(extent.birth_epoch) > check->epoch)
        mapfs_check_found(
            check, MAPFS_PROBLEM_EXTENT_YOUNG, place,
            "file %" PRIu64 ": the extent of its block %" PRIu64 " was born in generation %" PRIu64 ", epoch %" PRIu64,
            current->object, start, mapfs_le64_load(extent.birth_generation), mapfs_le64_load(extent.birth_epoch));
    if (end > end_of_file && !(mapfs_le32_load(extent.flags) & MAPFS_EXTENT_UNWRITTEN)) {
        const MapfsCheckBeyond beyond = {.ino = current->object, .logical = MAPFS_MAX(start, end_of_file)};

        r = mapfs_vector_push(&check->beyond, &beyond, sizeof(beyond));
        if (r < 0)
            return r;
    }
    run = (MapfsRun){.start = {mapfs_le64_load(extent.block)}, .n_blocks = n_blocks};
    if ((mapfs_le32_load(extent.flags) & MAPFS_EXTENT_SHARED) && mapfs_run_fits(run, check->n_blocks))
        return mapfs_check_shared_extent(check, run);
    r = mapfs_check_claim(check, run, place, "extent");
    return r < 0 ? r : 0;
}

int mapfs_check_dirent_item(MapfsCheck *check, const MapfsCheckItem *item) {
    const MapfsCheckPlace place = place_of(check, item->block);
    const char *name = (const char *)item->value + sizeof(struct mapfs_disk_dirent);
    struct mapfs_disk_dirent dirent;
    MapfsCheckName kept;
    uint64_t hash;

    memcpy(&dirent, item->value, sizeof(dirent));
    hash = mapfs_dirent_hash(name, dirent.name_len, check->hash_seed);
    if (item->key.offset >> MAPFS_DIRENT_SLOT_SHIFT != hash)
        mapfs_check_found(check, MAPFS_PROBLEM_DIRENT_HASH, place,
                          "directory %" PRIu64 ": \"%.*s\" lies at hash %" PRIx64 ", expected %" PRIx64,
                          check->current.object, dirent.name_len, name, item->key.offset >> MAPFS_DIRENT_SLOT_SHIFT,
                          hash);
    else if (mapfs_check_same_name(&check->same, hash, name, dirent.name_len))
        mapfs_check_found(check, MAPFS_PROBLEM_DIRENT_TWICE, place, "directory %" PRIu64 " has \"%.*s\" twice",
                          check->current.object, dirent.name_len, name);
    check->current.n_entries++;
    check->report->n_names++;
    kept = (MapfsCheckName){.ino = mapfs_le64_load(dirent.ino), .directory = check->current.index, .type = dirent.type};
    return mapfs_vector_push(&check->names, &kept, sizeof(kept));
}

int mapfs_check_inode_item(MapfsCheck *check, const MapfsCheckItem *item) {
    MapfsCheckCurrent *current = &check->current;
    int r;

    if (item->key.kind == MAPFS_KIND_INODE)
        return inode_begin(check, item);
    if (!current->exists) {
        if (!current->stray && !current->damaged)
            mapfs_check_found(check, MAPFS_PROBLEM_ITEM_STRAY, place_of(check, item->block),
                              "there are items of inode %" PRIu64 ", which does not exist", current->object);
        current->stray = true;
        check->report->incomplete = true;
        return 0;
    }
    if (!mapfs_item_fits_type(item->key.kind, current->type)) {
        mapfs_check_found(check, MAPFS_PROBLEM_ITEM_MISPLACED, place_of(check, item->block),
                          "inode %" PRIu64 " with directory entry type %u has an item of kind %u", current->object,
                          current->type, item->key.kind);
        check->report->incomplete = true;
        return 0;
    }
    switch (item->key.kind) {
    case MAPFS_KIND_INLINE:
        mapfs_check_inline_item(check, item);
        return 0;
    case MAPFS_KIND_EXTENT:
        r = mapfs_check_extent_item(check, item);
        break;
    case MAPFS_KIND_DIRENT:
        r = mapfs_check_dirent_item(check, item);
        break;
    default:
        mapfs_check_xattr_item(check, item);
        return 0;
    }
    return r;
}

static void finish_data(MapfsCheck *check, const struct mapfs_disk_inode *inode) {
    const MapfsCheckCurrent *current = &check->current;
    const MapfsCheckPlace place = place_of(check, 0);
    uint64_t size = mapfs_le64_load(inode->size);

    if (current->type == DT_LNK && current->n_inline_bytes != size)
        mapfs_check_found(check, MAPFS_PROBLEM_SYMLINK, place,
                          "symlink %" PRIu64 ": its target has %" PRIu64 " bytes, its size is %" PRIu64,
                          current->object, current->n_inline_bytes, size);
    if (current->type != DT_REG || current->n_inline_bytes == 0)
        return;
    if (current->n_inline_bytes != size)
        mapfs_check_found(check, MAPFS_PROBLEM_INLINE, place,
                          "file %" PRIu64 ": %" PRIu64 " bytes of inline data, its size is %" PRIu64, current->object,
                          current->n_inline_bytes, size);
    if (current->n_blocks > 0)
        mapfs_check_found(check, MAPFS_PROBLEM_INLINE, place, "file %" PRIu64 " has extents beside inline data",
                          current->object);
}

void mapfs_check_inode_finish(MapfsCheck *check) {
    MapfsCheckCurrent *current = &check->current;
    const struct mapfs_disk_inode *inode = &current->inode;
    const MapfsCheckPlace place = place_of(check, 0);

    if (!current->exists || current->damaged)
        return;
    if (current->n_blocks != mapfs_le64_load(inode->n_blocks))
        mapfs_check_found(check, MAPFS_PROBLEM_INODE_BLOCKS, place,
                          "file %" PRIu64 ": its extents have %" PRIu64 " blocks, it counts %" PRIu64, current->object,
                          current->n_blocks, mapfs_le64_load(inode->n_blocks));
    if (current->type == DT_DIR && current->n_entries != mapfs_le64_load(inode->size))
        mapfs_check_found(check, MAPFS_PROBLEM_DIRECTORY_SIZE, place,
                          "directory %" PRIu64 ": it has %" PRIu64 " entries, it counts %" PRIu64, current->object,
                          current->n_entries, mapfs_le64_load(inode->size));
    if (current->type == DT_DIR && mapfs_le32_load(inode->nlink) == 0 && current->n_entries > 0)
        mapfs_check_found(check, MAPFS_PROBLEM_ORPHAN, place,
                          "directory %" PRIu64 " has no links, but %" PRIu64 " entries", current->object,
                          current->n_entries);
    /* An inode without names may be half reclaimed. */
    if (mapfs_le32_load(inode->nlink) == 0)
        return;
    mapfs_check_xattr_finish(check);
    finish_data(check, inode);
}
