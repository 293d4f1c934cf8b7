/* SPDX-License-Identifier: MIT */

/* The validators of log batches and their records. */

#include <errno.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/macros.h"
#include "format/items.h"
#include "format/log.h"

#define SEED UINT64_C(0x0123456789abcdef)

typedef struct {
    struct mapfs_disk_batch batch;
    struct mapfs_disk_record_truncate truncate;
    struct mapfs_disk_record_name link;
    char name[8];
} Log;

static const MapfsBatchExpected next_batch = {
    .nonce = 11, .sequence = 3, .previous = 12, .first_lsn = 100, .checksum_seed = SEED};

static Log valid_log(void) {
    Log log = {
        .batch = {.magic = mapfs_le32_store(MAPFS_BATCH_MAGIC),
                  .len_bytes = mapfs_le32_store(sizeof(Log)),
                  .nonce = mapfs_le64_store(11),
                  .sequence = mapfs_le64_store(3),
                  .previous = mapfs_le64_store(12),
                  .first_lsn = mapfs_le64_store(100),
                  .last_lsn = mapfs_le64_store(101),
                  .n_records = mapfs_le32_store(2)},
        .truncate = {.header = {.len_bytes = mapfs_le32_store(sizeof(log.truncate)),
                                .type = mapfs_le16_store(MAPFS_RECORD_TRUNCATE),
                                .lsn = mapfs_le64_store(100)},
                     .ino = mapfs_le64_store(9),
                     .n_extents = mapfs_le32_store(64)},
        .link = {.header = {.len_bytes = mapfs_le32_store(sizeof(log.link) + 8),
                            .type = mapfs_le16_store(MAPFS_RECORD_LINK),
                            .lsn = mapfs_le64_store(101)},
                 .parent = mapfs_le64_store(1),
                 .ino = mapfs_le64_store(9),
                 .name_len = 4},
        .name = "name",
    };

    log.batch.checksum = mapfs_le64_store(mapfs_batch_checksum(&log, sizeof(log), SEED));
    return log;
}

static int check_log(Log *log, MapfsBatchExpected expected) {
    size_t len = MAPFS_MAX(MAPFS_MIN(mapfs_le32_load(log->batch.len_bytes), sizeof(*log)), sizeof(log->batch));

    log->batch.checksum = mapfs_le64_store(mapfs_batch_checksum(log, len, SEED));
    return mapfs_batch_check(log, sizeof(*log), &expected);
}

#define ASSERT_LOG_REFUSED(change)                             \
    do {                                                       \
        Log log = valid_log();                                 \
        MapfsBatchExpected expected = next_batch;              \
        change;                                                \
        assert_int_equal(check_log(&log, expected), -EUCLEAN); \
    } while (0)

static void test_valid_batches_pass(void **state) {
    Log log = valid_log();
    MapfsBatchExpected expected = next_batch;

    (void)state;
    assert_int_equal(check_log(&log, expected), 0);
    expected.first_lsn = 101; /* its first record is in the superblock already */
    assert_int_equal(check_log(&log, expected), 0);
    log.name[2]++;
    assert_int_equal(mapfs_batch_check(&log, sizeof(log), &next_batch), -EUCLEAN);
}

static void test_batches_out_of_the_chain_are_damage(void **state) {
    (void)state;
    ASSERT_LOG_REFUSED(expected.nonce++);
    ASSERT_LOG_REFUSED(expected.sequence++);
    ASSERT_LOG_REFUSED(expected.previous++);
    ASSERT_LOG_REFUSED(expected.first_lsn = 99);
    ASSERT_LOG_REFUSED(expected.first_lsn = 103);
    ASSERT_LOG_REFUSED(log.batch.magic = mapfs_le32_store(1));
    ASSERT_LOG_REFUSED(log.batch.len_bytes = mapfs_le32_store(sizeof(Log) + 8));
    ASSERT_LOG_REFUSED(log.batch.len_bytes = mapfs_le32_store(sizeof(Log) - 8));
    ASSERT_LOG_REFUSED(log.batch.len_bytes = mapfs_le32_store(8));
    ASSERT_LOG_REFUSED(log.batch.n_records = mapfs_le32_store(1));
    ASSERT_LOG_REFUSED(log.batch.last_lsn = mapfs_le64_store(99));
    ASSERT_LOG_REFUSED(log.batch.last_lsn = mapfs_le64_store(UINT64_MAX));
    ASSERT_LOG_REFUSED(log.batch.reserved[43] = 1);
    ASSERT_LOG_REFUSED(log.link.header.lsn = mapfs_le64_store(102));
    ASSERT_LOG_REFUSED(log.link.header.type = mapfs_le16_store(0));
    ASSERT_LOG_REFUSED(log.link.header.type = mapfs_le16_store(99));
    ASSERT_LOG_REFUSED(log.link.header.len_bytes = mapfs_le32_store(sizeof(log.link)));
    ASSERT_LOG_REFUSED(log.link.name_len = 0);
    ASSERT_LOG_REFUSED(log.name[1] = '/');
    ASSERT_LOG_REFUSED(log.name[6] = 1);
    ASSERT_LOG_REFUSED(log.truncate.n_extents = mapfs_le32_store(0));
    ASSERT_LOG_REFUSED(log.truncate.size = mapfs_le64_store(MAPFS_FILE_SIZE_MAX + 1));
}

static void test_rename_records_have_a_whiteout_or_none(void **state) {
    struct {
        struct mapfs_disk_record_rename rename;
        char names[8];
    } record = {.rename = {.header = {.len_bytes = mapfs_le32_store(sizeof(record)),
                                      .type = mapfs_le16_store(MAPFS_RECORD_RENAME)},
                           .old_parent = mapfs_le64_store(1),
                           .new_parent = mapfs_le64_store(1),
                           .ino = mapfs_le64_store(9),
                           .old_name_len = 4,
                           .new_name_len = 4},
                .names = "new1new2"};
    struct mapfs_disk_record_rename *rename = &record.rename;

    (void)state;
    for (unsigned flags = 0; flags < 8; flags++)
        for (unsigned whiteout = 0; whiteout < 2; whiteout++) {
            bool fits = (flags < 2 && whiteout == 0) || (flags == MAPFS_RENAME_WHITEOUT && whiteout == 1);

            rename->flags = mapfs_le32_store(flags);
            rename->whiteout = mapfs_le64_store(whiteout * 10u);
            assert_int_equal(mapfs_record_check(&record, sizeof(record)), fits ? 0 : -EUCLEAN);
        }
    rename->flags = mapfs_le32_store(MAPFS_RENAME_WHITEOUT);
    rename->whiteout = mapfs_le64_store(MAPFS_INO_LIMIT);
    assert_int_equal(mapfs_record_check(&record, sizeof(record)), -EUCLEAN);
}

static void test_clone_records_name_two_ranges_apart(void **state) {
    const uint64_t end = MAPFS_FILE_SIZE_MAX >> MAPFS_BLOCK_SHIFT;
    struct mapfs_disk_record_clone valid = {
        .header = {.len_bytes = mapfs_le32_store(sizeof(valid)), .type = mapfs_le16_store(MAPFS_RECORD_CLONE)},
        .source = mapfs_le64_store(9),
        .ino = mapfs_le64_store(9),
        .logical = mapfs_le64_store(10),
        .n_blocks = mapfs_le64_store(10)};
    struct mapfs_disk_record_clone clone = valid;

    (void)state;
    assert_int_equal(mapfs_record_check(&clone, sizeof(clone)), 0);
    clone.logical = mapfs_le64_store(9);
    assert_int_equal(mapfs_record_check(&clone, sizeof(clone)), -EUCLEAN);
    clone.source = mapfs_le64_store(8);
    assert_int_equal(mapfs_record_check(&clone, sizeof(clone)), 0);
    clone.logical = mapfs_le64_store(end - 10);
    assert_int_equal(mapfs_record_check(&clone, sizeof(clone)), 0);
    clone.logical = mapfs_le64_store(end - 9);
    assert_int_equal(mapfs_record_check(&clone, sizeof(clone)), -EUCLEAN);
    clone = valid;
    clone.source_logical = mapfs_le64_store(UINT64_MAX);
    assert_int_equal(mapfs_record_check(&clone, sizeof(clone)), -EUCLEAN);
    clone = valid;
    clone.flags = mapfs_le32_store(4);
    assert_int_equal(mapfs_record_check(&clone, sizeof(clone)), -EUCLEAN);
}

/* Whatever the bytes and their length, nothing past them is read (address sanitizers watch). */
static void test_random_records_are_judged_without_harm(void **state) {
    uint64_t random = UINT64_C(88172645463325252);

    (void)state;
    for (unsigned round = 0; round < 200000; round++) {
        uint64_t words[12];
        struct mapfs_disk_record header;
        unsigned n_words;

        for (unsigned i = 0; i < MAPFS_N_ELEMENTS(words); i++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            words[i] = i % 3 == 0 ? random : random & 0xff;
        }
        n_words = 3 + (unsigned)(random >> 7) % 10;
        header = (struct mapfs_disk_record){.len_bytes = mapfs_le32_store(n_words * 8),
                                            .type = mapfs_le16_store((uint16_t)(round % 24))};
        memcpy(words, &header, sizeof(header));
        (void)!mapfs_record_check(words, n_words * 8 < sizeof(words) ? n_words * 8 : sizeof(words));
    }
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid_batches_pass),
        cmocka_unit_test(test_batches_out_of_the_chain_are_damage),
        cmocka_unit_test(test_rename_records_have_a_whiteout_or_none),
        cmocka_unit_test(test_clone_records_name_two_ranges_apart),
        cmocka_unit_test(test_random_records_are_judged_without_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
