/* SPDX-License-Identifier: MIT */
#pragma once

/* What the handlers share. A handler gets a request, calls one operation, and replies exactly once through a function below.
 * They hold no lock while they reply, except for data.c, which sends file data straight from the mapping. */

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/stat.h>

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 18)
#include <fuse_lowlevel.h>

#include "fuse/session.h"

struct MapfsSession {
    const MapfsSessionConfig *config;
    MapfsFs *fs;
    struct fuse_session *fuse;
    atomic_bool is_damaged; /* damage was met, and config->damage_read_only */
    atomic_uint n_damage_logged;
    atomic_bool is_failure_logged; /* of the host */
    bool is_mounted;               /* main thread alone */
    pthread_mutex_t root_mutex;    /* guards what follows: */
    bool has_root;
    struct stat root; /* the attributes that the root directory was last seen with */
    /* What the kernel does, known since INIT. */
    bool copies_long;  /* asks for no more of a copy than the answer has bits for */
    bool checks_flags; /* asks for a capability before it hands on a change of flags */
    bool tells_sgid;   /* tells with an access list whether setgid must go */
};

/* The image is ours alone and every change comes through this kernel, so that what it knows stays true: a year. */
#define MAPFS_FUSE_TIMEOUT (365.0 * 24 * 60 * 60)

static inline MapfsSession *mapfs_request_session(fuse_req_t req) {
    return fuse_req_userdata(req);
}

/* --- reply.c --- */

/* Ends a request that has no result: r is 0 or -errno. A fault during the request makes it EIO, and damage (-EUCLEAN) is
 * logged and becomes EIO. */
void mapfs_reply_status(fuse_req_t req, int r);

/* As above, and the entry of an inode when r is 0; takes its lookup back when it cannot be told. */
void mapfs_reply_entry(fuse_req_t req, int r, const MapfsAttr *attr);
void mapfs_reply_create(fuse_req_t req, int r, const MapfsAttr *attr, struct fuse_file_info *fi);

/* As above, and attributes when r is 0. */
void mapfs_reply_attr(fuse_req_t req, int r, const MapfsAttr *attr);

/* The same for the root directory. When its attributes cannot be had, those that it was last seen with: a mount that has failed can still be asked
 * what it lacks, be synced and unmounted. */
void mapfs_reply_root(fuse_req_t req, int r, const MapfsAttr *attr);
void mapfs_session_keep_root(MapfsSession *session, const struct stat *root);

/* r < 0 is an error; otherwise `r` bytes of `buffer`, or with buffer NULL the number alone, as of an xattr. */
void mapfs_reply_xattr(fuse_req_t req, int r, const char *buffer);

/* What a request ends with: r, or -EIO after a fault of this thread or damage. To be called once in a request. */
int mapfs_request_result(fuse_req_t req, int r) MAPFS_MUST_USE;

/* Logs what was found damaged, and refuses changes from here on if the options say so. `user` is the MapfsSession; any thread. */
void mapfs_session_note_damage(void *user, const char *what);

/* 0, or -EROFS when this session takes no changes. */
int mapfs_request_may_change(fuse_req_t req) MAPFS_MUST_USE;

void mapfs_attr_to_stat(const MapfsSession *session, const MapfsAttr *attr, struct stat *ret_stat);
void mapfs_attr_to_entry(const MapfsSession *session, const MapfsAttr *attr, struct fuse_entry_param *ret_entry);

/* --- libfuse-3.18.c, or libfuse-3.17.c in its place --- */

/* Whether this write takes suid, sgid and capabilities away. */
bool mapfs_libfuse_kills_privileges(const struct fuse_file_info *fi) MAPFS_MUST_USE;

/* At INIT, beside the features that both versions know. */
void mapfs_libfuse_choose_features(struct fuse_conn_info *connection);

void mapfs_libfuse_add_handlers(struct fuse_lowlevel_ops *handlers);

/* --- the handlers, by file; signatures are libfuse's --- */

/* inode.c */
void mapfs_handle_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n);
void mapfs_handle_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void mapfs_handle_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mapfs_handle_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi);
void mapfs_handle_statfs(fuse_req_t req, fuse_ino_t ino);

/* names.c */
void mapfs_handle_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void mapfs_handle_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void mapfs_handle_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi);
void mapfs_handle_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void mapfs_handle_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void mapfs_handle_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void mapfs_handle_readlink(fuse_req_t req, fuse_ino_t ino);
void mapfs_handle_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name);
void mapfs_handle_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void mapfs_handle_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void mapfs_handle_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                         const char *new_name, unsigned int flags);

/* data.c */
void mapfs_handle_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void mapfs_handle_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *source, off_t offset,
                            struct fuse_file_info *fi);
void mapfs_handle_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

/* copy.c */
void mapfs_handle_copy_file_range(fuse_req_t req, fuse_ino_t from_ino, off_t from_offset, struct fuse_file_info *from,
                                  fuse_ino_t to_ino, off_t to_offset, struct fuse_file_info *to, size_t len, int flags);

/* allocate.c */
void mapfs_handle_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len,
                            struct fuse_file_info *fi);
void mapfs_handle_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi);

/* xattr.c */
void mapfs_handle_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void mapfs_handle_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void mapfs_handle_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void mapfs_handle_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* ioctl.c */
void mapfs_handle_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int command, void *arg, struct fuse_file_info *fi,
                        unsigned flags, const void *in_buffer, size_t in_len, size_t out_len);

/* readdir.c */
void mapfs_handle_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mapfs_handle_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void mapfs_handle_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void mapfs_handle_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);

/* handlers.c */
extern const struct fuse_lowlevel_ops mapfs_handlers;
