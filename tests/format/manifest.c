/* SPDX-License-Identifier: MIT */

#include "manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check/walk.h"
#include "format/checksum.h"
#include "format/items.h"
#include "format/superblock.h"

typedef struct {
    MapfsImage *image;
    Manifest *manifest;
    uint64_t size; /* of the file whose extents are read */
} Loader;

static int loader_enter(void *user, MapfsNodeRef ref) {
    (void)user;
    (void)ref;
    return 1; /* nothing is wrong with the image, so that no node comes twice */
}

static int loader_gap(void *user, MapfsNodeRef ref, const MapfsWalkRange *range, MapfsProblemNumber number,
                      const char *message) {
    (void)user;
    (void)range;
    (void)number;
    (void)fprintf(stderr, "an image without problems has a node that cannot be read: block %lu, %s\n",
                  (unsigned long)ref.address.n, message);
    exit(2);
}

static void mix(uint64_t *hash, const void *bytes, size_t len) {
    *hash = mapfs_hash(bytes, len, *hash);
}

static void load_inode(Loader *loader, const MapfsCheckItem *item) {
    ManifestInode kept = {.ino = item->key.object};
    struct mapfs_disk_inode inode;

    memcpy(&inode, item->value, sizeof(inode));
    loader->size = mapfs_le64_load(inode.size);
    kept.nlink = mapfs_le32_load(inode.nlink);
    /* These follow from others, and lost+found changes the root's. */
    inode.nlink = inode.n_xattrs = mapfs_le32_store(0);
    inode.n_blocks = inode.parent = mapfs_le64_store(0);
    if ((mapfs_le32_load(inode.mode) & 0170000) == 0040000)
        inode.size = mapfs_le64_store(0);
    mix(&kept.attributes, &inode, sizeof(inode));
    g_array_append_val(loader->manifest->inodes, kept);
}

static void load_extent(Loader *loader, const MapfsCheckItem *item, ManifestInode *inode) {
    static const uint8_t zeros[MAPFS_BLOCK_SIZE];
    struct mapfs_disk_extent extent;
    ManifestBlock block = {.ino = item->key.object, .is_data = true};

    memcpy(&extent, item->value, sizeof(extent));
    if (mapfs_le32_load(extent.flags) & MAPFS_EXTENT_UNWRITTEN)
        return;
    block.start = mapfs_le64_load(extent.block);
    block.n_blocks = mapfs_le32_load(extent.n_blocks);
    g_array_append_val(loader->manifest->blocks, block);
    for (uint64_t i = 0; i < block.n_blocks; i++) {
        const void *bytes = mapfs_image_read(loader->image, (MapfsRun){{block.start + i}, 1});
        uint64_t logical = item->key.offset + i, start = logical << MAPFS_BLOCK_SHIFT;

        if (start >= loader->size || memcmp(bytes, zeros, sizeof(zeros)) == 0)
            continue;
        mix(&inode->data, &logical, sizeof(logical));
        mix(&inode->data, bytes, MAPFS_MIN(loader->size - start, MAPFS_BLOCK_SIZE));
    }
}

static int loader_item(void *user, const MapfsCheckItem *item) {
    Loader *loader = user;
    ManifestBlock leaf = {.ino = item->key.object, .start = item->block, .n_blocks = 1};
    ManifestInode *inode;

    if (item->key.object >= MAPFS_INO_LIMIT)
        return 0;
    g_array_append_val(loader->manifest->blocks, leaf);
    if (item->key.kind == MAPFS_KIND_INODE) {
        load_inode(loader, item);
        return 0;
    }
    inode = &g_array_index(loader->manifest->inodes, ManifestInode, loader->manifest->inodes->len - 1);
    if (item->key.kind == MAPFS_KIND_EXTENT) {
        load_extent(loader, item, inode);
    } else if (item->key.kind == MAPFS_KIND_INLINE) {
        mix(&inode->data, &item->key.offset, sizeof(item->key.offset));
        mix(&inode->data, item->value, item->value_len);
    } else if (item->key.kind == MAPFS_KIND_XATTR) {
        mix(&inode->attributes, &item->key.offset, sizeof(item->key.offset));
        mix(&inode->attributes, item->value, item->value_len);
    } else if (!memmem(item->value, item->value_len, "lost+found", 10)) {
        /* Without the type, which is the inode's. */
        mix(&inode->entries, item->value, sizeof(uint64_t));
        mix(&inode->entries, (const uint8_t *)item->value + sizeof(struct mapfs_disk_dirent),
            item->value_len - sizeof(struct mapfs_disk_dirent));
    }
    return 0;
}

void manifest_load(Manifest *manifest, MapfsImage *image) {
    struct mapfs_disk_superblock slots[MAPFS_SUPERBLOCK_SLOTS];
    MapfsSuperblockVerdict verdicts[MAPFS_SUPERBLOCK_SLOTS];
    Loader loader = {.image = image, .manifest = manifest};
    const MapfsWalkOps ops = {.enter = loader_enter, .gap = loader_gap, .item = loader_item, .user = &loader};
    MapfsWalkTree tree;
    int chosen;

    manifest->inodes = g_array_new(FALSE, FALSE, sizeof(ManifestInode));
    manifest->blocks = g_array_new(FALSE, FALSE, sizeof(ManifestBlock));
    memcpy(slots, image->base, sizeof(slots));
    for (unsigned i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++)
        verdicts[i] = mapfs_superblock_judge(&slots[i]);
    chosen = mapfs_superblock_choose(slots, verdicts, image->base, image->n_blocks);
    if (chosen < 0)
        exit(2);
    tree = (MapfsWalkTree){.root = {{mapfs_le64_load(slots[chosen].root_address)},
                                    {mapfs_le64_load(slots[chosen].root_generation)},
                                    (uint8_t)mapfs_le32_load(slots[chosen].root_level)},
                           .n_blocks = mapfs_le64_load(slots[chosen].n_blocks),
                           .checksum_seed = mapfs_le64_load(slots[chosen].checksum_seed)};
    if (mapfs_walk_run(image, &tree, &ops) < 0)
        exit(2);
}

void manifest_clear(Manifest *manifest) {
    g_array_unref(manifest->inodes);
    g_array_unref(manifest->blocks);
}

const ManifestInode *manifest_lookup(const Manifest *manifest, uint64_t ino) {
    for (guint i = 0; i < manifest->inodes->len; i++)
        if (g_array_index(manifest->inodes, ManifestInode, i).ino == ino)
            return &g_array_index(manifest->inodes, ManifestInode, i);
    return NULL;
}

bool manifest_touches(const Manifest *manifest, uint64_t ino, uint64_t block, bool is_data) {
    for (guint i = 0; i < manifest->blocks->len; i++) {
        const ManifestBlock *at = &g_array_index(manifest->blocks, ManifestBlock, i);

        if (at->ino == ino && at->is_data == is_data && block >= at->start && block - at->start < at->n_blocks)
            return true;
    }
    return false;
}
