/* SPDX-License-Identifier: MIT */

#include "fs-fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>
#include <glib.h>

#include "base/error.h"

void fs_fixture_open(FsFixture *fixture, uint64_t n_blocks, const MapfsStoreOptions *options) {
    const MapfsStoreOptions none = {0};
    const MapfsFsFormat how = {
        .store = {.label = "test", .seed = 1, .time = UINT64_C(1) << 61},
        .root_uid = 7,
        .root_gid = 8,
        .root_mode = 0755,
    };

    assert_int_equal(mapfs_image_open_anonymous(n_blocks, &fixture->image), 0);
    assert_int_equal(mapfs_fs_format(fixture->image, &how), 0);
    assert_int_equal(mapfs_fs_open(fixture->image, options ? options : &none, &fixture->fs), 0);
}

void fs_fixture_close(FsFixture *fixture) {
    /* NULL after a remount that failed. */
    if (fixture->fs)
        assert_int_equal(mapfs_fs_close(fixture->fs), 0);
    mapfs_image_close(fixture->image);
}

int fs_fixture_setup(void **state) {
    FsFixture *fixture = g_new0(FsFixture, 1);

    *state = fixture;
    fs_fixture_open(fixture, FS_FIXTURE_BLOCKS, NULL);
    return 0;
}

int fs_fixture_teardown(void **state) {
    fs_fixture_close(*state);
    g_free(*state);
    return 0;
}

void fs_fixture_remount(FsFixture *fixture, bool crash) {
    const MapfsStoreOptions none = {0};

    if (crash)
        mapfs_fs_abandon(fixture->fs);
    else
        assert_int_equal(mapfs_fs_close(fixture->fs), 0);
    fixture->fs = NULL;
    assert_int_equal(mapfs_fs_open(fixture->image, &none, &fixture->fs), 0);
}

uint64_t fs_make(MapfsFs *fs, uint64_t parent, const char *name, uint32_t mode) {
    const MapfsNewInode new_inode = {.mode = mode};
    MapfsAttr attr;

    assert_int_equal(mapfs_fs_create(fs, &(MapfsName){parent, name, strlen(name)}, &new_inode, &attr), 0);
    return attr.ino;
}

int fs_create(MapfsFs *fs, uint64_t parent, const char *name, uint32_t mode) {
    const MapfsNewInode new_inode = {.mode = mode};
    MapfsAttr attr;
    int r = mapfs_fs_create(fs, &(MapfsName){parent, name, strlen(name)}, &new_inode, &attr);

    if (r == 0)
        mapfs_fs_forget(fs, attr.ino, 1);
    return r;
}

int fs_symlink(MapfsFs *fs, uint64_t parent, const char *name, const char *target) {
    const MapfsNewInode new_inode = {.mode = 0120777, .target = target, .target_len = strlen(target)};
    MapfsAttr attr;
    int r = mapfs_fs_create(fs, &(MapfsName){parent, name, strlen(name)}, &new_inode, &attr);

    if (r == 0)
        mapfs_fs_forget(fs, attr.ino, 1);
    return r;
}

int fs_lookup(MapfsFs *fs, uint64_t parent, const char *name) {
    MapfsAttr attr;
    int r = mapfs_fs_lookup(fs, parent, name, strlen(name), &attr);

    if (r == 0)
        mapfs_fs_forget(fs, attr.ino, 1);
    return r;
}

int fs_link(MapfsFs *fs, uint64_t ino, uint64_t parent, const char *name) {
    MapfsAttr attr;
    int r = mapfs_fs_link(fs, ino, &(MapfsName){parent, name, strlen(name)}, &attr);

    if (r == 0)
        mapfs_fs_forget(fs, attr.ino, 1);
    return r;
}

int fs_unlink(MapfsFs *fs, uint64_t parent, const char *name) {
    return mapfs_fs_unlink(fs, parent, name, strlen(name));
}

int fs_rmdir(MapfsFs *fs, uint64_t parent, const char *name) {
    return mapfs_fs_rmdir(fs, parent, name, strlen(name));
}

MapfsName fs_at(uint64_t parent, const char *name) {
    return (MapfsName){parent, name, strlen(name)};
}

int fs_rename(MapfsFs *fs, MapfsName from, MapfsName to, unsigned flags) {
    return mapfs_fs_rename(fs, &from, &to, flags);
}

MapfsAttr fs_attr(MapfsFs *fs, uint64_t ino) {
    MapfsAttr attr;

    assert_int_equal(mapfs_fs_getattr(fs, ino, &attr), 0);
    return attr;
}

uint64_t fs_ino(MapfsFs *fs, uint64_t parent, const char *name) {
    MapfsAttr attr;

    if (mapfs_fs_lookup(fs, parent, name, strlen(name), &attr) < 0)
        return 0;
    mapfs_fs_forget(fs, attr.ino, 1);
    return attr.ino;
}

void bytes_set_size(GByteArray *bytes, uint64_t size) {
    guint before = bytes->len;

    g_byte_array_set_size(bytes, (guint)size);
    if (size > before)
        memset(bytes->data + before, 0, size - before);
}

void file_write(MapfsFs *fs, FsFile *file, uint64_t offset, size_t len, uint8_t salt) {
    g_autofree uint8_t *data = g_malloc(len);

    for (size_t i = 0; i < len; i++)
        data[i] = (uint8_t)(salt + i * 7 + i / 251);
    assert_int_equal(mapfs_fs_write(fs, file->ino, offset, data, len), len);
    if (offset + len > file->bytes->len)
        bytes_set_size(file->bytes, offset + len);
    memcpy(file->bytes->data + offset, data, len);
}
