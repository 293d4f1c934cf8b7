/* SPDX-License-Identifier: MIT */

/* Random operations on a filesystem and on a simple model of one: results, errors and, now and then, everything that
 * can be seen must be the same, also after a remount and after a crash that follows a sync. Inodes that are held open
 * live on without names. The seed is printed; MAPFS_TEST_SEED=N runs it again, MAPFS_TEST_STEPS=N makes it longer or
 * shorter. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>
#include <glib.h>

#include "fs-fixture.h"

#define ROOT MAPFS_INO_ROOT
#define N_NAMES 14u
#define N_XATTRS 4u
#define FILE_MAX (96u * 1024u)
#define DEFAULT_STEPS 20000u

typedef struct {
    uint64_t ino;
    uint32_t mode, uid, nlink;
    uint64_t parent;      /* of a directory */
    unsigned n_held;      /* lookups that the test has not forgotten */
    GByteArray *data;     /* of a regular file; target of a symlink */
    GHashTable *children; /* of a directory: name -> ino in a pointer */
    GBytes *xattrs[N_XATTRS];
} Inode;

typedef struct {
    FsFixture fixture;
    GHashTable *inodes; /* ino -> Inode */
    GRand *rand;
    unsigned step;
} Test;

/* --- the model --- */

static Inode *inode_find(Test *test, uint64_t ino) {
    return g_hash_table_lookup(test->inodes, GSIZE_TO_POINTER(ino));
}

static void inode_free(void *data) {
    Inode *inode = data;

    if (inode->data)
        g_byte_array_unref(inode->data);
    if (inode->children)
        g_hash_table_unref(inode->children);
    for (unsigned i = 0; i < N_XATTRS; i++)
        g_clear_pointer(&inode->xattrs[i], g_bytes_unref);
    g_free(inode);
}

static Inode *inode_new(Test *test, uint64_t ino, uint32_t mode) {
    Inode *inode = g_new0(Inode, 1);

    inode->ino = ino;
    inode->mode = mode;
    inode->nlink = S_ISDIR(mode) ? 2 : 1;
    if (S_ISREG(mode) || S_ISLNK(mode))
        inode->data = g_byte_array_new();
    if (S_ISDIR(mode))
        inode->children = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_insert(test->inodes, GSIZE_TO_POINTER(ino), inode);
    return inode;
}

static void inode_drop_unused(Test *test, Inode *inode) {
    if (inode->nlink == 0 && inode->n_held == 0)
        g_hash_table_remove(test->inodes, GSIZE_TO_POINTER(inode->ino));
}

static Inode *child_find(Test *test, const Inode *dir, const char *name) {
    return inode_find(test, GPOINTER_TO_SIZE(g_hash_table_lookup(dir->children, name)));
}

static void child_add(Inode *dir, const char *name, Inode *inode) {
    g_hash_table_replace(dir->children, g_strdup(name), GSIZE_TO_POINTER(inode->ino));
    if (S_ISDIR(inode->mode)) {
        inode->parent = dir->ino;
        dir->nlink++;
    }
}

static void child_remove(Inode *dir, const char *name, const Inode *inode) {
    g_hash_table_remove(dir->children, name);
    if (S_ISDIR(inode->mode))
        dir->nlink--;
}

static void inode_unlink(Test *test, Inode *inode) {
    inode->nlink = S_ISDIR(inode->mode) ? 0 : inode->nlink - 1;
    inode_drop_unused(test, inode);
}

/* What a directory that is to take a name, or have one, answers when it cannot. */
static int dir_error(const Inode *dir) {
    if (!dir->children)
        return -ENOTDIR;
    return dir->nlink == 0 ? -ENOENT : 0;
}

static bool is_within(Test *test, uint64_t dir, uint64_t ancestor) {
    while (dir != ROOT && dir != ancestor)
        dir = inode_find(test, dir)->parent;
    return dir == ancestor;
}

/* --- drawing --- */

static unsigned draw(Test *test, unsigned n) {
    return (unsigned)g_rand_int_range(test->rand, 0, (gint32)n);
}

static void draw_name(Test *test, char *name) {
    unsigned n = draw(test, N_NAMES);

    /* One long name and one with odd bytes among them. */
    if (n == 0) {
        memset(name, 'L', 255);
        name[255] = '\0';
    } else {
        sprintf(name, n == 1 ? "\xff \n%u" : "name %u", n);
    }
}

static Inode *draw_inode(Test *test) {
    g_autofree void **keys = NULL;
    unsigned n;

    keys = g_hash_table_get_keys_as_array(test->inodes, &n);
    return inode_find(test, GPOINTER_TO_SIZE(keys[draw(test, n)]));
}

/* Mostly a directory, sometimes anything. */
static Inode *draw_dir(Test *test) {
    Inode *inode = NULL;

    for (unsigned i = 0; i < 20; i++) {
        inode = draw_inode(test);
        if (inode->children || draw(test, 50) == 0)
            return inode;
    }
    return inode_find(test, ROOT);
}

static void draw_bytes(Test *test, uint8_t *bytes, size_t len) {
    uint32_t state = g_rand_int(test->rand);

    for (size_t i = 0; i < len; i++) {
        state = state * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(state >> 24);
    }
}

/* --- operations --- */

static void op_create(Test *test) {
    static const uint32_t types[] = {S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFDIR, S_IFLNK, S_IFIFO};
    Inode *dir = draw_dir(test), *inode;
    MapfsNewInode new_inode = {.mode = types[draw(test, MAPFS_N_ELEMENTS(types))] | draw(test, 01000),
                               .uid = draw(test, 9)};
    int expected = dir_error(dir), r;
    uint8_t target[4096];
    MapfsAttr attr;
    char name[256];

    draw_name(test, name);
    if (expected == 0 && child_find(test, dir, name))
        expected = -EEXIST;
    if (S_ISLNK(new_inode.mode)) {
        new_inode.target_len = 1 + draw(test, draw(test, 4) == 0 ? 4095 : 60);
        memset(target, 'a' + (int)draw(test, 26), new_inode.target_len);
        new_inode.target = (const char *)target;
    }
    r = mapfs_fs_create(test->fixture.fs, &(MapfsName){dir->ino, name, strlen(name)}, &new_inode, &attr);
    assert_int_equal(r, expected);
    if (r < 0)
        return;
    assert_null(inode_find(test, attr.ino));
    inode = inode_new(test, attr.ino, new_inode.mode);
    inode->uid = new_inode.uid;
    child_add(dir, name, inode);
    if (S_ISLNK(new_inode.mode))
        g_byte_array_append(inode->data, target, (guint)new_inode.target_len);
    if (draw(test, 4) == 0)
        inode->n_held++;
    else
        mapfs_fs_forget(test->fixture.fs, attr.ino, 1);
}

static void op_link(Test *test) {
    Inode *dir = draw_dir(test), *inode = draw_inode(test);
    int expected;
    char name[256];

    draw_name(test, name);
    if (inode->children)
        expected = -EPERM;
    else if (dir_error(dir) < 0)
        expected = dir_error(dir);
    else if (child_find(test, dir, name))
        expected = -EEXIST;
    else
        expected = 0; /* also without a name: who holds an inode may give it one again */
    assert_int_equal(fs_link(test->fixture.fs, inode->ino, dir->ino, name), expected);
    if (expected < 0)
        return;
    inode->nlink++;
    child_add(dir, name, inode);
}

static void op_remove(Test *test) {
    Inode *dir = draw_dir(test), *inode = NULL;
    bool rmdir = draw(test, 2) == 0;
    int expected = dir_error(dir);
    char name[256];

    draw_name(test, name);
    if (expected == 0) {
        inode = child_find(test, dir, name);
        if (!inode)
            expected = -ENOENT;
        else if (rmdir != S_ISDIR(inode->mode))
            expected = rmdir ? -ENOTDIR : -EISDIR;
        else if (rmdir && g_hash_table_size(inode->children) > 0)
            expected = -ENOTEMPTY;
    }
    assert_int_equal(rmdir ? fs_rmdir(test->fixture.fs, dir->ino, name) : fs_unlink(test->fixture.fs, dir->ino, name),
                     expected);
    if (expected < 0)
        return;
    child_remove(dir, name, inode);
    inode_unlink(test, inode);
}

/* What a rename must answer. 1: nothing to do. */
static int rename_expect(Test *test, Inode *dirs[2], Inode *found[2], unsigned flags) {
    if (dir_error(dirs[0]) < 0)
        return dir_error(dirs[0]);
    if (dir_error(dirs[1]) < 0)
        return dir_error(dirs[1]);
    if (!found[0] || (!found[1] && flags & MAPFS_FS_RENAME_EXCHANGE))
        return -ENOENT;
    if (found[1] && flags & MAPFS_FS_RENAME_NOREPLACE)
        return -EEXIST;
    if (found[0] == found[1])
        return 1;
    if (found[0]->children && is_within(test, dirs[1]->ino, found[0]->ino))
        return -EINVAL;
    if (!found[1])
        return 0;
    if (flags & MAPFS_FS_RENAME_EXCHANGE)
        return found[1]->children && is_within(test, dirs[0]->ino, found[1]->ino) ? -EINVAL : 0;
    if (found[0]->children && !found[1]->children)
        return -ENOTDIR;
    if (!found[0]->children && found[1]->children)
        return -EISDIR;
    return found[1]->children && g_hash_table_size(found[1]->children) > 0 ? -ENOTEMPTY : 0;
}

static void op_rename(Test *test) {
    static const unsigned flag_sets[] = {0, 0, 0, MAPFS_FS_RENAME_NOREPLACE, MAPFS_FS_RENAME_EXCHANGE};
    unsigned flags = flag_sets[draw(test, MAPFS_N_ELEMENTS(flag_sets))];
    Inode *dirs[2] = {draw_dir(test), draw_dir(test)}, *found[2] = {NULL, NULL};
    char names[2][256];
    int expected;

    if (draw(test, 2) == 0)
        dirs[1] = dirs[0];
    for (unsigned i = 0; i < 2; i++) {
        draw_name(test, names[i]);
        if (dirs[i]->children)
            found[i] = child_find(test, dirs[i], names[i]);
    }
    expected = rename_expect(test, dirs, found, flags);
    assert_int_equal(fs_rename(test->fixture.fs, fs_at(dirs[0]->ino, names[0]), fs_at(dirs[1]->ino, names[1]), flags),
                     expected > 0 ? 0 : expected);
    if (expected != 0)
        return;
    child_remove(dirs[0], names[0], found[0]);
    if (found[1])
        child_remove(dirs[1], names[1], found[1]);
    child_add(dirs[1], names[1], found[0]);
    if (flags & MAPFS_FS_RENAME_EXCHANGE)
        child_add(dirs[0], names[0], found[1]);
    else if (found[1])
        inode_unlink(test, found[1]);
}

static void op_attributes(Test *test) {
    Inode *inode = draw_inode(test);
    MapfsAttr set = {.mode = draw(test, 010000), .uid = draw(test, 9)}, attr;
    unsigned mask = MAPFS_SET_MODE | (draw(test, 2) ? MAPFS_SET_UID : 0);

    assert_int_equal(mapfs_fs_setattr(test->fixture.fs, inode->ino, mask, &set, &attr), 0);
    inode->mode = (inode->mode & S_IFMT) | set.mode;
    if (mask & MAPFS_SET_UID)
        inode->uid = set.uid;
    /* Without this, groups would be inherited, which the model does not know. */
    if (inode->mode & S_ISGID) {
        set.mode = inode->mode & ~(uint32_t)S_ISGID & 07777;
        assert_int_equal(mapfs_fs_setattr(test->fixture.fs, inode->ino, MAPFS_SET_MODE, &set, &attr), 0);
        inode->mode = (inode->mode & S_IFMT) | set.mode;
    }
}

static uint64_t draw_offset(Test *test) {
    switch (draw(test, 3)) {
    case 0:
        return draw(test, 2000);
    case 1:
        return draw(test, FILE_MAX / MAPFS_BLOCK_SIZE) * MAPFS_BLOCK_SIZE;
    default:
        return draw(test, FILE_MAX);
    }
}

static void op_truncate(Test *test) {
    Inode *inode = draw_inode(test);
    MapfsAttr set = {.size = draw_offset(test)}, attr;
    guint before;

    if (!S_ISREG(inode->mode))
        return;
    assert_int_equal(mapfs_fs_setattr(test->fixture.fs, inode->ino, MAPFS_SET_SIZE, &set, &attr), 0);
    before = inode->data->len;
    g_byte_array_set_size(inode->data, (guint)set.size);
    if (set.size > before)
        memset(inode->data->data + before, 0, set.size - before);
    assert_int_equal(attr.size, set.size);
}

static void op_write(Test *test) {
    Inode *inode = draw_inode(test);
    uint64_t offset = draw_offset(test), end;
    unsigned len = 1 + draw(test, draw(test, 3) == 0 ? 40000 : 3000);
    g_autofree uint8_t *bytes = g_malloc(len);
    guint before;

    if (!S_ISREG(inode->mode))
        return;
    draw_bytes(test, bytes, len);
    assert_int_equal(mapfs_fs_write(test->fixture.fs, inode->ino, offset, bytes, len), len);
    before = inode->data->len;
    end = offset + len;
    if (end > before) {
        g_byte_array_set_size(inode->data, (guint)end);
        memset(inode->data->data + before, 0, end - before);
    }
    memcpy(inode->data->data + offset, bytes, len);
}

static void op_xattr(Test *test) {
    Inode *inode = draw_inode(test);
    unsigned which = draw(test, N_XATTRS), flags = draw(test, 3);
    unsigned len = draw(test, draw(test, 5) == 0 ? 20000 : 100);
    g_autofree uint8_t *bytes = g_malloc(len + 1);
    bool there = inode->xattrs[which];
    char name[32];
    int expected = 0;

    sprintf(name, "user.number-%u", which);
    if (draw(test, 4) == 0) {
        assert_int_equal(mapfs_fs_removexattr(test->fixture.fs, inode->ino, name), there ? 0 : -ENODATA);
        g_clear_pointer(&inode->xattrs[which], g_bytes_unref);
        return;
    }
    if (flags == MAPFS_XATTR_FLAG_CREATE && there)
        expected = -EEXIST;
    if (flags == MAPFS_XATTR_FLAG_REPLACE && !there)
        expected = -ENODATA;
    draw_bytes(test, bytes, len);
    assert_int_equal(mapfs_fs_setxattr(test->fixture.fs, inode->ino, name, (MapfsBytes){bytes, len}, flags), expected);
    if (expected < 0)
        return;
    g_clear_pointer(&inode->xattrs[which], g_bytes_unref);
    inode->xattrs[which] = g_bytes_new(bytes, len);
}

/* Takes a lookup of a name, or gives one back. */
static void op_hold(Test *test) {
    Inode *inode = draw_inode(test), *dir = draw_dir(test);
    MapfsAttr attr;
    char name[256];
    int r;

    if (inode->n_held > 0) {
        mapfs_fs_forget(test->fixture.fs, inode->ino, inode->n_held);
        inode->n_held = 0;
        inode_drop_unused(test, inode);
        return;
    }
    draw_name(test, name);
    r = mapfs_fs_lookup(test->fixture.fs, dir->ino, name, strlen(name), &attr);
    if (dir_error(dir) < 0) {
        assert_int_equal(r, dir_error(dir));
        return;
    }
    inode = child_find(test, dir, name);
    assert_int_equal(r, inode ? 0 : -ENOENT);
    if (!inode)
        return;
    assert_int_equal(attr.ino, inode->ino);
    inode->n_held++;
}

/* --- comparison --- */

typedef struct {
    Test *test;
    const Inode *dir;
    unsigned n;
} Compare;

static int compare_entry(void *user, const MapfsDirEntry *entry) {
    Compare *compare = user;
    g_autofree char *name = g_strndup(entry->name, entry->name_len);
    const Inode *inode;

    if (entry->cookie <= 2)
        return 1;
    inode = child_find(compare->test, compare->dir, name);
    assert_non_null(inode);
    assert_int_equal(inode->ino, entry->ino);
    assert_int_equal(entry->type, mapfs_dirent_type_from_mode(inode->mode));
    compare->n++;
    return 1;
}

static void compare_data(Test *test, const Inode *inode) {
    g_autofree uint8_t *bytes = g_malloc(inode->data->len + 100);
    char target[MAPFS_SYMLINK_LEN_MAX + 1];

    if (S_ISLNK(inode->mode)) {
        assert_int_equal(mapfs_fs_readlink(test->fixture.fs, inode->ino, target), 0);
        assert_int_equal(strlen(target), inode->data->len);
        assert_memory_equal(target, inode->data->data, inode->data->len);
        return;
    }
    assert_int_equal(mapfs_fs_read(test->fixture.fs, inode->ino, 0, bytes, inode->data->len + 100), inode->data->len);
    if (inode->data->len > 0)
        assert_memory_equal(bytes, inode->data->data, inode->data->len);
}

static void compare_xattrs(Test *test, const Inode *inode) {
    g_autofree uint8_t *value = g_malloc(MAPFS_XATTR_VALUE_MAX);

    for (unsigned i = 0; i < N_XATTRS; i++) {
        char name[32];
        int r;

        sprintf(name, "user.number-%u", i);
        r = mapfs_fs_getxattr(test->fixture.fs, inode->ino, name, value, MAPFS_XATTR_VALUE_MAX);
        if (!inode->xattrs[i]) {
            assert_int_equal(r, -ENODATA);
            continue;
        }
        assert_int_equal(r, g_bytes_get_size(inode->xattrs[i]));
        if (r > 0)
            assert_memory_equal(value, g_bytes_get_data(inode->xattrs[i], NULL), (size_t)r);
    }
}

static void compare_inode(Test *test, const Inode *inode) {
    MapfsAttr attr;

    assert_int_equal(mapfs_fs_getattr(test->fixture.fs, inode->ino, &attr), 0);
    assert_int_equal(attr.mode, inode->mode);
    assert_int_equal(attr.uid, inode->uid);
    assert_int_equal(attr.nlink, inode->nlink);
    if (inode->data)
        assert_int_equal(attr.size, inode->data->len);
    if (inode->children) {
        Compare compare = {test, inode, 0};

        assert_int_equal(attr.size, g_hash_table_size(inode->children));
        assert_int_equal(attr.parent, inode->parent);
        assert_int_equal(
            mapfs_fs_readdir(test->fixture.fs, inode->ino, &(MapfsDirScan){0, false, compare_entry, &compare}), 0);
        assert_int_equal(compare.n, g_hash_table_size(inode->children));
    }
    if (inode->data)
        compare_data(test, inode);
    compare_xattrs(test, inode);
}

static void compare_all(Test *test) {
    MapfsStoreStatus status;
    GHashTableIter iter;
    void *inode;

    g_hash_table_iter_init(&iter, test->inodes);
    while (g_hash_table_iter_next(&iter, NULL, &inode))
        compare_inode(test, inode);
    assert_int_equal(mapfs_fs_reclaim(test->fixture.fs), 0);
    mapfs_store_status(mapfs_fs_store(test->fixture.fs), &status);
    assert_int_equal(status.n_inodes, g_hash_table_size(test->inodes));
}

/* --- the run --- */

static gboolean inode_is_gone(void *key, void *value, void *user) {
    Inode *inode = value;

    (void)key;  /* the inode knows it */
    (void)user; /* none */
    inode->n_held = 0;
    return inode->nlink == 0;
}

static void remount(Test *test, bool crash) {
    if (crash)
        assert_int_equal(mapfs_fs_sync(test->fixture.fs), 0);
    fs_fixture_remount(&test->fixture, crash);
    g_hash_table_foreach_remove(test->inodes, inode_is_gone, NULL);
    compare_all(test);
}

static void step(Test *test) {
    static void (*const operations[])(Test * test) = {
        op_create,     op_create, op_create, op_link,     op_remove, op_remove, op_rename, op_rename,
        op_attributes, op_write,  op_write,  op_truncate, op_xattr,  op_xattr,  op_hold,   op_hold,
    };

    operations[draw(test, MAPFS_N_ELEMENTS(operations))](test);
    if (test->step % 500 == 499)
        compare_all(test);
    if (draw(test, 200) == 0)
        assert_int_equal(mapfs_fs_sync(test->fixture.fs), 0);
    if (draw(test, 1000) == 0)
        remount(test, draw(test, 2) == 0);
}

static uint32_t number_from_environment(const char *name, uint32_t otherwise) {
    const char *text = getenv(name);

    return text ? (uint32_t)strtoul(text, NULL, 0) : otherwise;
}

static void test_random_operations_do_what_the_model_does(void **state) {
    uint32_t seed = number_from_environment("MAPFS_TEST_SEED", (uint32_t)time(NULL));
    uint32_t n_steps = number_from_environment("MAPFS_TEST_STEPS", DEFAULT_STEPS);
    Test test = {.rand = g_rand_new_with_seed(seed)};
    Inode *root;

    (void)state; /* the test has its own */
    print_message("# MAPFS_TEST_SEED=%u\n", seed);
    fs_fixture_open(&test.fixture, 32768, NULL);
    test.inodes = g_hash_table_new_full(NULL, NULL, NULL, inode_free);
    root = inode_new(&test, ROOT, S_IFDIR | 0755);
    root->parent = ROOT;
    root->uid = 7;
    root->n_held = 1; /* never dropped */
    for (test.step = 0; test.step < n_steps; test.step++)
        step(&test);
    remount(&test, false);
    fs_fixture_close(&test.fixture);
    g_hash_table_unref(test.inodes);
    g_rand_free(test.rand);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_operations_do_what_the_model_does)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
