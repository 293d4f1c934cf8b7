/* SPDX-License-Identifier: MIT */

/* Extended attributes: chunks of one follow each other in the tree. */

#include <inttypes.h>
#include <string.h>

#include "check/check-private.h"

#define CHUNK_MASK ((UINT64_C(1) << MAPFS_XATTR_SLOT_SHIFT) - 1)

static MapfsCheckPlace place_of(const MapfsCheck *check, uint64_t block) {
    return (MapfsCheckPlace){.block = block, .object = check->current.object, .ino = check->current.object};
}

/* The chunks of the xattr before must be all there. */
static void chunks_finish(MapfsCheck *check) {
    if (check->current.xattr_left > 0)
        mapfs_check_found(check, MAPFS_PROBLEM_XATTR_CHUNKS, place_of(check, 0),
                          "inode %" PRIu64 ": the last %" PRIu64 " bytes of an extended attribute are missing",
                          check->current.object, check->current.xattr_left);
    check->current.xattr_left = 0;
}

/* The xattr is all there. */
static void xattr_judge(MapfsCheck *check) {
    MapfsCheckCurrent *current = &check->current;
    const uint32_t mode = mapfs_le32_load(current->inode.mode);
    uint32_t said = mode;

    switch (mapfs_acl_reader_judge(&check->acl, &said)) {
    case MAPFS_ACL_BAD:
        mapfs_check_found(check, MAPFS_PROBLEM_ACL, place_of(check, 0),
                          "inode %" PRIu64 ": its %s control list is not valid, or none that it can have",
                          current->object, check->acl.is_access ? "access" : "default access");
        break;
    case MAPFS_ACL_OTHER_MODE:
        mapfs_check_found(check, MAPFS_PROBLEM_ACL_MODE, place_of(check, 0),
                          "inode %" PRIu64 ": its mode is %04" PRIo32 ", its access control list says %04" PRIo32,
                          current->object, mode & 07777, said & 07777);
        break;
    case MAPFS_ACL_GOOD:
        break;
    }
}

static void xattr_begin(MapfsCheck *check, const MapfsCheckItem *item) {
    const MapfsCheckPlace place = place_of(check, item->block);
    const char *name = (const char *)item->value + sizeof(struct mapfs_disk_xattr);
    MapfsCheckCurrent *current = &check->current;
    struct mapfs_disk_xattr xattr;
    uint64_t hash;

    chunks_finish(check);
    memcpy(&xattr, item->value, sizeof(xattr));
    hash = mapfs_xattr_hash(name, xattr.name_len, check->hash_seed);
    if (item->key.offset >> MAPFS_XATTR_HASH_SHIFT != hash)
        mapfs_check_found(check, MAPFS_PROBLEM_XATTR_HASH, place,
                          "inode %" PRIu64 ": xattr \"%.*s\" lies at hash %" PRIx64 ", expected %" PRIx64,
                          current->object, xattr.name_len, name, item->key.offset >> MAPFS_XATTR_HASH_SHIFT, hash);
    else if (mapfs_check_same_name(&check->same, hash, name, xattr.name_len))
        mapfs_check_found(check, MAPFS_PROBLEM_XATTR_TWICE, place, "inode %" PRIu64 " has xattr \"%.*s\" twice",
                          current->object, xattr.name_len, name);
    current->n_xattrs++;
    current->xattr_base = item->key.offset;
    current->xattr_next = 1;
    current->xattr_left = sizeof(xattr) + xattr.name_len + mapfs_le32_load(xattr.value_len) - item->value_len;
    mapfs_acl_reader_begin(&check->acl, item->value, item->value_len);
    if (current->xattr_left == 0)
        xattr_judge(check);
}

void mapfs_check_xattr_item(MapfsCheck *check, const MapfsCheckItem *item) {
    MapfsCheckCurrent *current = &check->current;
    unsigned chunk = (unsigned)(item->key.offset & CHUNK_MASK);

    /* An inode without names may have lost chunks already. */
    if (mapfs_le32_load(current->inode.nlink) == 0)
        return;
    if (chunk == 0) {
        xattr_begin(check, item);
        return;
    }
    if ((item->key.offset & ~CHUNK_MASK) != current->xattr_base || chunk != current->xattr_next ||
        item->value_len != MAPFS_MIN(current->xattr_left, MAPFS_XATTR_CHUNK)) {
        mapfs_check_found(check, MAPFS_PROBLEM_XATTR_CHUNKS, place_of(check, item->block),
                          "inode %" PRIu64 ": chunk %u of an extended attribute is not the one expected",
                          current->object, chunk);
        current->xattr_left = 0;
        return;
    }
    current->xattr_next++;
    current->xattr_left -= item->value_len;
    mapfs_acl_reader_add(&check->acl, item->value, item->value_len);
    if (current->xattr_left == 0)
        xattr_judge(check);
}

void mapfs_check_xattr_finish(MapfsCheck *check) {
    MapfsCheckCurrent *current = &check->current;

    chunks_finish(check);
    if (current->n_xattrs != mapfs_le32_load(current->inode.n_xattrs))
        mapfs_check_found(check, MAPFS_PROBLEM_XATTR_COUNT, place_of(check, 0),
                          "inode %" PRIu64 ": it has %" PRIu64 " extended attributes, it counts %" PRIu32,
                          current->object, current->n_xattrs, mapfs_le32_load(current->inode.n_xattrs));
}
