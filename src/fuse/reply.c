/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <syslog.h>

#include "fuse/session-private.h"
#include "base/error.h"

/* A damaged image can meet every request with damage: the log tells of the first ones. */
#define DAMAGE_LOG_MAX 20u

void mapfs_session_note_damage(void *user, const char *what) {
    MapfsSession *session = user;
    const unsigned n = atomic_fetch_add_explicit(&session->n_damage_logged, 1, memory_order_relaxed);
    char message[1024];

    if (session->config->damage_read_only)
        atomic_store_explicit(&session->is_damaged, true, memory_order_relaxed);
    if (n > DAMAGE_LOG_MAX)
        return;
    if (n == DAMAGE_LOG_MAX)
        (void)snprintf(message, sizeof message, "%s: more damage, which is not logged", session->config->source);
    else
        (void)snprintf(message, sizeof message, "%s is damaged: %s%s", session->config->source, what,
                       n == 0 && session->config->damage_read_only ? "; changes are refused from here on" : "");
    session->config->log(LOG_ERR, message);
}

/* Once: every request that follows fails too. */
static void session_note_failure(MapfsSession *session) {
    const MapfsImage *image = mapfs_store_image(mapfs_fs_store(session->fs));
    char message[1024];

    if (!mapfs_image_writes_lost(image) || atomic_exchange(&session->is_failure_logged, true))
        return;
    (void)snprintf(
        message, sizeof message,
        "%s: writing to the host has failed (%s): no more changes are taken, and what is not durable yet is not "
        "read; unmount, see to the host, and mount again to find the last durable state",
        session->config->source, strerror(-mapfs_image_error(image)));
    session->config->log(LOG_ERR, message);
}

int mapfs_request_result(fuse_req_t req, int r) {
    if (mapfs_sigbus_taken())
        return -EIO;
    if (r == -EIO)
        session_note_failure(mapfs_request_session(req));
    if (r == -EUCLEAN) {
        mapfs_session_note_damage(mapfs_request_session(req), mapfs_damage_last());
        return -EIO;
    }
    return r;
}

int mapfs_request_may_change(fuse_req_t req) {
    const MapfsSession *session = mapfs_request_session(req);

    return atomic_load_explicit(&session->is_damaged, memory_order_relaxed) ? -EROFS : 0;
}

void mapfs_reply_status(fuse_req_t req, int r) {
    r = mapfs_request_result(req, r);
    (void)fuse_reply_err(req, r < 0 ? -r : 0); /* libfuse has no use for a failure either: the connection is gone */
}

void mapfs_attr_to_stat(const MapfsSession *session, const MapfsAttr *attr, struct stat *ret_stat) {
    *ret_stat = (struct stat){
        .st_ino = attr->ino,
        .st_mode = attr->mode,
        .st_nlink = attr->nlink,
        .st_uid = session->config->uid >= 0 ? (uid_t)session->config->uid : attr->uid,
        .st_gid = session->config->gid >= 0 ? (gid_t)session->config->gid : attr->gid,
        .st_rdev = makedev(attr->rdev_major, attr->rdev_minor),
        .st_size = (off_t)attr->size,
        .st_blksize = MAPFS_BLOCK_SIZE,
        .st_blocks = (blkcnt_t)(attr->n_blocks * (MAPFS_BLOCK_SIZE / 512)),
        .st_atim = attr->atime,
        .st_mtim = attr->mtime,
        .st_ctim = attr->ctime,
    };
}

/* Numbers are never used twice, but for those given out after the last sync before a crash. The time of birth tells these from the later
 * ones, which makes a file handle good for one file alone. The kernel takes 32 bits, 0 for the root alone. */
static uint64_t attr_generation(const MapfsAttr *attr) {
    const uint64_t birth = (uint64_t)attr->btime.tv_sec * 1000000000u + (uint64_t)attr->btime.tv_nsec;
    const uint64_t generation = (birth * UINT64_C(0x9e3779b97f4a7c15)) >> 32;

    if (attr->ino == FUSE_ROOT_ID)
        return 0;
    return generation != 0 ? generation : 1;
}

void mapfs_attr_to_entry(const MapfsSession *session, const MapfsAttr *attr, struct fuse_entry_param *ret_entry) {
    *ret_entry = (struct fuse_entry_param){
        .ino = attr->ino,
        .generation = attr_generation(attr),
        .attr_timeout = MAPFS_FUSE_TIMEOUT,
        .entry_timeout = MAPFS_FUSE_TIMEOUT,
    };
    mapfs_attr_to_stat(session, attr, &ret_entry->attr);
}

/* The common part of replies that give an inode to the kernel: false when the request has ended with an error. */
static bool reply_entry_begin(fuse_req_t req, int r, const MapfsAttr *attr, struct fuse_entry_param *ret_entry) {
    MapfsSession *session = mapfs_request_session(req);
    const int result = mapfs_request_result(req, r);

    if (result < 0) {
        if (r == 0)
            mapfs_fs_forget(session->fs, attr->ino, 1);
        (void)fuse_reply_err(req, -result);
        return false;
    }
    mapfs_attr_to_entry(session, attr, ret_entry);
    return true;
}

void mapfs_reply_entry(fuse_req_t req, int r, const MapfsAttr *attr) {
    MapfsFs *fs = mapfs_request_session(req)->fs;
    struct fuse_entry_param entry;

    if (reply_entry_begin(req, r, attr, &entry) && fuse_reply_entry(req, &entry) < 0)
        mapfs_fs_forget(fs, attr->ino, 1);
}

void mapfs_reply_create(fuse_req_t req, int r, const MapfsAttr *attr, struct fuse_file_info *fi) {
    MapfsFs *fs = mapfs_request_session(req)->fs;
    struct fuse_entry_param entry;

    if (reply_entry_begin(req, r, attr, &entry) && fuse_reply_create(req, &entry, fi) < 0)
        mapfs_fs_forget(fs, attr->ino, 1);
}

static void reply_attr_good(fuse_req_t req, const MapfsAttr *attr) {
    struct stat stat;

    mapfs_attr_to_stat(mapfs_request_session(req), attr, &stat);
    if (attr->ino == FUSE_ROOT_ID)
        mapfs_session_keep_root(mapfs_request_session(req), &stat);
    (void)fuse_reply_attr(req, &stat, MAPFS_FUSE_TIMEOUT);
}

void mapfs_reply_attr(fuse_req_t req, int r, const MapfsAttr *attr) {
    r = mapfs_request_result(req, r);
    if (r < 0)
        (void)fuse_reply_err(req, -r);
    else
        reply_attr_good(req, attr);
}

void mapfs_session_keep_root(MapfsSession *session, const struct stat *root) {
    pthread_mutex_lock(&session->root_mutex);
    session->root = *root;
    session->has_root = true;
    pthread_mutex_unlock(&session->root_mutex);
}

void mapfs_reply_root(fuse_req_t req, int r, const MapfsAttr *attr) {
    MapfsSession *session = mapfs_request_session(req);
    struct stat stat;
    bool has_root;

    r = mapfs_request_result(req, r);
    if (r == 0) {
        reply_attr_good(req, attr);
        return;
    }
    pthread_mutex_lock(&session->root_mutex);
    stat = session->root;
    has_root = session->has_root;
    pthread_mutex_unlock(&session->root_mutex);
    if (has_root)
        (void)fuse_reply_attr(req, &stat, 0);
    else
        (void)fuse_reply_err(req, -r);
}

void mapfs_reply_xattr(fuse_req_t req, int r, const char *buffer) {
    r = mapfs_request_result(req, r);
    if (r < 0)
        (void)fuse_reply_err(req, -r);
    else if (buffer)
        (void)fuse_reply_buf(req, buffer, (size_t)r);
    else
        (void)fuse_reply_xattr(req, (size_t)r);
}
