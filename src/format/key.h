/* SPDX-License-Identifier: MIT */
#pragma once

/* Keys of the tree: (object, kind, offset), compared in this order. An object is an inode, or one of the system objects
 * above 2^63. */

#include <stdbool.h>
#include <stdint.h>

/* Kinds of items. The number orders the items of one object. */
#define MAPFS_KIND_INODE 1u    /* offset 0: struct mapfs_disk_inode */
#define MAPFS_KIND_XATTR 2u    /* offset: hash, slot, chunk (mapfs_xattr_offset): struct mapfs_disk_xattr or its rest */
#define MAPFS_KIND_INLINE 3u   /* offset: byte offset of the chunk: raw bytes of a small file or a symlink's target */
#define MAPFS_KIND_EXTENT 4u   /* offset: first block within the file: struct mapfs_disk_extent */
#define MAPFS_KIND_DIRENT 5u   /* offset: hash and slot, also the readdir cookie: struct mapfs_disk_dirent */
#define MAPFS_KIND_CHECKSUM 6u /* offset: block within the file: room for checksums of data, not used by version 1 */
#define MAPFS_KIND_GROUP 16u   /* object GROUPS, offset: block group: struct mapfs_disk_group */
#define MAPFS_KIND_ORPHAN 17u  /* object ORPHANS, offset: inode: struct mapfs_disk_orphan */
#define MAPFS_KIND_SHARED 18u  /* object SHARED, offset: first block of the image: struct mapfs_disk_shared */
#define MAPFS_KIND_SNAPSHOT 19u /* object SNAPSHOTS, offset: generation: struct mapfs_disk_snapshot */
#define MAPFS_KIND_PENDING \
    20u /* object PENDING + generation, offset: first run's block: struct mapfs_disk_pending_run[] */

#define MAPFS_INO_ROOT UINT64_C(1)
/* Inode numbers stay below; room is left for node ids of inodes in snapshots. */
#define MAPFS_INO_LIMIT (UINT64_C(1) << 48)

#define MAPFS_OBJECT_SYSTEM (UINT64_C(1) << 63)
#define MAPFS_OBJECT_GROUPS (MAPFS_OBJECT_SYSTEM + 1)
#define MAPFS_OBJECT_ORPHANS (MAPFS_OBJECT_SYSTEM + 2)
#define MAPFS_OBJECT_SHARED (MAPFS_OBJECT_SYSTEM + 3)
#define MAPFS_OBJECT_SNAPSHOTS (MAPFS_OBJECT_SYSTEM + 4)
/* Pending frees of generation G lie at object PENDING + G, so that the oldest are the first. */
#define MAPFS_OBJECT_PENDING (MAPFS_OBJECT_SYSTEM + (UINT64_C(1) << 62))

typedef struct {
    uint64_t object;
    uint64_t offset;
    uint8_t kind;
} MapfsKey;

static inline int mapfs_key_compare(MapfsKey a, MapfsKey b) {
    if (a.object != b.object)
        return a.object < b.object ? -1 : 1;
    if (a.kind != b.kind)
        return a.kind < b.kind ? -1 : 1;
    if (a.offset != b.offset)
        return a.offset < b.offset ? -1 : 1;
    return 0;
}
