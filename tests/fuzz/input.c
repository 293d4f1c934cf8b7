/* SPDX-License-Identifier: MIT */

#include "input.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "format/log.h"
#include "format/node.h"
#include "format/superblock.h"
#include "format/zero.h"

#define MAGIC_LEN 8u
#define LITERAL 0x8000u
#define TOKEN_MAX 0x7fffu
/* A shorter row of one byte is not worth a token of its own. */
#define RUN_MIN 6u
#define GUARD_BYTES (UINT64_C(1) << 20)

FuzzInput *fuzz_input_new(void) {
    FuzzInput *input = calloc(1, sizeof(*input));

    if (!input)
        abort();
    input->blocks = calloc(FUZZ_BLOCKS_MAX, sizeof(*input->blocks));
    if (!input->blocks)
        abort();
    return input;
}

void fuzz_input_free(FuzzInput *input) {
    if (!input)
        return;
    free(input->blocks);
    free(input);
}

/* --- taking apart --- */

typedef struct {
    const uint8_t *at, *end;
} Reader;

static bool read_bytes(Reader *reader, void *bytes, size_t len) {
    if ((size_t)(reader->end - reader->at) < len)
        return false;
    memcpy(bytes, reader->at, len);
    reader->at += len;
    return true;
}

static bool read_token(Reader *reader, uint8_t *block, size_t *filled) {
    struct mapfs_le16 token;
    size_t n;
    uint8_t value;

    if (!read_bytes(reader, &token, sizeof(token)))
        return false;
    n = mapfs_le16_load(token) & TOKEN_MAX;
    if (n == 0 || n > MAPFS_BLOCK_SIZE - *filled)
        return false;
    if (mapfs_le16_load(token) & LITERAL) {
        if (!read_bytes(reader, block + *filled, n))
            return false;
    } else {
        if (!read_bytes(reader, &value, 1))
            return false;
        memset(block + *filled, value, n);
    }
    *filled += n;
    return true;
}

static bool read_block(Reader *reader, FuzzInput *input) {
    FuzzBlock *block;
    struct mapfs_le32 number;
    uint8_t seal;
    size_t filled = 0;

    if (!read_bytes(reader, &number, sizeof(number)) || !read_bytes(reader, &seal, 1))
        return false;
    /* One that comes twice, or out of order, is put where it belongs. */
    block = fuzz_input_add(input, mapfs_le32_load(number));
    if (!block)
        return false;
    block->seal = seal;
    while (filled < MAPFS_BLOCK_SIZE) {
        if (!read_token(reader, block->bytes, &filled))
            return false;
    }
    return true;
}

bool fuzz_input_unpack(FuzzInput *input, const uint8_t *bytes, size_t len) {
    Reader reader = {.at = bytes, .end = bytes + len};
    uint8_t magic[MAGIC_LEN];
    struct mapfs_le32 n_blocks;
    struct mapfs_le16 counts[2];

    input->n_used = 0;
    if (!read_bytes(&reader, magic, sizeof(magic)) || memcmp(magic, FUZZ_MAGIC, MAGIC_LEN) != 0 ||
        !read_bytes(&reader, &n_blocks, sizeof(n_blocks)) || !read_bytes(&reader, counts, sizeof(counts)))
        return false;
    input->n_blocks = mapfs_le32_load(n_blocks);
    input->script_len = mapfs_le16_load(counts[0]);
    if (input->n_blocks == 0 || input->n_blocks > FUZZ_IMAGE_BLOCKS_MAX || input->script_len > FUZZ_SCRIPT_MAX ||
        mapfs_le16_load(counts[1]) > FUZZ_BLOCKS_MAX || !read_bytes(&reader, input->script, input->script_len))
        return false;
    for (unsigned i = 0; i < mapfs_le16_load(counts[1]); i++) {
        if (!read_block(&reader, input))
            return false;
    }
    return true;
}

/* --- putting together --- */

typedef struct {
    uint8_t *bytes;
    size_t len, len_max;
} Writer;

static void write_bytes(Writer *writer, const void *bytes, size_t len) {
    if (writer->len + len <= writer->len_max)
        memcpy(writer->bytes + writer->len, bytes, len);
    writer->len += len; /* past the end: it did not fit */
}

static size_t run_length(const uint8_t *bytes, size_t len) {
    size_t n = 1;

    while (n < len && bytes[n] == bytes[0])
        n++;
    return n;
}

/* How many bytes go as they are: up to the next row of one byte. */
static size_t literal_length(const uint8_t *bytes, size_t len) {
    size_t n = 0;

    while (n < len) {
        size_t run = run_length(bytes + n, len - n);

        if (run >= RUN_MIN)
            break;
        n += run;
    }
    return n;
}

static void write_block(Writer *writer, const FuzzBlock *block) {
    struct mapfs_le32 number = mapfs_le32_store(block->number);

    write_bytes(writer, &number, sizeof(number));
    write_bytes(writer, &block->seal, 1);
    for (size_t at = 0; at < MAPFS_BLOCK_SIZE;) {
        size_t literal = literal_length(block->bytes + at, MAPFS_BLOCK_SIZE - at);
        size_t n = literal > 0 ? literal : run_length(block->bytes + at, MAPFS_BLOCK_SIZE - at);
        struct mapfs_le16 token = mapfs_le16_store((uint16_t)(n | (literal > 0 ? LITERAL : 0)));

        write_bytes(writer, &token, sizeof(token));
        write_bytes(writer, block->bytes + at, literal > 0 ? literal : 1);
        at += n;
    }
}

size_t fuzz_input_pack(const FuzzInput *input, uint8_t *bytes, size_t len_max) {
    Writer writer = {.bytes = bytes, .len_max = len_max};
    struct mapfs_le32 n_blocks = mapfs_le32_store(input->n_blocks);
    struct mapfs_le16 counts[2] = {mapfs_le16_store((uint16_t)input->script_len),
                                   mapfs_le16_store((uint16_t)input->n_used)};

    write_bytes(&writer, FUZZ_MAGIC, MAGIC_LEN);
    write_bytes(&writer, &n_blocks, sizeof(n_blocks));
    write_bytes(&writer, counts, sizeof(counts));
    write_bytes(&writer, input->script, input->script_len);
    for (unsigned i = 0; i < input->n_used; i++)
        write_block(&writer, &input->blocks[i]);
    return writer.len <= len_max ? writer.len : 0;
}

/* --- blocks --- */

/* Where the block is, or would go. */
static unsigned block_index(const FuzzInput *input, uint64_t number) {
    unsigned low = 0, high = input->n_used;

    while (low < high) {
        unsigned middle = (low + high) / 2;

        if (input->blocks[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

FuzzBlock *fuzz_input_find(const FuzzInput *input, uint64_t number) {
    unsigned index = block_index(input, number);

    return index < input->n_used && input->blocks[index].number == number ? &input->blocks[index] : NULL;
}

FuzzBlock *fuzz_input_add(FuzzInput *input, uint64_t number) {
    unsigned index = block_index(input, number);
    FuzzBlock *block = &input->blocks[index];

    if (index < input->n_used && block->number == number)
        return block;
    if (input->n_used == FUZZ_BLOCKS_MAX || number >= FUZZ_IMAGE_BLOCKS_MAX)
        return NULL;
    memmove(block + 1, block, (input->n_used - index) * sizeof(*block));
    input->n_used++;
    memset(block, 0, sizeof(*block));
    block->number = (uint32_t)number;
    return block;
}

uint8_t fuzz_block_seal(uint64_t number, const uint8_t *bytes) {
    uint32_t magic = mapfs_le32_load(((const struct mapfs_disk_header *)(const void *)bytes)->magic);

    if (number < MAPFS_SUPERBLOCK_SLOTS)
        return FUZZ_SEAL | FUZZ_SEAL_WRITTEN;
    if (magic == MAPFS_BATCH_MAGIC)
        return FUZZ_SEAL_BATCH;
    return magic == MAPFS_NODE_MAGIC || magic == MAPFS_BITMAP_MAGIC ? FUZZ_SEAL : 0;
}

bool fuzz_input_from_image(FuzzInput *input, const MapfsImage *image) {
    input->n_blocks = (uint32_t)image->n_blocks;
    input->n_used = 0;
    for (uint64_t i = 0; i < image->n_blocks; i++) {
        const uint8_t *bytes = image->base + (i << MAPFS_BLOCK_SHIFT);
        FuzzBlock *block;

        if (mapfs_zero_check(bytes, MAPFS_BLOCK_SIZE))
            continue;
        block = fuzz_input_add(input, i);
        if (!block)
            return false;
        memcpy(block->bytes, bytes, MAPFS_BLOCK_SIZE);
        block->seal = fuzz_block_seal(i, bytes);
    }
    return true;
}

/* --- images --- */

static bool image_map(uint64_t n_blocks, FuzzImage *ret_image) {
    size_t len = (size_t)n_blocks << MAPFS_BLOCK_SHIFT, map_len = len + 2 * GUARD_BYTES;
    uint8_t *map = mmap(NULL, map_len, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (map == MAP_FAILED)
        return false;
    *ret_image = (FuzzImage){.map = map, .map_len = map_len};
    if (mprotect(map + GUARD_BYTES, len, PROT_READ | PROT_WRITE) < 0 ||
        mapfs_image_open_buffer(map + GUARD_BYTES, n_blocks, &ret_image->image) < 0) {
        (void)munmap(map, map_len); /* the process has its own mapping, and may end with it */
        return false;
    }
    return true;
}

static void seal_batch(const MapfsImage *image, const FuzzBlock *block, uint64_t checksum_seed) {
    struct mapfs_disk_batch *batch = (void *)(image->alias + ((size_t)block->number << MAPFS_BLOCK_SHIFT));
    uint64_t len = mapfs_le32_load(batch->len_bytes);

    if (len >= sizeof(*batch) && len <= (image->n_blocks - block->number) << MAPFS_BLOCK_SHIFT)
        batch->checksum = mapfs_le64_store(mapfs_batch_checksum(batch, (size_t)len, checksum_seed));
}

static void seal_superblock(const MapfsImage *image, const FuzzBlock *block) {
    struct mapfs_disk_superblock *superblock = (void *)(image->alias + ((size_t)block->number << MAPFS_BLOCK_SHIFT));

    mapfs_superblock_seal(superblock);
    if (!(block->seal & FUZZ_SEAL_WRITTEN) || mapfs_superblock_judge(superblock) != MAPFS_SUPERBLOCK_VALID ||
        mapfs_le32_load(superblock->n_written) == 0 || mapfs_le64_load(superblock->n_blocks) > image->n_blocks)
        return;
    superblock->written_checksum = mapfs_le64_store(mapfs_superblock_written_checksum(superblock, image->base));
    mapfs_superblock_seal(superblock);
}

/* The seed that the nodes' checksums take: of the superblock that will be chosen, as far as that can be told now. */
static uint64_t input_checksum_seed(const FuzzInput *input) {
    uint64_t newest = 0, seed = 0;

    for (uint64_t i = 0; i < MAPFS_SUPERBLOCK_SLOTS; i++) {
        const FuzzBlock *block = fuzz_input_find(input, i);
        const struct mapfs_disk_superblock *superblock;

        if (!block)
            continue;
        superblock = (const void *)block->bytes;
        if (mapfs_le64_load(superblock->generation) <= newest)
            continue;
        newest = mapfs_le64_load(superblock->generation);
        seed = mapfs_le64_load(superblock->checksum_seed);
    }
    return seed;
}

static void image_seal(const FuzzInput *input, const MapfsImage *image) {
    uint64_t checksum_seed = input_checksum_seed(input);

    for (unsigned i = 0; i < input->n_used; i++) {
        const FuzzBlock *block = &input->blocks[i];

        if (block->number >= image->n_blocks || block->number < MAPFS_SUPERBLOCK_SLOTS)
            continue;
        if (block->seal & FUZZ_SEAL)
            mapfs_header_seal(image->alias + ((size_t)block->number << MAPFS_BLOCK_SHIFT), checksum_seed);
        else if (block->seal & FUZZ_SEAL_BATCH)
            seal_batch(image, block, checksum_seed);
    }
    /* Last: they have checksums of other blocks in them. */
    for (unsigned i = 0; i < input->n_used && input->blocks[i].number < MAPFS_SUPERBLOCK_SLOTS; i++) {
        if ((input->blocks[i].seal & FUZZ_SEAL) && input->blocks[i].number < image->n_blocks)
            seal_superblock(image, &input->blocks[i]);
    }
}

bool fuzz_image_open(const FuzzInput *input, FuzzImage *ret_image) {
    if (!image_map(input->n_blocks, ret_image))
        return false;
    for (unsigned i = 0; i < input->n_used; i++) {
        const FuzzBlock *block = &input->blocks[i];

        if (block->number < input->n_blocks)
            memcpy(ret_image->image->alias + ((size_t)block->number << MAPFS_BLOCK_SHIFT), block->bytes,
                   MAPFS_BLOCK_SIZE);
    }
    image_seal(input, ret_image->image);
    return true;
}

void fuzz_image_protect(FuzzImage *image, bool protect) {
    uint8_t *bytes = (uint8_t *)image->map + GUARD_BYTES;

    if (mprotect(bytes, image->map_len - 2 * GUARD_BYTES, PROT_READ | (protect ? 0 : PROT_WRITE)) < 0)
        abort();
    image->image->alias = protect ? NULL : bytes;
}

void fuzz_image_close(FuzzImage *image) {
    mapfs_image_close(image->image);
    (void)munmap(image->map, image->map_len); /* nothing to lose */
}
