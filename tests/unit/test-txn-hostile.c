/* SPDX-License-Identifier: MIT */

/* Superblocks and logs with numbers that only somebody's hand can have put there. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "base/error.h"
#include "format/log.h"
#include "store-fixture.h"
#include "txn/runs-private.h"

static struct mapfs_disk_superblock *slot_of(MapfsImage *image, uint64_t slot) {
    return mapfs_image_writable(image, (MapfsRun){{slot}, 1});
}

static int open_only(MapfsImage *image, bool read_only) {
    const MapfsStoreOptions options = {.read_only = read_only};
    MapfsStore *store;
    int r;

    mapfs_damage_clear();
    r = mapfs_store_open(image, &options, &store);
    if (r == 0)
        mapfs_store_abandon(store);
    return r;
}

/* Generation 1 in slot 1, and nothing in the other. */
static MapfsImage *fresh_image(void) {
    MapfsImage *image;

    assert_int_equal(mapfs_image_open_anonymous(512, &image), 0);
    assert_int_equal(store_format(image, 0), 0);
    return image;
}

static void test_counters_near_their_end_allow_reading_alone(void **state) {
    MapfsImage *image = fresh_image();
    struct mapfs_disk_superblock *slot = slot_of(image, 1);
    struct mapfs_le64 *const counters[] = {&slot->generation, &slot->epoch, &slot->lsn};

    (void)state;
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(counters); i++) {
        struct mapfs_le64 before = *counters[i];

        *counters[i] = mapfs_le64_store(MAPFS_COUNTER_LIMIT - 1);
        mapfs_superblock_seal(slot);
        assert_int_equal(open_only(image, true), 0);
        assert_int_equal(open_only(image, false), -EROFS);
        *counters[i] = mapfs_le64_store(MAPFS_COUNTER_LIMIT);
        mapfs_superblock_seal(slot);
        assert_int_equal(open_only(image, true), -EUCLEAN);
        *counters[i] = before;
    }
    mapfs_superblock_seal(slot);
    assert_int_equal(open_only(image, false), 0);
    mapfs_image_close(image);
}

/* Puts a batch into the log that comes right after the checkpoint. */
static void store_batch(MapfsImage *image, uint64_t at) {
    const struct mapfs_disk_superblock *superblock = slot_of(image, 1);
    struct {
        struct mapfs_disk_batch batch;
        struct mapfs_disk_record_reclaim record;
    } *log = mapfs_image_writable(image, (MapfsRun){{mapfs_le64_load(superblock->log_start) + at}, 1});

    memset(log, 0, MAPFS_BLOCK_SIZE);
    log->batch.magic = mapfs_le32_store(MAPFS_BATCH_MAGIC);
    log->batch.len_bytes = mapfs_le32_store(sizeof(*log));
    log->batch.nonce = superblock->log_nonce;
    log->batch.sequence = superblock->log_sequence;
    log->batch.previous = superblock->log_previous;
    log->batch.first_lsn = mapfs_le64_store(mapfs_le64_load(superblock->lsn) + 1);
    log->batch.last_lsn = log->batch.first_lsn;
    log->batch.n_records = mapfs_le32_store(1);
    log->record.header.len_bytes = mapfs_le32_store(sizeof(log->record));
    log->record.header.type = mapfs_le16_store(MAPFS_RECORD_RECLAIM);
    log->record.header.lsn = log->batch.first_lsn;
    log->record.ino = mapfs_le64_store(MAPFS_INO_ROOT);
    log->record.n_extents = mapfs_le32_store(1);
    log->record.work = mapfs_le32_store(1);
    log->batch.checksum =
        mapfs_le64_store(mapfs_batch_checksum(log, sizeof(*log), mapfs_le64_load(superblock->checksum_seed)));
}

static void test_log_with_changes_is_refused(void **state) {
    MapfsImage *image = fresh_image();
    struct mapfs_disk_superblock *slot = slot_of(image, 1);
    uint8_t *log = mapfs_image_writable(image, (MapfsRun){{mapfs_le64_load(slot->log_start)}, 1});

    (void)state;
    store_batch(image, 0);
    assert_int_equal(open_only(image, false), -EOPNOTSUPP);
    assert_int_equal(open_only(image, true), -EOPNOTSUPP);
    assert_string_not_equal(mapfs_damage_last(), "");
    log[150] ^= 1;
    assert_int_equal(open_only(image, false), 0);
    log[150] ^= 1;
    /* Found at the log's start also when the head is elsewhere; and at the head. */
    slot->log_head = mapfs_le64_store(3);
    mapfs_superblock_seal(slot);
    assert_int_equal(open_only(image, false), -EOPNOTSUPP);
    memset(log, 0, MAPFS_BLOCK_SIZE);
    assert_int_equal(open_only(image, false), 0);
    store_batch(image, 3);
    assert_int_equal(open_only(image, false), -EOPNOTSUPP);
    mapfs_image_close(image);
}

static void test_long_runs_are_cut_into_pieces(void **state) {
    const MapfsRun runs[] = {{{10}, 4}, {{100}, 25}, {{200}, 10}, {{300}, 1}};
    const MapfsRun expected[] = {{{10}, 4}, {{100}, 10}, {{110}, 10}, {{120}, 5}, {{200}, 10}, {{300}, 1}};
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(MapfsRun));

    (void)state;
    g_array_append_vals(list, runs, MAPFS_N_ELEMENTS(runs));
    mapfs_store_runs_split(list, 10);
    assert_int_equal(list->len, MAPFS_N_ELEMENTS(expected));
    assert_memory_equal(list->data, expected, sizeof(expected));
    mapfs_store_runs_split(list, UINT64_C(1) << 31);
    assert_int_equal(list->len, MAPFS_N_ELEMENTS(expected));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_near_their_end_allow_reading_alone),
        cmocka_unit_test(test_log_with_changes_is_refused),
        cmocka_unit_test(test_long_runs_are_cut_into_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
