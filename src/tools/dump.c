/* SPDX-License-Identifier: MIT */

/* Shows an image's inside to developers. It reads blocks one by one and checks each before it prints it; nothing that it finds leads it
 * astray, since every step down the tree must go to a lower level. */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <glib.h>

#include "base/error.h"
#include "check/used.h"
#include "format/items.h"
#include "format/log.h"
#include "format/node.h"
#include "image/image.h"
#include "tools/dump-item.h"
#include "tools/messages.h"
#include "tools/number.h"
#include "tools/superblock.h"
#include "tools/tool.h"

static const char program[] = "mapfs dump";
static const char help[] = "Usage: mapfs dump [--offset BYTES] IMAGE [WHAT]\n"
                           "Shows the inside of an image. WHAT is one of:\n"
                           "\n"
                           "  superblocks            both slots, and what each is worth (the default)\n"
                           "  tree                   every node, with its items\n"
                           "  node BLOCK             one node or bitmap\n"
                           "  inode INO              the items of one inode\n"
                           "  log                    the batches in the log\n"
                           "\n"
                           "      --offset BYTES     where the image begins in the file (default 0)\n"
                           "  -h, --help             show this help\n";

typedef struct {
    const char *path; /* for messages */
    MapfsImage *image;
    MapfsSuperblockPair pair;
    const struct mapfs_disk_superblock *superblock; /* the newest valid one, or NULL */
    uint64_t seed;
    bool only_object; /* print the items of `object` alone */
    uint64_t object;
    MapfsUsed shown;  /* nodes: a hostile tree may lead to the same one again and again */
    unsigned n_bad;   /* nodes that could not be shown */
    uint64_t n_items; /* shown, of leaves */
} Dump;

static MapfsKey pointer_key(const struct mapfs_disk_pointer *pointer) {
    return (MapfsKey){
        .object = mapfs_le64_load(pointer->object),
        .offset = mapfs_le64_load(pointer->offset),
        .kind = pointer->kind,
    };
}

/* Copies a node and checks it. -EUCLEAN after a message. */
static int node_load(Dump *dump, MapfsNodeRef ref, void *ret_node) {
    const void *bytes = mapfs_image_read(dump->image, (MapfsRun){.start = ref.address, .n_blocks = 1});
    int r;

    if (!bytes) {
        (void)printf("node %" PRIu64 ": not in the image\n", ref.address.n);
        dump->n_bad++;
        return -EUCLEAN;
    }
    memcpy(ret_node, bytes, MAPFS_BLOCK_SIZE);
    r = mapfs_node_check(ret_node, ref, dump->seed);
    if (r < 0) {
        (void)printf("node %" PRIu64 ": %s\n", ref.address.n, mapfs_damage_last());
        dump->n_bad++;
    }
    return r;
}

/* False after a message: the node was shown already, under another pointer. */
static bool node_is_new(Dump *dump, MapfsBlock address) {
    uint64_t n_new;

    if (mapfs_used_set(&dump->shown, (MapfsRun){address, 1}, &n_new) == 0 && n_new == 1)
        return true;
    (void)printf("node %" PRIu64 ": another pointer led here before\n", address.n);
    dump->n_bad++;
    return false;
}

static void dump_header(const struct mapfs_disk_header *header) {
    (void)printf(
        "node %" PRIu64 ": level %u, %u items, generation %" PRIu64 ", owner %" PRIu64 ", checksum %016" PRIx64 "\n",
        mapfs_le64_load(header->address), header->level, mapfs_le16_load(header->n_items),
        mapfs_le64_load(header->generation), mapfs_le64_load(header->owner), mapfs_le64_load(header->checksum));
}

static void dump_leaf(Dump *dump, const void *node) {
    struct mapfs_disk_leaf leaf;
    const unsigned n = mapfs_le16_load(((const struct mapfs_disk_header *)node)->n_items);

    memcpy(&leaf, node, sizeof leaf);
    for (unsigned i = 0; i < n && i < MAPFS_LEAF_SLOTS_MAX; i++) {
        const struct mapfs_disk_slot *slot = &leaf.slots[i];
        const MapfsKey key = {
            .object = mapfs_le64_load(slot->object),
            .offset = mapfs_le64_load(slot->offset),
            .kind = slot->kind,
        };
        if (dump->only_object && key.object != dump->object)
            continue;
        dump->n_items++;
        (void)printf("  ");
        mapfs_dump_item(stdout, key, (const uint8_t *)node + mapfs_le16_load(slot->value_offset),
                        mapfs_le16_load(slot->value_len));
    }
}

static void dump_pointers(const struct mapfs_disk_index *index, unsigned n) {
    for (unsigned i = 0; i < n; i++) {
        const struct mapfs_disk_pointer *pointer = &index->pointers[i];
        const MapfsKey key = pointer_key(pointer);
        (void)printf("  from %" PRIu64 "/%u/%" PRIu64 ": node %" PRIu64 " generation %" PRIu64 "\n", key.object,
                     key.kind, key.offset, mapfs_le64_load(pointer->address), mapfs_le64_load(pointer->generation));
    }
}

/* Whether items of the wanted object can lie below pointer i. */
static bool pointer_is_wanted(const Dump *dump, const struct mapfs_disk_index *index, unsigned n, unsigned i) {
    if (!dump->only_object)
        return true;
    if (i > 0 && pointer_key(&index->pointers[i]).object > dump->object)
        return false;
    return i + 1 >= n || pointer_key(&index->pointers[i + 1]).object >= dump->object;
}

/* As deep as the tree has levels: a child that is not one level lower does not pass its check. */
static void dump_subtree(Dump *dump, MapfsNodeRef ref) {
    union {
        struct mapfs_disk_header header;
        struct mapfs_disk_index index;
        uint8_t bytes[MAPFS_BLOCK_SIZE];
    } node;
    unsigned n;

    if (node_load(dump, ref, &node) < 0 || !node_is_new(dump, ref.address))
        return;
    n = mapfs_le16_load(node.header.n_items);
    if (!dump->only_object)
        dump_header(&node.header);
    if (ref.level == 0) {
        dump_leaf(dump, &node);
        return;
    }
    n = MAPFS_MIN(n, MAPFS_INDEX_POINTERS_MAX);
    if (!dump->only_object)
        dump_pointers(&node.index, n);
    for (unsigned i = 0; i < n; i++) {
        const MapfsNodeRef child = {
            .address = {mapfs_le64_load(node.index.pointers[i].address)},
            .generation = {mapfs_le64_load(node.index.pointers[i].generation)},
            .level = (uint8_t)(ref.level - 1),
        };
        if (pointer_is_wanted(dump, &node.index, n, i))
            dump_subtree(dump, child);
    }
}

/* A slot that was never written, or holds an older state, is as it should be. */
static int dump_superblocks(Dump *dump, const char *argument) {
    static const char *const verdicts[] = {
        [MAPFS_SUPERBLOCK_VALID] = "valid",
        [MAPFS_SUPERBLOCK_EMPTY] = "empty",
        [MAPFS_SUPERBLOCK_FOREIGN] = "foreign",
        [MAPFS_SUPERBLOCK_DAMAGED] = "damaged",
        [MAPFS_SUPERBLOCK_VERSION] = "of another version",
        [MAPFS_SUPERBLOCK_UNSUPPORTED] = "with unknown features",
    };
    bool is_good = dump->pair.newest >= 0;

    (void)argument;
    for (int i = 0; i < (int)MAPFS_SUPERBLOCK_SLOTS; i++) {
        const bool is_misplaced = dump->pair.is_misplaced[i];

        (void)printf("slot %d: %s%s\n", i,
                     is_misplaced ? "belongs into the other slot: is the offset right?"
                                  : verdicts[dump->pair.verdicts[i]],
                     i == dump->pair.newest ? ", in use" : "");
        if (dump->pair.verdicts[i] != MAPFS_SUPERBLOCK_EMPTY && dump->pair.verdicts[i] != MAPFS_SUPERBLOCK_FOREIGN)
            mapfs_dump_superblock(stdout, &dump->pair.slots[i]);
        is_good &= !is_misplaced && (dump->pair.verdicts[i] == MAPFS_SUPERBLOCK_VALID ||
                                     dump->pair.verdicts[i] == MAPFS_SUPERBLOCK_EMPTY);
    }
    return is_good ? MAPFS_EXIT_OK : MAPFS_EXIT_FAILURE;
}

static int dump_tree(Dump *dump, const char *argument) {
    const MapfsNodeRef root = {
        .address = {mapfs_le64_load(dump->superblock->root_address)},
        .generation = {mapfs_le64_load(dump->superblock->root_generation)},
        .level = (uint8_t)MAPFS_MIN(mapfs_le32_load(dump->superblock->root_level), MAPFS_TREE_LEVELS_MAX),
    };

    (void)argument;
    dump_subtree(dump, root);
    return dump->n_bad == 0 ? MAPFS_EXIT_OK : MAPFS_EXIT_FAILURE;
}

static int dump_inode(Dump *dump, const char *argument) {
    int r;

    if (!mapfs_number_parse(argument, UINT64_MAX, &dump->object)) {
        mapfs_complain(program, "'%s' is not an inode number", argument);
        return MAPFS_EXIT_USAGE;
    }
    dump->only_object = true;
    r = dump_tree(dump, NULL);
    if (r == MAPFS_EXIT_OK && dump->n_items == 0) {
        mapfs_complain(program, "%s: there is no inode %" PRIu64 ": ls -i shows the numbers of those that are there",
                       dump->path, dump->object);
        return MAPFS_EXIT_FAILURE;
    }
    return r;
}

static int dump_bitmap(const Dump *dump, const struct mapfs_disk_bitmap *bitmap, MapfsNodeRef ref) {
    const uint64_t group = mapfs_le64_load(bitmap->header.owner);
    unsigned n_set = 0;

    for (unsigned i = 0; i < MAPFS_NODE_SPACE; i++)
        n_set += (unsigned)__builtin_popcount(bitmap->bits[i]);
    (void)printf("bitmap %" PRIu64 ": group %" PRIu64 ", generation %" PRIu64 ", %u of %u blocks in use\n",
                 ref.address.n, group, ref.generation.n, n_set, MAPFS_GROUP_BLOCKS);
    if (mapfs_bitmap_check(bitmap, ref, group, dump->seed) == 0)
        return MAPFS_EXIT_OK;
    (void)printf("  %s\n", mapfs_damage_last());
    return MAPFS_EXIT_FAILURE;
}

/* One block, whatever it claims to be; it is shown when its layout is sound, even if it is not sealed or of an old tree. */
static int dump_node(Dump *dump, const char *argument) {
    union {
        struct mapfs_disk_header header;
        struct mapfs_disk_index index;
        struct mapfs_disk_bitmap bitmap;
    } node;
    MapfsNodeRef ref = {0};
    const void *bytes;

    if (!mapfs_number_parse(argument, UINT64_MAX, &ref.address.n)) {
        mapfs_complain(program, "'%s' is not the number of a block", argument);
        return MAPFS_EXIT_USAGE;
    }
    bytes = mapfs_image_read(dump->image, (MapfsRun){.start = ref.address, .n_blocks = 1});
    if (!bytes) {
        mapfs_complain(program, "%s: there is no block %" PRIu64 ": it has only %" PRIu64 " blocks, counted from 0",
                       dump->path, ref.address.n, dump->image->n_blocks);
        return MAPFS_EXIT_FAILURE;
    }
    memcpy(&node, bytes, sizeof node);
    ref.generation.n = mapfs_le64_load(node.header.generation);
    ref.level = node.header.level;
    if (mapfs_le32_load(node.header.magic) == MAPFS_BITMAP_MAGIC)
        return dump_bitmap(dump, &node.bitmap, ref);
    dump_header(&node.header);
    if (mapfs_node_check(&node, ref, dump->seed) < 0)
        (void)printf("  %s\n", mapfs_damage_last());
    if (mapfs_node_check_layout(&node, ref) < 0)
        return MAPFS_EXIT_FAILURE;
    if (ref.level == 0)
        dump_leaf(dump, &node);
    else
        dump_pointers(&node.index, MAPFS_MIN(mapfs_le16_load(node.header.n_items), MAPFS_INDEX_POINTERS_MAX));
    return MAPFS_EXIT_OK;
}

/* Every block of the log region that begins with a batch of this log, in the order of the region. */
static int dump_log(Dump *dump, const char *argument) {
    const uint64_t start = mapfs_le64_load(dump->superblock->log_start);
    const uint64_t n_blocks = mapfs_le64_load(dump->superblock->log_blocks);
    const uint64_t nonce = mapfs_le64_load(dump->superblock->log_nonce);
    struct mapfs_disk_batch batch;
    uint64_t n_found = 0;

    (void)argument;
    for (uint64_t i = 0; i < n_blocks; i++) {
        const void *bytes = mapfs_image_read(dump->image, (MapfsRun){.start = {start + i}, .n_blocks = 1});

        if (!bytes)
            break;
        memcpy(&batch, bytes, sizeof batch);
        if (mapfs_le32_load(batch.magic) != MAPFS_BATCH_MAGIC || mapfs_le64_load(batch.nonce) != nonce)
            continue;
        n_found++;
        (void)printf("block %" PRIu64 ": batch %" PRIu64 ", generation %" PRIu64 ", epoch %" PRIu64 ", LSN %" PRIu64
                     " to %" PRIu64 ", %u records, %u bytes\n",
                     start + i, mapfs_le64_load(batch.sequence), mapfs_le64_load(batch.generation),
                     mapfs_le64_load(batch.epoch), mapfs_le64_load(batch.first_lsn), mapfs_le64_load(batch.last_lsn),
                     mapfs_le32_load(batch.n_records), mapfs_le32_load(batch.len_bytes));
    }
    (void)printf("%" PRIu64 " blocks of log at %" PRIu64 ", %" PRIu64 " batches\n", n_blocks, start, n_found);
    return MAPFS_EXIT_OK;
}

static const struct {
    const char *name;
    bool has_argument, needs_superblock;
    int (*run)(Dump *dump, const char *argument);
} subjects[] = {
    {"superblocks", false, false, dump_superblocks},
    {"tree", false, true, dump_tree},
    {"node", true, false, dump_node},
    {"inode", true, true, dump_inode},
    {"log", false, true, dump_log},
};

static void dump_complain_superblock(const Dump *dump) {
    if (dump->pair.is_misplaced[0] || dump->pair.is_misplaced[1])
        mapfs_complain(program, "%s: its superblock belongs into the other slot: is the offset right?", dump->path);
    else
        mapfs_complain(program, "%s: there is no valid superblock (%s)", dump->path, mapfs_damage_last());
}

static int dump_subject(Dump *dump, int argc, char **argv) {
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(subjects); i++) {
        if (strcmp(subjects[i].name, argv[0]) != 0)
            continue;
        if (argc != (subjects[i].has_argument ? 2 : 1)) {
            mapfs_complain(program, subjects[i].has_argument ? "%s needs one number" : "%s takes no argument", argv[0]);
            return mapfs_usage_error(program);
        }
        if (subjects[i].needs_superblock && !dump->superblock) {
            dump_complain_superblock(dump);
            return MAPFS_EXIT_FAILURE;
        }
        return subjects[i].run(dump, argv[1]);
    }
    mapfs_complain(program, "'%s': unknown subject", argv[0]);
    return mapfs_usage_error(program);
}

static int dump_run(const char *path, uint64_t offset_bytes, int argc, char **argv) {
    const MapfsImageOpen how = {.offset_bytes = offset_bytes, .read_only = true};
    g_autofree Dump *dump = g_new0(Dump, 1);
    int status;
    int r;

    dump->path = path;
    r = mapfs_sigbus_install();
    if (r == 0)
        r = mapfs_image_open_file(path, &how, &dump->image);
    if (r < 0) {
        g_autofree char *message = mapfs_message_open(path, offset_bytes, r, NULL);
        mapfs_complain(program, "%s", message);
        return MAPFS_EXIT_FAILURE;
    }
    mapfs_superblock_pair_load(dump->image, &dump->pair);
    if (dump->pair.newest >= 0) {
        dump->superblock = &dump->pair.slots[dump->pair.newest];
        dump->seed = mapfs_le64_load(dump->superblock->checksum_seed);
    }
    status = dump_subject(dump, argc, argv);
    mapfs_image_close(dump->image);
    mapfs_used_clear(&dump->shown);
    if (mapfs_sigbus_taken()) {
        mapfs_complain(program, "%s: a part could not be read", path);
        return MAPFS_EXIT_FAILURE;
    }
    return status;
}

int mapfs_tool_dump(int argc, char **argv) {
    static const struct option options[] = {
        {"offset", required_argument, NULL, 'O'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    char superblocks[] = "superblocks";
    char *default_subject[] = {superblocks, NULL};
    uint64_t offset_bytes = 0;
    int option;

    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (option == 'h')
            return mapfs_usage_help(help);
        if (option == '?')
            return mapfs_usage_error(program);
        if (!mapfs_size_parse(optarg, &offset_bytes) || offset_bytes % MAPFS_BLOCK_SIZE != 0) {
            mapfs_complain(program, "the offset '%s' is not a multiple of 4096 bytes", optarg);
            return MAPFS_EXIT_USAGE;
        }
    }
    if (argc - optind < 1) {
        mapfs_complain(program, "an image is needed");
        return mapfs_usage_error(program);
    }
    if (argc - optind == 1)
        return dump_run(argv[optind], offset_bytes, 1, default_subject);
    return dump_run(argv[optind], offset_bytes, argc - optind - 1, argv + optind + 1);
}
