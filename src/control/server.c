/* SPDX-License-Identifier: MIT */
#include "control/server.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <glib.h>

#include "control/protocol.h"
#include "mapfs-config.h"

static int server_error(const MapfsControlServer *server) {
    int error;

    if (mapfs_view_kind(server->view) == MAPFS_VIEW_READONLY)
        return 0;
    error = mapfs_store_error(mapfs_fs_store(mapfs_view_fs(server->view)));
    return error < 0 ? error : mapfs_session_error(server->session);
}

static void server_info(MapfsControlServer *server, struct mapfs_control_info *info) {
    MapfsStore *store = mapfs_fs_store(mapfs_view_fs(server->view));
    MapfsImage *image = mapfs_view_image(server->view);
    struct mapfs_disk_superblock superblock;
    MapfsStoreStatus status;
    MapfsFsStatus space;

    mapfs_store_superblock(store, &superblock);
    mapfs_store_status(store, &status);
    mapfs_fs_statfs(mapfs_view_fs(server->view), &space);
    *info = (struct mapfs_control_info){
        .pid = (uint32_t)getpid(),
        .error = server_error(server),
        .offset_bytes = server->offset_bytes,
        .n_blocks = status.n_blocks,
        .n_free = status.n_free,
        .n_pending = status.n_pending,
        .n_reserve = status.n_reserve,
        .n_available = space.n_available,
        .n_inodes = status.n_inodes,
        .durable_generation = status.durable.n,
        .running_generation = status.running.n,
        .n_checkpoints = status.n_checkpoints,
        .host_allocated = mapfs_image_host_allocated(image),
        .host_free = mapfs_image_host_free(image),
        .start_time = (uint64_t)server->start_time,
    };
    memcpy(info->uuid, superblock.uuid, sizeof info->uuid);
    memcpy(info->label, superblock.label, sizeof superblock.label);
    (void)g_strlcpy(info->view, mapfs_view_kind_name(mapfs_view_kind(server->view)), sizeof info->view);
    (void)g_strlcpy(info->cache, server->cache, sizeof info->cache);
    (void)g_strlcpy(info->version, MAPFS_VERSION, sizeof info->version);
    (void)g_strlcpy(info->source, server->source, sizeof info->source);
}

int mapfs_control_answer(MapfsControlServer *server, unsigned command, void *out, size_t *out_len) {
    struct mapfs_control_info info;

    if (command == MAPFS_CONTROL_INFO && *out_len >= sizeof info) {
        server_info(server, &info);
        memcpy(out, &info, sizeof info);
        *out_len = sizeof info;
        return 0;
    }
    if (command == MAPFS_CONTROL_SYNC) {
        *out_len = 0;
        return mapfs_fs_sync(mapfs_view_fs(server->view));
    }
    return -ENOTTY;
}
