/* SPDX-License-Identifier: MIT */

/* Attributes, extended attributes and listings. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>
#include <glib.h>

#include "fs-fixture.h"
#include "fs/fs-private.h"
#include "fs/xattr-private.h"

#define ROOT MAPFS_INO_ROOT

/* --- setattr --- */

static void test_setattr_changes_what_the_mask_names(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG | 0644);
    MapfsAttr before = fs_attr(fs, file), set = {.mode = 07777 | S_IFDIR, .uid = 3, .gid = 4}, after;

    assert_int_equal(mapfs_fs_setattr(fs, file, MAPFS_SET_MODE, &set, &after), 0);
    assert_int_equal(after.mode, S_IFREG | 07777);
    assert_int_equal(after.uid, 0);
    assert_int_equal(after.change, before.change + 1);
    assert_true(after.ctime.tv_nsec != before.ctime.tv_nsec || after.ctime.tv_sec != before.ctime.tv_sec);
    assert_memory_equal(&after.mtime, &before.mtime, sizeof(after.mtime));
    assert_int_equal(mapfs_fs_setattr(fs, file, MAPFS_SET_UID | MAPFS_SET_GID | MAPFS_SET_MODE, &set, &after), 0);
    assert_int_equal(after.uid, 3);
    assert_int_equal(after.gid, 4);
    assert_int_equal(after.mode, S_IFREG | 07777);
    assert_int_equal(mapfs_fs_setattr(fs, 999, MAPFS_SET_MODE, &set, &after), -ESTALE);
}

static void test_setattr_keeps_times_to_the_nanosecond(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG | 0644);
    MapfsAttr set = {.atime = {-5, 999999999}, .mtime = {4000000000, 1}, .ctime = {77, 2}}, after;

    assert_int_equal(mapfs_fs_setattr(fs, file, MAPFS_SET_ATIME | MAPFS_SET_MTIME | MAPFS_SET_CTIME, &set, &after), 0);
    fs_fixture_remount(*state, false);
    fs = fs_of(state);
    after = fs_attr(fs, file);
    assert_int_equal(after.atime.tv_sec, -5);
    assert_int_equal(after.atime.tv_nsec, 999999999);
    assert_int_equal(after.mtime.tv_sec, 4000000000);
    assert_int_equal(after.mtime.tv_nsec, 1);
    assert_int_equal(after.ctime.tv_sec, 77);
    assert_int_equal(mapfs_fs_setattr(fs, file, MAPFS_SET_ATIME_NOW | MAPFS_SET_MTIME_NOW, &set, &after), 0);
    assert_true(after.atime.tv_sec > 1600000000 && after.atime.tv_sec < 4000000000);
    assert_memory_equal(&after.atime, &after.mtime, sizeof(after.atime));
    assert_memory_equal(&after.atime, &after.ctime, sizeof(after.atime));
}

static void test_new_owner_takes_suid_and_capability_away(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG | 06755), dir = fs_make(fs, ROOT, "d", S_IFDIR | 06755);
    MapfsAttr set = {.uid = 5}, after;

    assert_int_equal(mapfs_fs_setxattr(fs, file, "security.capability", (MapfsBytes){"0123456789abcdefghij", 20}, 0),
                     0);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.kept", (MapfsBytes){"x", 1}, 0), 0);
    assert_int_equal(mapfs_fs_setattr(fs, file, MAPFS_SET_UID, &set, &after), 0);
    assert_int_equal(after.mode, S_IFREG | 0755);
    assert_int_equal(after.uid, 5);
    assert_int_equal(mapfs_fs_getxattr(fs, file, "security.capability", NULL, 0), -ENODATA);
    assert_int_equal(mapfs_fs_getxattr(fs, file, "user.kept", NULL, 0), 1);
    assert_int_equal(mapfs_fs_setattr(fs, dir, MAPFS_SET_UID, &set, &after), 0);
    assert_int_equal(after.mode, S_IFDIR | 06755);
}

static void test_sgid_without_group_execute_is_no_privilege(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG | 06744);
    MapfsAttr set = {0}, after;

    assert_int_equal(mapfs_fs_setattr(fs, file, MAPFS_SET_KILL_PRIV, &set, &after), 0);
    assert_int_equal(after.mode, S_IFREG | 02744);
}

/* --- extended attributes --- */

static void test_xattr_values_of_every_length_come_back(void **state) {
    static const size_t lens[] = {0, 1, 100, 1905, 1906, 1907, 3840, 20000, 65535, 65536};
    g_autofree uint8_t *value = g_malloc(65536), *back = g_malloc(65536);
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG);

    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(lens); i++) {
        int len = (int)lens[i];

        for (size_t k = 0; k < lens[i]; k++)
            value[k] = (uint8_t)(k * 31 + i);
        assert_int_equal(mapfs_fs_setxattr(fs, file, "user.n", (MapfsBytes){value, lens[i]}, 0), 0);
        if (i % 3 == 0) {
            fs_fixture_remount(*state, false);
            fs = fs_of(state);
        }
        assert_int_equal(mapfs_fs_getxattr(fs, file, "user.n", NULL, 0), len);
        assert_int_equal(mapfs_fs_getxattr(fs, file, "user.n", back, 65536), len);
        assert_memory_equal(back, value, lens[i]);
        if (len > 1)
            assert_int_equal(mapfs_fs_getxattr(fs, file, "user.n", back, lens[i] - 1), -ERANGE);
    }
    /* And shorter again, without a rest of the long one. */
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.n", (MapfsBytes){"ab", 2}, 0), 0);
    assert_int_equal(mapfs_fs_getxattr(fs, file, "user.n", back, 65536), 2);
    assert_memory_equal(back, "ab", 2);
    assert_int_equal(mapfs_fs_removexattr(fs, file, "user.n"), 0);
    assert_int_equal(mapfs_fs_listxattr(fs, file, NULL, 0), 0);
}

static void test_xattr_removal_leaves_no_items(void **state) {
    g_autofree uint8_t *value = g_malloc0(65536);
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG);
    MapfsItem item;

    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.n", (MapfsBytes){value, 65536}, 0), 0);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.n", (MapfsBytes){value, 10}, 0), 0);
    assert_int_equal(mapfs_fs_removexattr(fs, file, "user.n"), 0);
    assert_true(mapfs_tree_lookup_ge(mapfs_store_tree(fs->store), mapfs_xattr_key(file, 0), &item) == 0 ||
                item.key.object != file);
}

static void test_xattr_flags_and_limits(void **state) {
    g_autofree uint8_t *value = g_malloc0(65537);
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG);
    char name[300];

    memset(name, 'n', sizeof(name));
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.a", (MapfsBytes){"1", 1}, MAPFS_XATTR_FLAG_REPLACE), -ENODATA);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.a", (MapfsBytes){"1", 1}, MAPFS_XATTR_FLAG_CREATE), 0);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.a", (MapfsBytes){"2", 1}, MAPFS_XATTR_FLAG_CREATE), -EEXIST);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.a", (MapfsBytes){"2", 1}, MAPFS_XATTR_FLAG_REPLACE), 0);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.a", (MapfsBytes){"2", 1}, 8), -EINVAL);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.a", (MapfsBytes){value, 65537}, 0), -E2BIG);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "", (MapfsBytes){"2", 1}, 0), -ERANGE);
    name[256] = '\0';
    assert_int_equal(mapfs_fs_setxattr(fs, file, name, (MapfsBytes){"2", 1}, 0), -ERANGE);
    name[255] = '\0';
    assert_int_equal(mapfs_fs_setxattr(fs, file, name, (MapfsBytes){value, 65536}, 0), 0);
    assert_int_equal(mapfs_fs_getxattr(fs, file, name, NULL, 0), 65536);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "security.capability", (MapfsBytes){value, 2000}, 0), -EINVAL);
    assert_int_equal(mapfs_fs_setxattr(fs, 999, "user.a", (MapfsBytes){"1", 1}, 0), -ESTALE);
    assert_int_equal(mapfs_fs_getxattr(fs, file, "user.none", NULL, 0), -ENODATA);
    assert_int_equal(mapfs_fs_getxattr(fs, 999, "user.a", NULL, 0), -ESTALE);
    assert_int_equal(mapfs_fs_removexattr(fs, file, "user.none"), -ENODATA);
    assert_int_equal(mapfs_fs_removexattr(fs, 999, "user.a"), -ESTALE);
    assert_int_equal(mapfs_fs_listxattr(fs, 999, NULL, 0), -ESTALE);
}

static void test_xattr_changes_ctime_alone(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG);
    MapfsAttr before = fs_attr(fs, file), after;

    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.a", (MapfsBytes){"1", 1}, 0), 0);
    after = fs_attr(fs, file);
    assert_int_equal(after.change, before.change + 1);
    assert_memory_equal(&after.mtime, &before.mtime, sizeof(after.mtime));
    assert_true(memcmp(&after.ctime, &before.ctime, sizeof(after.ctime)) != 0);
}

static void test_listxattr_names_each_once(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG);
    char list[4096], name[32];
    bool seen[40] = {false};
    unsigned n = 0, k;
    int len;

    for (unsigned i = 0; i < 40; i++) {
        snprintf(name, sizeof(name), "user.%u", i);
        assert_int_equal(mapfs_fs_setxattr(fs, file, name, (MapfsBytes){list, i == 7 ? 4000 : 3}, 0), 0);
    }
    len = mapfs_fs_listxattr(fs, file, NULL, 0);
    assert_int_equal(len, 10 * 7 + 30 * 8);
    assert_int_equal(mapfs_fs_listxattr(fs, file, list, (size_t)len - 1), -ERANGE);
    assert_int_equal(mapfs_fs_listxattr(fs, file, list, (size_t)len), len);
    for (const char *at = list; at < list + len; at += strlen(at) + 1, n++) {
        assert_int_equal(sscanf(at, "user.%u", &k), 1);
        assert_false(seen[k]);
        seen[k] = true;
    }
    assert_int_equal(n, 40);
}

static void test_xattr_names_with_the_same_hash_take_the_slots(void **state) {
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG), bucket = mapfs_xattr_name_key(fs, file, "user.x", 6).offset;
    MapfsTree *tree = mapfs_store_tree(fs->store);
    struct {
        struct mapfs_disk_xattr head;
        char name[2];
    } other = {.head = {.name_len = 2}, .name = "o"};
    char buffer[8];
    MapfsTxn txn;

    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.first", (MapfsBytes){"1", 1}, 0), 0);
    assert_int_equal(mapfs_fs_begin(fs, MAPFS_TXN_GROWS, 16, &txn), 0);
    mapfs_txn_lock(&txn);
    for (unsigned slot = 0; slot < MAPFS_XATTR_SLOTS; slot++) {
        other.name[1] = (char)('a' + slot);
        if (slot != 4)
            assert_int_equal(mapfs_tree_insert(tree, mapfs_xattr_key(file, bucket | slot << MAPFS_XATTR_SLOT_SHIFT),
                                               &other, sizeof(other.head) + 2),
                             0);
    }
    mapfs_txn_end(&txn);
    assert_int_equal(mapfs_fs_getxattr(fs, file, "user.x", buffer, 8), -ENODATA);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.x", (MapfsBytes){"value", 5}, 0), 0);
    assert_int_equal(mapfs_fs_getxattr(fs, file, "user.x", buffer, 8), 5);
    assert_memory_equal(buffer, "value", 5);
    assert_int_equal(mapfs_fs_removexattr(fs, file, "user.x"), 0);
    assert_int_equal(mapfs_fs_begin(fs, MAPFS_TXN_GROWS, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_tree_insert(tree, mapfs_xattr_key(file, bucket | 4u << MAPFS_XATTR_SLOT_SHIFT), &other,
                                       sizeof(other.head) + 2),
                     0);
    mapfs_txn_end(&txn);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.x", (MapfsBytes){"value", 5}, 0), -ENOSPC);
    assert_int_equal(mapfs_store_error(fs->store), 0);
}

static void test_missing_chunk_is_damage_and_changes_nothing(void **state) {
    g_autofree uint8_t *value = g_malloc0(65536);
    MapfsFs *fs = fs_of(state);
    uint64_t file = fs_make(fs, ROOT, "f", S_IFREG);
    uint64_t offset = mapfs_xattr_name_key(fs, file, "user.x", 6).offset;
    MapfsTxn txn;

    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.x", (MapfsBytes){value, 9000}, 0), 0);
    assert_int_equal(mapfs_fs_begin(fs, MAPFS_TXN_GROWS, 1, &txn), 0);
    mapfs_txn_lock(&txn);
    assert_int_equal(mapfs_tree_remove(mapfs_store_tree(fs->store), mapfs_xattr_key(file, offset + 2)), 0);
    mapfs_txn_end(&txn);
    assert_int_equal(mapfs_fs_getxattr(fs, file, "user.x", value, 65536), -EUCLEAN);
    assert_int_equal(mapfs_fs_setxattr(fs, file, "user.x", (MapfsBytes){value, 1}, 0), -EUCLEAN);
    assert_int_equal(mapfs_fs_removexattr(fs, file, "user.x"), -EUCLEAN);
    assert_int_equal(mapfs_store_error(fs->store), 0);
}

/* --- listings --- */

typedef struct {
    GHashTable *seen; /* name -> ino */
    unsigned n, n_max;
    uint64_t cookie;
    bool plus;
    bool may_lack; /* plus: attributes */
    unsigned n_lacking;
} Listing;

static int listing_take(void *user, const MapfsDirEntry *entry) {
    Listing *listing = user;

    if (listing->n == listing->n_max)
        return 0;
    if (listing->may_lack && !entry->attr) {
        listing->n_lacking++;
    } else if (listing->plus) {
        assert_non_null(entry->attr);
        assert_int_equal(entry->attr->ino, entry->ino);
        assert_int_equal(mapfs_dirent_type_from_mode(entry->attr->mode), entry->type);
    } else {
        assert_null(entry->attr);
    }
    assert_true(entry->cookie > listing->cookie);
    assert_true(
        g_hash_table_insert(listing->seen, g_strndup(entry->name, entry->name_len), GSIZE_TO_POINTER(entry->ino)));
    listing->cookie = entry->cookie;
    listing->n++;
    return 1;
}

static Listing listing_run(MapfsFs *fs, uint64_t dir, unsigned n_at_once, bool plus) {
    Listing listing = {.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL), .plus = plus};

    do {
        listing.n = 0;
        listing.n_max = n_at_once;
        assert_int_equal(mapfs_fs_readdir(fs, dir, &(MapfsDirScan){listing.cookie, plus, listing_take, &listing}), 0);
    } while (listing.n > 0);
    return listing;
}

static void test_listing_in_pieces_names_each_entry_once(void **state) {
    static const unsigned pieces[] = {1, 2, 3, 7, 31, 32, 33, 64, 100, 1000};
    MapfsFs *fs = fs_of(state);
    uint64_t dir = fs_make(fs, ROOT, "dir", S_IFDIR);
    char name[32];

    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "entry %u", i);
        assert_int_equal(fs_create(fs, dir, name, i % 2 ? S_IFREG : S_IFIFO), 0);
    }
    for (unsigned i = 0; i < MAPFS_N_ELEMENTS(pieces); i++) {
        Listing listing = listing_run(fs, dir, pieces[i], i % 2);

        assert_int_equal(g_hash_table_size(listing.seen), 102);
        assert_int_equal(GPOINTER_TO_SIZE(g_hash_table_lookup(listing.seen, ".")), dir);
        assert_int_equal(GPOINTER_TO_SIZE(g_hash_table_lookup(listing.seen, "..")), ROOT);
        assert_int_equal(GPOINTER_TO_SIZE(g_hash_table_lookup(listing.seen, "entry 42")), fs_ino(fs, dir, "entry 42"));
        g_hash_table_unref(listing.seen);
    }
}

/* The first reply of a large directory has the attributes that need no reading, all others have them all. */
static void test_cold_listing_of_a_large_directory_names_each_entry_once(void **state) {
    static const unsigned pieces[] = {1, 100, 1000, 10000};
    FsFixture *fixture = *state;
    uint64_t dir = fs_make(fixture->fs, ROOT, "dir", S_IFDIR);
    char name[32];

    for (unsigned i = 0; i < 3000; i++) {
        snprintf(name, sizeof(name), "entry %u", i);
        assert_int_equal(fs_create(fixture->fs, dir, name, S_IFREG), 0);
    }
    for (unsigned i = 0; i < 2 * MAPFS_N_ELEMENTS(pieces); i++) {
        Listing listing = {.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL), .plus = i % 2};
        unsigned n_lacking = 0;

        fs_fixture_remount(fixture, false);
        do {
            listing.may_lack = listing.cookie == 0;
            listing.n = 0;
            listing.n_max = pieces[i / 2];
            assert_int_equal(mapfs_fs_readdir(fixture->fs, dir,
                                              &(MapfsDirScan){listing.cookie, listing.plus, listing_take, &listing}),
                             0);
        } while (listing.n > 0);
        n_lacking = listing.n_lacking;
        assert_int_equal(g_hash_table_size(listing.seen), 3002);
        assert_true(!listing.plus || pieces[i / 2] < 1000 || n_lacking > 0);
        g_hash_table_unref(listing.seen);
    }
}

static void test_cookies_survive_removal_and_insertion(void **state) {
    MapfsFs *fs = fs_of(state);
    Listing listing = {.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL)};
    char name[32];

    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "stays %u", i);
        assert_int_equal(fs_create(fs, ROOT, name, S_IFREG), 0);
    }
    for (unsigned i = 0; i < 100; i++) {
        listing.n = 0;
        listing.n_max = 1;
        assert_int_equal(mapfs_fs_readdir(fs, ROOT, &(MapfsDirScan){listing.cookie, false, listing_take, &listing}), 0);
        snprintf(name, sizeof(name), "comes %u", i);
        assert_int_equal(fs_create(fs, ROOT, name, S_IFREG), 0);
        if (i % 2)
            assert_int_equal(fs_unlink(fs, ROOT, name), 0);
    }
    listing.n_max = UINT32_MAX;
    assert_int_equal(mapfs_fs_readdir(fs, ROOT, &(MapfsDirScan){listing.cookie, false, listing_take, &listing}), 0);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "stays %u", i);
        assert_true(g_hash_table_contains(listing.seen, name));
    }
    g_hash_table_unref(listing.seen);
}

static void test_listing_plus_counts_the_lookups_that_were_taken(void **state) {
    MapfsFs *fs = fs_of(state);
    Listing listing = {.seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL), .n_max = 3, .plus = true};
    unsigned n_counted = 0;
    uint64_t inos[4], ino;

    for (unsigned i = 0; i < 4; i++) {
        const char name[2] = {(char)('a' + i), 0};

        assert_int_equal(fs_create(fs, ROOT, name, S_IFREG), 0);
        inos[i] = fs_ino(fs, ROOT, name);
    }
    /* ".", ".." and one file. */
    assert_int_equal(mapfs_fs_readdir(fs, ROOT, &(MapfsDirScan){0, true, listing_take, &listing}), 0);
    assert_false(mapfs_inode_in_use(fs, ROOT));
    for (unsigned i = 0; i < 4; i++)
        if (mapfs_inode_in_use(fs, inos[i])) {
            n_counted++;
            mapfs_fs_forget(fs, inos[i], 1);
            assert_false(mapfs_inode_in_use(fs, inos[i]));
        }
    assert_int_equal(n_counted, 1);
    assert_false(mapfs_reclaim_queue_take(fs, &ino));
    g_hash_table_unref(listing.seen);
}

static void test_listing_of_what_is_no_directory(void **state) {
    MapfsFs *fs = fs_of(state);
    Listing listing = {.n_max = 10};

    assert_int_equal(
        mapfs_fs_readdir(fs, fs_make(fs, ROOT, "f", S_IFREG), &(MapfsDirScan){0, false, listing_take, &listing}),
        -ENOTDIR);
    assert_int_equal(mapfs_fs_readdir(fs, 999, &(MapfsDirScan){0, false, listing_take, &listing}), -ESTALE);
    assert_int_equal(mapfs_fs_readdir(fs, ROOT, &(MapfsDirScan){UINT64_MAX, false, listing_take, &listing}), 0);
    assert_int_equal(listing.n, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fs_fixture_setup, fs_fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_setattr_changes_what_the_mask_names),
        TEST(test_setattr_keeps_times_to_the_nanosecond),
        TEST(test_new_owner_takes_suid_and_capability_away),
        TEST(test_sgid_without_group_execute_is_no_privilege),
        TEST(test_xattr_values_of_every_length_come_back),
        TEST(test_xattr_removal_leaves_no_items),
        TEST(test_xattr_flags_and_limits),
        TEST(test_xattr_changes_ctime_alone),
        TEST(test_listxattr_names_each_once),
        TEST(test_xattr_names_with_the_same_hash_take_the_slots),
        TEST(test_missing_chunk_is_damage_and_changes_nothing),
        TEST(test_listing_in_pieces_names_each_entry_once),
        TEST(test_cold_listing_of_a_large_directory_names_each_entry_once),
        TEST(test_cookies_survive_removal_and_insertion),
        TEST(test_listing_plus_counts_the_lookups_that_were_taken),
        TEST(test_listing_of_what_is_no_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
