/* SPDX-License-Identifier: MIT */
#include "view/view.h"

#include <pthread.h>
#include <signal.h>

#include <glib.h>

struct MapfsView {
    MapfsViewKind kind;
    MapfsImage *image;
    MapfsFs *fs;
};

const char *mapfs_view_kind_name(MapfsViewKind kind) {
    return kind == MAPFS_VIEW_READONLY ? "readonly" : "shared";
}

/* Starts the filesystem's threads with all signals blocked: who opens a view is who takes them. SIGBUS belongs to
 * the thread that met it. */
static int view_open_fs(MapfsView *view, const MapfsStoreOptions *options) {
    sigset_t blocked, before;
    int r;

    (void)sigfillset(&blocked); /* these cannot fail */
    (void)sigdelset(&blocked, SIGBUS);
    (void)pthread_sigmask(SIG_BLOCK, &blocked, &before);
    r = mapfs_fs_open(view->image, options, &view->fs);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return r;
}

int mapfs_view_open(const char *path, const MapfsViewOptions *options, MapfsView **ret_view) {
    const bool read_only = options->kind == MAPFS_VIEW_READONLY;
    const MapfsImageOpen how = {
        .offset_bytes = options->offset_bytes,
        .read_only = read_only,
        .exclusive = !read_only,
        .shared = read_only,
        .wait_ms = options->wait_ms,
    };
    MapfsStoreOptions store_options = {
        .read_only = read_only,
        .discard = options->discard == MAPFS_DISCARD_ON,
        .threads = !read_only,
        .commit_seconds = options->commit_seconds,
    };
    MapfsView *view = g_new0(MapfsView, 1);
    int r;

    view->kind = options->kind;
    r = mapfs_image_open_file(path, &how, &view->image);
    if (r < 0) {
        g_free(view);
        return r;
    }
    if (options->discard == MAPFS_DISCARD_AUTO)
        store_options.discard = !view->image->on_device;
    r = view_open_fs(view, &store_options);
    if (r < 0) {
        mapfs_image_close(view->image);
        g_free(view);
        return r;
    }
    *ret_view = view;
    return 0;
}

void mapfs_view_set_finishing(MapfsView *view) {
    mapfs_image_set_finishing(view->image, true);
}

int mapfs_view_close(MapfsView *view) {
    int r;

    if (!view)
        return 0;
    r = mapfs_fs_close(view->fs);
    mapfs_image_close(view->image);
    g_free(view);
    return r;
}

MapfsFs *mapfs_view_fs(MapfsView *view) {
    return view->fs;
}

MapfsImage *mapfs_view_image(MapfsView *view) {
    return view->image;
}

MapfsViewKind mapfs_view_kind(const MapfsView *view) {
    return view->kind;
}
