/* SPDX-License-Identifier: MIT */

/* Extended attributes: one of which a chunk is missing, or whose name lies at the wrong hash, goes as a whole. */

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "repair/repair-private.h"

#define CHUNK_MASK ((UINT64_C(1) << MAPFS_XATTR_SLOT_SHIFT) - 1)

static MapfsKey chunk_key(const RepairCurrent *current, uint64_t offset) {
    return (MapfsKey){.object = current->object, .kind = MAPFS_KIND_XATTR, .offset = offset};
}

/* Takes out the chunks of the current xattr that were found so far. With an access control list goes all that others than the owner may do: which of
 * them may do less than the mode says is not known any more. */
static int xattr_drop(MapfsRepair *repair, RepairCurrent *current, const char *why) {
    bool is_access = repair->acl.is_access && current->inode->type != DT_LNK;
    int r = 0;

    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, current->object,
                     "inode %" PRIu64 ": removed an extended attribute: %s%s", current->object, why,
                     is_access ? "; only the owner has access now" : "");
    if (is_access)
        current->fixed.mode = mapfs_le32_store(mapfs_le32_load(current->fixed.mode) & ~(uint32_t)(S_IRWXG | S_IRWXO));
    for (unsigned chunk = 0; r == 0 && chunk < current->xattr_next; chunk++)
        r = mapfs_repair_remove(repair, chunk_key(current, current->xattr_base + chunk));
    current->xattr_is_dropped = true;
    current->xattr_left = 0;
    current->n_xattrs--;
    return r;
}

int mapfs_repair_finish_xattr(MapfsRepair *repair, RepairCurrent *current) {
    if (current->xattr_left == 0 || current->may_lack)
        return 0;
    return xattr_drop(repair, current, "its end is missing");
}

/* The xattr is all there. Where a list and the mode differ, it is the list that access was decided by. */
static int xattr_judge(MapfsRepair *repair, RepairCurrent *current) {
    const uint32_t mode = mapfs_le32_load(current->fixed.mode);
    uint32_t said = mode;
    MapfsAclVerdict verdict = mapfs_acl_reader_judge(&repair->acl, &said);

    if (verdict == MAPFS_ACL_BAD)
        return xattr_drop(repair, current, "an access control list that is not valid");
    if (verdict == MAPFS_ACL_GOOD)
        return 0;
    current->fixed.mode = mapfs_le32_store(said);
    mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, current->object,
                     "inode %" PRIu64 ": mode is %04" PRIo32 " as its access control list says, was %04" PRIo32,
                     current->object, said & 07777, mode & 07777);
    return 0;
}

/* True when a slot before this one has the same name. */
static bool name_is_taken(const MapfsRepair *repair, const RepairCurrent *current, const RepairReader *reader) {
    const struct mapfs_disk_xattr *xattr = (const void *)reader->value;
    unsigned slot = (unsigned)(reader->key.offset >> MAPFS_XATTR_SLOT_SHIFT) % MAPFS_XATTR_SLOTS;
    union {
        struct mapfs_disk_xattr header;
        uint8_t bytes[MAPFS_VALUE_LEN_MAX];
    } other;

    while (slot-- > 0) {
        uint64_t offset = mapfs_xattr_offset(reader->key.offset >> MAPFS_XATTR_HASH_SHIFT, slot, 0);
        int len = mapfs_repair_get(repair, chunk_key(current, offset), &other, sizeof(other));

        if (len >= (int)sizeof(other.header) + xattr->name_len && other.header.name_len == xattr->name_len &&
            memcmp(other.header.name, xattr->name, xattr->name_len) == 0)
            return true;
    }
    return false;
}

static int xattr_begin(MapfsRepair *repair, RepairCurrent *current, const RepairReader *reader) {
    struct mapfs_disk_xattr xattr;
    const char *name = (const char *)reader->value + sizeof(xattr);
    int r;

    r = mapfs_repair_finish_xattr(repair, current);
    if (r < 0)
        return r;
    memcpy(&xattr, reader->value, sizeof(xattr));
    current->xattr_is_dropped = false;
    current->xattr_base = reader->key.offset;
    current->xattr_next = 1;
    current->xattr_left = sizeof(xattr) + xattr.name_len + mapfs_le32_load(xattr.value_len) - reader->value_len;
    current->n_xattrs++;
    repair->acl.is_access = false; /* what lies elsewhere, or is there already, is not the inode's list */
    if (mapfs_xattr_hash(name, xattr.name_len, repair->hash_seed) != reader->key.offset >> MAPFS_XATTR_HASH_SHIFT)
        return xattr_drop(repair, current, "its name is not the one that belongs there");
    if (name_is_taken(repair, current, reader))
        return xattr_drop(repair, current, "it was there twice");
    mapfs_acl_reader_begin(&repair->acl, reader->value, reader->value_len);
    return current->xattr_left == 0 ? xattr_judge(repair, current) : 0;
}

int mapfs_repair_fix_xattr(MapfsRepair *repair, RepairCurrent *current, const RepairReader *reader) {
    unsigned chunk = (unsigned)(reader->key.offset & CHUNK_MASK);
    bool is_next;
    int r = 0;

    if (current->may_lack)
        return 0;
    if (chunk == 0)
        return xattr_begin(repair, current, reader);
    is_next = (reader->key.offset & ~CHUNK_MASK) == current->xattr_base && chunk == current->xattr_next &&
              reader->value_len == MAPFS_MIN(current->xattr_left, MAPFS_XATTR_CHUNK);
    if (is_next && !current->xattr_is_dropped) {
        current->xattr_next++;
        current->xattr_left -= reader->value_len;
        mapfs_acl_reader_add(&repair->acl, reader->value, reader->value_len);
        return current->xattr_left == 0 ? xattr_judge(repair, current) : 0;
    }
    if (current->xattr_left > 0)
        r = xattr_drop(repair, current, "a part of it is missing");
    if (r < 0)
        return r;
    if (!current->xattr_is_dropped)
        mapfs_repair_say(repair, MAPFS_REPAIR_LOST, current->object,
                         "inode %" PRIu64 ": removed a part of an extended attribute", current->object);
    return mapfs_repair_remove(repair, reader->key);
}
