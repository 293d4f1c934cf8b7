/* SPDX-License-Identifier: MIT */
#include "tools/superblock.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"

void mapfs_superblock_pair_load(const MapfsImage *image, MapfsSuperblockPair *ret_pair) {
    /* From the last slot to the first, so that the note that remains is of the first. */
    for (int i = (int)MAPFS_SUPERBLOCK_SLOTS - 1; i >= 0; i--) {
        const MapfsRun run = {.start = {(uint64_t)i}, .n_blocks = 1};
        const void *bytes = mapfs_image_read(image, run);

        if (bytes)
            memcpy(&ret_pair->slots[i], bytes, sizeof ret_pair->slots[i]);
        else
            memset(&ret_pair->slots[i], 0, sizeof ret_pair->slots[i]);
        ret_pair->verdicts[i] = mapfs_superblock_judge(&ret_pair->slots[i]);
        ret_pair->is_misplaced[i] = ret_pair->verdicts[i] == MAPFS_SUPERBLOCK_VALID &&
                                    !mapfs_superblock_is_placed(&ret_pair->slots[i], (unsigned)i);
    }
    ret_pair->newest = mapfs_superblock_choose(ret_pair->slots, ret_pair->verdicts, image->base, image->n_blocks);
}

int mapfs_superblock_pair_check_known(const MapfsSuperblockPair *pair) {
    int r = 0;

    for (unsigned slot = 0; r == 0 && slot < MAPFS_SUPERBLOCK_SLOTS; slot++) {
        if (pair->verdicts[slot] == MAPFS_SUPERBLOCK_VERSION)
            r = -EPROTONOSUPPORT;
        else if (pair->verdicts[slot] == MAPFS_SUPERBLOCK_UNSUPPORTED)
            r = -EOPNOTSUPP;
        if (r < 0)
            (void)mapfs_superblock_judge(&pair->slots[slot]); /* the note alone is wanted */
    }
    return r;
}

/* The error of an image without a valid slot: the one that says most. */
static int pair_error(const MapfsSuperblockPair *pair) {
    static const struct {
        MapfsSuperblockVerdict verdict;
        int error;
    } errors[] = {
        {MAPFS_SUPERBLOCK_DAMAGED, -EUCLEAN},
        {MAPFS_SUPERBLOCK_FOREIGN, -EMEDIUMTYPE},
        {MAPFS_SUPERBLOCK_EMPTY, -ENODATA},
    };

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(errors); i++)
        for (unsigned slot = 0; slot < MAPFS_SUPERBLOCK_SLOTS; slot++)
            if (pair->verdicts[slot] == errors[i].verdict)
                return errors[i].error;
    return -EUCLEAN;
}

/* Copies and judges both slots of an image that is not open. */
static int pair_read(const char *path, uint64_t offset_bytes, MapfsSuperblockPair *ret_pair) {
    const MapfsImageOpen how = {.offset_bytes = offset_bytes, .read_only = true};
    MapfsImage *image;
    int r;

    r = mapfs_image_open_file(path, &how, &image);
    if (r < 0)
        return r;
    mapfs_damage_clear();
    mapfs_superblock_pair_load(image, ret_pair);
    mapfs_image_close(image);
    return 0;
}

int mapfs_superblock_lookup_misplaced(const char *path, uint64_t offset_bytes) {
    MapfsSuperblockPair pair;

    if (pair_read(path, offset_bytes, &pair) < 0 || pair.newest >= 0)
        return -1;
    return pair.is_misplaced[0] ? 0 : pair.is_misplaced[1] ? 1 : -1;
}

int mapfs_superblock_read(const char *path, uint64_t offset_bytes, struct mapfs_disk_superblock *ret_superblock) {
    MapfsSuperblockPair pair;
    int r;

    r = pair_read(path, offset_bytes, &pair);
    if (r == 0)
        r = mapfs_superblock_pair_check_known(&pair);
    if (r < 0)
        return r;
    if (pair.newest < 0)
        return pair_error(&pair);
    *ret_superblock = pair.slots[pair.newest];
    return 0;
}
