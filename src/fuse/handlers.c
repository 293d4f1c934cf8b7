/* SPDX-License-Identifier: MIT */
#include "fuse/session-private.h"

/* How many requests the kernel may have in flight that nobody waits for (read-ahead, asynchronous direct I/O). Its default of
 * 12 starves a deep queue. */
#define BACKGROUND_MAX 256u

/* The largest write. It is a change of its own, so a sync beside a stream waits for a whole one: larger ones made streams no faster. */
#define WRITE_MAX (256u * 1024u)

/* The protocol of Linux 5.14: its kernel side of FUSE knows the ioctls for flags, which 5.13 was the first to. */
#define FUSE_MINOR_FLAGS_CHECKED 34u
/* That of Linux 6.18: the answer to a copy has 64 bits. */
#define FUSE_MINOR_COPY_LONG 45u

static void handle_init(void *user, struct fuse_conn_info *connection) {
    MapfsSession *session = user;
    /* What libfuse asks for by itself is not repeated here. A flag that the kernel does not know stays off. */
    static const uint64_t wanted[] = {
        FUSE_CAP_NO_OPEN_SUPPORT, /* no OPEN, RELEASE and FLUSH: nodes are all that a request needs */
        FUSE_CAP_PARALLEL_DIROPS,     FUSE_CAP_CACHE_SYMLINKS,
        FUSE_CAP_EXPLICIT_INVAL_DATA, /* a changed size or time is no reason to drop the page cache: the change was the kernel's own */
        FUSE_CAP_POSIX_ACL,    /* the kernel decides by access control lists, and leaves it to us to inherit them */
        FUSE_CAP_DONT_MASK,    /* the umask does not count where there is a default list */
        FUSE_CAP_SETXATTR_EXT, /* a new list may cost setgid: the kernel says so */
        FUSE_CAP_EXPORT_SUPPORT, /* "." and ".." can be looked up by node alone: file handles outlive the kernel's caches */
    };
    static const uint64_t unwanted[] = {
        FUSE_CAP_NO_OPENDIR_SUPPORT, /* it would cache the entries of every directory: see OPENDIR */
        FUSE_CAP_ATOMIC_O_TRUNC,     /* O_TRUNC then comes as SETATTR, which works without OPEN */
        FUSE_CAP_AUTO_INVAL_DATA,
        FUSE_CAP_SPLICE_READ, /* a second system call for every request costs more than the copy of a write */
    };

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(wanted); i++)
        (void)fuse_set_feature_flag(connection, wanted[i]);
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(unwanted); i++)
        fuse_unset_feature_flag(connection, unwanted[i]);
    mapfs_libfuse_choose_features(connection);
    if (session->config->cache_writeback)
        (void)fuse_set_feature_flag(connection, FUSE_CAP_WRITEBACK_CACHE);
    session->tells_sgid = fuse_get_feature_flag(connection, FUSE_CAP_SETXATTR_EXT);
    session->copies_long = connection->proto_minor >= FUSE_MINOR_COPY_LONG;
    session->checks_flags = connection->proto_minor >= FUSE_MINOR_FLAGS_CHECKED;
    connection->max_write = WRITE_MAX;
    connection->max_background = BACKGROUND_MAX;
    connection->congestion_threshold = BACKGROUND_MAX * 3 / 4;
    connection->no_interrupt = 1; /* every request ends soon by itself */
    session->config->ready(session->config->user);
}

/* What is missing is answered with ENOSYS by libfuse: open, flush, release (see above), access (default_permissions), locks (the kernel's
 * own). */
const struct fuse_lowlevel_ops mapfs_handlers = {
    .init = handle_init,
    .lookup = mapfs_handle_lookup,
    .forget = mapfs_handle_forget,
    .forget_multi = mapfs_handle_forget_multi,
    .getattr = mapfs_handle_getattr,
    .setattr = mapfs_handle_setattr,
    .readlink = mapfs_handle_readlink,
    .create = mapfs_handle_create,
    .tmpfile = mapfs_handle_tmpfile,
    .mknod = mapfs_handle_mknod,
    .mkdir = mapfs_handle_mkdir,
    .symlink = mapfs_handle_symlink,
    .link = mapfs_handle_link,
    .unlink = mapfs_handle_unlink,
    .rmdir = mapfs_handle_rmdir,
    .rename = mapfs_handle_rename,
    .read = mapfs_handle_read,
    .write_buf = mapfs_handle_write_buf,
    .copy_file_range = mapfs_handle_copy_file_range,
    .fallocate = mapfs_handle_fallocate,
    .lseek = mapfs_handle_lseek,
    .fsync = mapfs_handle_fsync,
    .fsyncdir = mapfs_handle_fsync,
    .opendir = mapfs_handle_opendir,
    .releasedir = mapfs_handle_releasedir,
    .readdir = mapfs_handle_readdir,
    .readdirplus = mapfs_handle_readdirplus,
    .statfs = mapfs_handle_statfs,
    .setxattr = mapfs_handle_setxattr,
    .getxattr = mapfs_handle_getxattr,
    .listxattr = mapfs_handle_listxattr,
    .removexattr = mapfs_handle_removexattr,
    .ioctl = mapfs_handle_ioctl,
};
