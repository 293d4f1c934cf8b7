/* SPDX-License-Identifier: MIT */
#pragma once

/* Extended attributes in the tree. An attribute is a header, its name and its value, one after the other, cut into
 * chunks; names with the same hash share a bucket of MAPFS_XATTR_SLOTS slots. The tree is held, for changes locked
 * for writing. */

#include "fs/fs-private.h"

#define MAPFS_XATTR_CAPABILITY "security.capability"
/* The kernel's struct has 20 or 24 bytes. More is refused, so that a capability is always a single item. */
#define MAPFS_XATTR_CAPABILITY_MAX 1024u

/* An attribute as found. */
typedef struct {
    uint64_t offset; /* of the key of chunk 0 */
    uint32_t value_len;
    uint8_t name_len;
} MapfsXattr;

static inline MapfsKey mapfs_xattr_key(uint64_t ino, uint64_t offset) {
    return (MapfsKey){.object = ino, .kind = MAPFS_KIND_XATTR, .offset = offset};
}

/* Items that an attribute takes. */
static inline unsigned mapfs_xattr_n_chunks(size_t name_len, size_t value_len) {
    return (unsigned)((sizeof(struct mapfs_disk_xattr) + name_len + value_len + MAPFS_XATTR_CHUNK - 1) /
                      MAPFS_XATTR_CHUNK);
}

/* Chunks of the longest value with the longest name. */
#define MAPFS_XATTR_CHUNKS_MAX                                                                                \
    ((sizeof(struct mapfs_disk_xattr) + MAPFS_NAME_LEN_MAX + MAPFS_XATTR_VALUE_MAX + MAPFS_XATTR_CHUNK - 1) / \
     MAPFS_XATTR_CHUNK)

/* The key where the search for a name begins. */
MapfsKey mapfs_xattr_name_key(const MapfsFs *fs, uint64_t ino, const char *name, size_t name_len);

/* Reads an item of chunk 0: 0 or -EUCLEAN. *ret_name points into the tree. */
int mapfs_xattr_parse(const MapfsItem *item, MapfsXattr *ret_xattr, const char **ret_name) MAPFS_MUST_USE;

/* 1 and the attribute, or 0 and in *ret_xattr the offset of a free slot (UINT64_MAX when the bucket is full), or
 * -errno. */
int mapfs_xattr_lookup(MapfsFs *fs, uint64_t ino, const char *name, size_t name_len,
                       MapfsXattr *ret_xattr) MAPFS_MUST_USE;

/* Whether a loaded inode can have one more attribute with a name of this length: 0, or -ENOSPC when nobody could list its names any more. */
int mapfs_xattr_check_room(MapfsFs *fs, uint64_t ino, const struct mapfs_disk_inode *inode,
                           size_t name_len) MAPFS_MUST_USE;

/* Copies the value of a found attribute out and returns its length; the buffer is long enough. -EUCLEAN when parts are missing. */
int mapfs_xattr_read(const MapfsTree *tree, uint64_t ino, const MapfsXattr *xattr, uint8_t *buffer) MAPFS_MUST_USE;

/* The same for security.capability; one of more than a single item is -EUCLEAN. */
int mapfs_xattr_lookup_capability(MapfsFs *fs, uint64_t ino, MapfsXattr *ret_xattr) MAPFS_MUST_USE;

/* Runs a record that removes security.capability if the loaded inode has it: 1, 0 or -errno. Two changes. */
int mapfs_xattr_remove_capability(MapfsFs *fs, MapfsTxn *txn, uint64_t ino,
                                  const struct mapfs_disk_inode *inode) MAPFS_MUST_USE;
