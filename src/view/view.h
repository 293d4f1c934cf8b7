/* SPDX-License-Identifier: MIT */
#pragma once

/* How an image is opened: a view is the image, the filesystem in it, and who sees the changes. */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"
#include "fs/fs.h"
#include "image/image.h"

typedef enum {
    MAPFS_VIEW_SHARED,   /* changes are durable and everybody's; one writer per image */
    MAPFS_VIEW_READONLY, /* the last checkpoint; needs no permission to write, any number of them, none beside a writer */
} MapfsViewKind;

typedef enum {
    MAPFS_DISCARD_AUTO, /* on, unless the image is a block device: there a trim at leisure (fstrim) is better */
    MAPFS_DISCARD_ON,
    MAPFS_DISCARD_OFF,
} MapfsDiscard;

typedef struct {
    MapfsViewKind kind;
    uint64_t offset_bytes;   /* where the image starts in the file */
    unsigned wait_ms;        /* how long to wait for a daemon that is finishing */
    MapfsDiscard discard;    /* give freed blocks back to the host */
    unsigned commit_seconds; /* checkpoint interval, 0 for the default */
} MapfsViewOptions;

typedef struct MapfsView MapfsView;

/* Opens the image at `path`. Errors as mapfs_image_open_file() and mapfs_store_open(). */
int mapfs_view_open(const char *path, const MapfsViewOptions *options, MapfsView **ret_view) MAPFS_MUST_USE;

/* From here on other openers may wait for this view's end instead of being refused. */
void mapfs_view_set_finishing(MapfsView *view);

/* Makes all durable, unmaps, and drops the locks in any case: 0, or why the last checkpoint failed. NULL is fine. */
int mapfs_view_close(MapfsView *view) MAPFS_MUST_USE;

MapfsFs *mapfs_view_fs(MapfsView *view);
MapfsImage *mapfs_view_image(MapfsView *view);
MapfsViewKind mapfs_view_kind(const MapfsView *view);

/* The name as in the option view=. */
const char *mapfs_view_kind_name(MapfsViewKind kind);
