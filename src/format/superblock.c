/* SPDX-License-Identifier: MIT */

#include "format/superblock.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "format/checksum.h"
#include "format/key.h"
#include "format/node.h"
#include "format/zero.h"

uint64_t mapfs_superblock_checksum(const struct mapfs_disk_superblock *superblock) {
    return mapfs_hash_sealed(superblock, sizeof(*superblock), 0);
}

void mapfs_superblock_seal(struct mapfs_disk_superblock *superblock) {
    superblock->checksum = mapfs_le64_store(mapfs_superblock_checksum(superblock));
}

static int superblock_check_log(const struct mapfs_disk_superblock *superblock) {
    uint64_t n_blocks = mapfs_le64_load(superblock->n_blocks);
    uint64_t start = mapfs_le64_load(superblock->log_start);
    uint64_t length = mapfs_le64_load(superblock->log_blocks);

    if (n_blocks < MAPFS_IMAGE_BLOCKS_MIN || n_blocks > MAPFS_IMAGE_BLOCKS_MAX)
        return mapfs_damage(0, "superblock", "an image cannot have %" PRIu64 " blocks", n_blocks);
    if (length < MAPFS_LOG_BLOCKS_MIN || length > MAPFS_LOG_BLOCKS_MAX)
        return mapfs_damage(0, "superblock", "a log cannot have %" PRIu64 " blocks", length);
    if (start < MAPFS_SUPERBLOCK_SLOTS || start >= n_blocks || length > n_blocks - start)
        return mapfs_damage(0, "superblock", "the log at block %" PRIu64 " does not lie in the image", start);
    if (mapfs_le64_load(superblock->log_head) >= length)
        return mapfs_damage(0, "superblock", "the log's head %" PRIu64 " is not in the log",
                            mapfs_le64_load(superblock->log_head));
    return 0;
}

static int superblock_check_root(const struct mapfs_disk_superblock *superblock) {
    uint64_t n_blocks = mapfs_le64_load(superblock->n_blocks);
    uint64_t log_start = mapfs_le64_load(superblock->log_start);
    uint64_t address = mapfs_le64_load(superblock->root_address);
    uint64_t generation = mapfs_le64_load(superblock->root_generation);

    if (address < MAPFS_SUPERBLOCK_SLOTS || address >= n_blocks ||
        (address >= log_start && address - log_start < mapfs_le64_load(superblock->log_blocks)))
        return mapfs_damage(0, "superblock", "the tree's root cannot lie at block %" PRIu64, address);
    if (generation == 0 || generation > mapfs_le64_load(superblock->generation))
        return mapfs_damage(0, "superblock", "the root's generation %" PRIu64 " is not one up to %" PRIu64, generation,
                            mapfs_le64_load(superblock->generation));
    if (mapfs_le32_load(superblock->root_level) >= MAPFS_TREE_LEVELS_MAX)
        return mapfs_damage(0, "superblock", "the root's level is %" PRIu32, mapfs_le32_load(superblock->root_level));
    return 0;
}

static int superblock_check_counters(const struct mapfs_disk_superblock *superblock) {
    uint64_t n_blocks = mapfs_le64_load(superblock->n_blocks);
    uint64_t next_ino = mapfs_le64_load(superblock->next_ino);

    if (next_ino <= MAPFS_INO_ROOT || next_ino > MAPFS_INO_LIMIT)
        return mapfs_damage(0, "superblock", "the next inode number cannot be %" PRIu64, next_ino);
    if (mapfs_le64_load(superblock->n_free_blocks) > n_blocks ||
        mapfs_le64_load(superblock->n_pending_blocks) > n_blocks)
        return mapfs_damage(0, "superblock", "more blocks are free or pending than the image has");
    if (mapfs_le64_load(superblock->n_inodes) == 0 || mapfs_le64_load(superblock->n_inodes) >= next_ino)
        return mapfs_damage(0, "superblock", "the number of inodes cannot be %" PRIu64,
                            mapfs_le64_load(superblock->n_inodes));
    return 0;
}

static int superblock_check_written(const struct mapfs_disk_superblock *superblock) {
    uint64_t first = mapfs_le64_load(superblock->log_start) + mapfs_le64_load(superblock->log_blocks);
    uint32_t n_written = mapfs_le32_load(superblock->n_written);
    uint64_t n_total = 0;

    if (n_written > MAPFS_WRITTEN_RUNS_MAX)
        return mapfs_damage(0, "superblock", "lists %" PRIu32 " runs of written blocks", n_written);
    for (uint32_t i = 0; i < n_written; i++) {
        const struct mapfs_disk_written *written = &superblock->written[i];
        MapfsRun run = {{mapfs_le64_load(written->block)}, mapfs_le32_load(written->n_blocks)};

        n_total += run.n_blocks;
        if (run.start.n < first || !mapfs_run_fits(run, mapfs_le64_load(superblock->n_blocks)) ||
            n_total > MAPFS_WRITTEN_BLOCKS_MAX || mapfs_le32_load(written->reserved) != 0)
            return mapfs_damage(0, "superblock", "lists written blocks at %" PRIu64 " that cannot be", run.start.n);
    }
    if (!mapfs_zero_check(&superblock->written[n_written],
                          (MAPFS_WRITTEN_RUNS_MAX - n_written) * sizeof(superblock->written[0])))
        return mapfs_damage(0, "superblock", "reserved bytes are not zero");
    return 0;
}

uint64_t mapfs_superblock_written_checksum(const struct mapfs_disk_superblock *superblock, const uint8_t *image) {
    uint64_t checksum = mapfs_le64_load(superblock->checksum_seed);

    for (uint32_t i = 0; i < mapfs_le32_load(superblock->n_written); i++) {
        const struct mapfs_disk_written *written = &superblock->written[i];

        checksum = mapfs_hash(image + (mapfs_le64_load(written->block) << MAPFS_BLOCK_SHIFT),
                              (size_t)mapfs_le32_load(written->n_blocks) << MAPFS_BLOCK_SHIFT, checksum);
    }
    return checksum;
}

bool mapfs_superblock_is_whole(const struct mapfs_disk_superblock *superblock, const uint8_t *image,
                               uint64_t n_image_blocks) {
    if (mapfs_le32_load(superblock->n_written) == 0)
        return true;
    /* A cut image: that is another matter, and its caller's. */
    if (mapfs_le64_load(superblock->n_blocks) > n_image_blocks)
        return true;
    return mapfs_superblock_written_checksum(superblock, image) == mapfs_le64_load(superblock->written_checksum);
}

static int superblock_check_rest(const struct mapfs_disk_superblock *superblock) {
    const uint64_t counters[] = {mapfs_le64_load(superblock->generation), mapfs_le64_load(superblock->epoch),
                                 mapfs_le64_load(superblock->lsn)};

    if (counters[0] == 0)
        return mapfs_damage(0, "superblock", "the generation is 0");
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(counters); i++) {
        if (counters[i] >= MAPFS_COUNTER_LIMIT)
            return mapfs_damage(0, "superblock", "generation, epoch or log sequence cannot be %" PRIu64, counters[i]);
    }
    if (mapfs_le64_load(superblock->flags) & ~MAPFS_SUPERBLOCK_FLAGS_KNOWN)
        return mapfs_damage(0, "superblock", "flags are %#" PRIx64, mapfs_le64_load(superblock->flags));
    if (mapfs_le32_load(superblock->reserved1) != 0 || mapfs_le32_load(superblock->reserved2) != 0)
        return mapfs_damage(0, "superblock", "reserved bytes are not zero");
    return 0;
}

static int superblock_check_magic(const struct mapfs_disk_superblock *superblock) {
    if (memcmp(superblock->magic, MAPFS_SUPERBLOCK_MAGIC, sizeof(superblock->magic)) != 0)
        return mapfs_damage(0, "superblock", "no magic bytes of mapfs");
    return 0;
}

static int superblock_check_checksum(const struct mapfs_disk_superblock *superblock) {
    uint64_t checksum = mapfs_le64_load(superblock->checksum);
    uint64_t expected = mapfs_superblock_checksum(superblock);

    if (checksum != expected)
        return mapfs_damage(0, "superblock", "checksum is %016" PRIx64 ", expected %016" PRIx64, checksum, expected);
    return 0;
}

static int superblock_check_version(const struct mapfs_disk_superblock *superblock) {
    uint32_t version = mapfs_le32_load(superblock->version), block_size = mapfs_le32_load(superblock->block_size);

    if (version != MAPFS_FORMAT_VERSION || block_size != MAPFS_BLOCK_SIZE)
        return mapfs_damage(0, "superblock",
                            "format version %" PRIu32 " with blocks of %" PRIu32
                            " bytes; this program knows version %u with blocks of %u bytes",
                            version, block_size, MAPFS_FORMAT_VERSION, MAPFS_BLOCK_SIZE);
    return 0;
}

static int superblock_check_features(const struct mapfs_disk_superblock *superblock) {
    uint64_t unknown = mapfs_le64_load(superblock->feature_incompat) & ~MAPFS_FEATURE_INCOMPAT_KNOWN;

    if (unknown != 0)
        return mapfs_damage(0, "superblock", "the image needs incompat features %#" PRIx64 " unknown to this program",
                            unknown);
    return 0;
}

MapfsSuperblockVerdict mapfs_superblock_judge(const struct mapfs_disk_superblock *superblock) {
    if (mapfs_zero_check(superblock, sizeof(*superblock)))
        return MAPFS_SUPERBLOCK_EMPTY;
    if (superblock_check_magic(superblock) < 0)
        return MAPFS_SUPERBLOCK_FOREIGN;
    if (superblock_check_checksum(superblock) < 0)
        return MAPFS_SUPERBLOCK_DAMAGED;
    if (superblock_check_version(superblock) < 0)
        return MAPFS_SUPERBLOCK_VERSION;
    if (superblock_check_features(superblock) < 0)
        return MAPFS_SUPERBLOCK_UNSUPPORTED;
    if (superblock_check_rest(superblock) < 0 || superblock_check_log(superblock) < 0 ||
        superblock_check_root(superblock) < 0 || superblock_check_counters(superblock) < 0 ||
        superblock_check_written(superblock) < 0)
        return MAPFS_SUPERBLOCK_DAMAGED;
    return MAPFS_SUPERBLOCK_VALID;
}

bool mapfs_superblock_is_placed(const struct mapfs_disk_superblock *superblock, unsigned slot) {
    return mapfs_le64_load(superblock->generation) % MAPFS_SUPERBLOCK_SLOTS == slot;
}

int mapfs_superblock_choose(const struct mapfs_disk_superblock *slots, const MapfsSuperblockVerdict *verdicts,
                            const uint8_t *image, uint64_t n_image_blocks) {
    bool counts[MAPFS_SUPERBLOCK_SLOTS];
    unsigned newest;

    for (unsigned i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++)
        counts[i] = verdicts[i] == MAPFS_SUPERBLOCK_VALID && mapfs_superblock_is_placed(&slots[i], i);
    if (!counts[0] || !counts[1])
        return counts[0] ? 0 : counts[1] ? 1 : -1;
    newest = mapfs_le64_load(slots[1].generation) > mapfs_le64_load(slots[0].generation);
    if (mapfs_superblock_is_whole(&slots[newest], image, n_image_blocks))
        return (int)newest;
    return (int)(1 - newest);
}
