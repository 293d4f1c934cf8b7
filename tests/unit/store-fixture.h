/* SPDX-License-Identifier: MIT */
#pragma once

/* A store on a recording image for the tests of src/txn, and short forms that fail the test when they fail. */

#include <stdbool.h>
#include <stdint.h>

#include "format/items.h"
#include "image/recording.h"
#include "txn/store.h"

#define STORE_FIXTURE_BLOCKS 2048u

typedef struct {
    MapfsRecording *recording;
    MapfsImage *image;
    MapfsStore *store;
    /* The hooks of the recording count. 0: never. */
    unsigned n_syncs, n_reserves;
    unsigned fail_sync_in;      /* the n-th from now on fails */
    unsigned fail_reserve_from; /* that and all after it fail */
} StoreFixture;

/* cmocka setup and teardown; *state is a StoreFixture. */
int store_fixture_setup(void **state);
int store_fixture_teardown(void **state);

/* An image of n_blocks, formatted and opened; options may be NULL. */
void store_fixture_open(StoreFixture *fixture, uint64_t n_blocks, const MapfsStoreOptions *options);
void store_fixture_close(StoreFixture *fixture);

/* Opens the image again after an orderly close, or with `crash` without one. */
void store_fixture_remount(StoreFixture *fixture, bool crash);

/* The format of the tests. */
int store_format(MapfsImage *image, uint64_t log_blocks);

/* Adds an inode item, or removes it, in a transaction of its own. */
int store_add(MapfsStore *store, uint64_t ino);
int store_remove(MapfsStore *store, uint64_t ino);
bool store_has(MapfsStore *store, uint64_t ino);

/* Data blocks in a transaction of their own: taken as a record would, and freed. */
MapfsRun store_take(MapfsStore *store, uint64_t goal, uint64_t n_blocks);
void store_give(MapfsStore *store, MapfsRun run);

MapfsStoreStatus store_status(MapfsStore *store);
