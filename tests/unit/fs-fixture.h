/* SPDX-License-Identifier: MIT */
#pragma once

/* A filesystem in anonymous memory for the tests of src/fs, and short forms of the operations that fail the test when
 * they fail. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <glib.h>

#include "fs/fs.h"

typedef struct {
    MapfsImage *image;
    MapfsFs *fs;
} FsFixture;

#define FS_FIXTURE_BLOCKS 4096u

/* cmocka setup and teardown; *state is an FsFixture. */
int fs_fixture_setup(void **state);
int fs_fixture_teardown(void **state);

/* The filesystem of a cmocka state. */
static inline MapfsFs *fs_of(void **state) {
    return ((FsFixture *)*state)->fs;
}

/* An image of another size; options may be NULL. */
void fs_fixture_open(FsFixture *fixture, uint64_t n_blocks, const MapfsStoreOptions *options);
void fs_fixture_close(FsFixture *fixture);

/* Closes the filesystem and opens it again; with `crash`, without the last checkpoint. */
void fs_fixture_remount(FsFixture *fixture, bool crash);

/* Makes something in a directory: the inode number, its lookup counted. */
uint64_t fs_make(MapfsFs *fs, uint64_t parent, const char *name, uint32_t mode);

/* The results of the operations themselves. */
int fs_create(MapfsFs *fs, uint64_t parent, const char *name, uint32_t mode);
int fs_symlink(MapfsFs *fs, uint64_t parent, const char *name, const char *target);
int fs_lookup(MapfsFs *fs, uint64_t parent, const char *name);
int fs_link(MapfsFs *fs, uint64_t ino, uint64_t parent, const char *name);
int fs_unlink(MapfsFs *fs, uint64_t parent, const char *name);
int fs_rmdir(MapfsFs *fs, uint64_t parent, const char *name);
/* A name in a directory. */
MapfsName fs_at(uint64_t parent, const char *name);
int fs_rename(MapfsFs *fs, MapfsName from, MapfsName to, unsigned flags);

/* The attributes of an inode that is there. */
MapfsAttr fs_attr(MapfsFs *fs, uint64_t ino);

/* The inode of a name that is there, without counting a lookup; 0 when there is none. */
uint64_t fs_ino(MapfsFs *fs, uint64_t parent, const char *name);

/* A file and what it should hold. */
typedef struct {
    uint64_t ino;
    GByteArray *bytes;
    char name[16];
} FsFile;

/* More bytes are zeros. */
void bytes_set_size(GByteArray *bytes, uint64_t size);
/* Writes bytes made from `salt` into both. */
void file_write(MapfsFs *fs, FsFile *file, uint64_t offset, size_t len, uint8_t salt);
