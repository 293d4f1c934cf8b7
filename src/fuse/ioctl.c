/* SPDX-License-Identifier: MIT */

/* The ioctls that the kernel hands on: flags and project numbers of an inode (chattr, lsattr, xfs_io), those that speak of the
 * whole filesystem, and mapfs's own (src/control). The kernel moves as many bytes as a command's number says, in the directions that
 * it says. */

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <glib.h>
#include <linux/fs.h>

#include "fuse/session-private.h"

/* Newer than the headers of some systems. It is declared as if it gave its argument back, and reads it. */
#define IOCTL_SHUTDOWN _IOR('X', 125, uint32_t)
#define SHUTDOWN_FLUSH 0u    /* all that was done is made durable first */
#define SHUTDOWN_LOGFLUSH 1u /* XFS: so is what is in the log; here that is the same */
#define SHUTDOWN_NOLOGFLUSH 2u

#define LABEL_MAX 256u /* FSLABEL_MAX: the room of the two commands */

/* One request. */
typedef struct {
    fuse_req_t req;
    MapfsSession *session;
    uint64_t ino;
    const void *arg; /* an address of the program that asks */
    const void *in;
    size_t in_len;
    char out[16384]; /* as much as the size field of a command can say */
    size_t out_max;
    size_t out_len; /* what the reply has */
} Ioctl;

static int ioctl_answer(Ioctl *ioctl, const void *bytes, size_t len) {
    if (len > ioctl->out_max)
        return -EINVAL;
    memcpy(ioctl->out, bytes, len);
    ioctl->out_len = len;
    return 0;
}

static int ioctl_take(const Ioctl *ioctl, void *ret_bytes, size_t len) {
    if (ioctl->in_len < len)
        return -EINVAL;
    memcpy(ret_bytes, ioctl->in, len);
    return 0;
}

/* --- flags of an inode --- */

/* The kernel has asked for CAP_LINUX_IMMUTABLE, where the flags that need it change, since Linux 5.13 (it hands these commands on by
 * itself). Before, nobody has, and a daemon can only know the user. */
static int flags_check_user(const Ioctl *ioctl, uint64_t before, uint64_t after) {
    if (!((before ^ after) & (MAPFS_INODE_IMMUTABLE | MAPFS_INODE_APPEND)) || ioctl->session->checks_flags)
        return 0;
    return fuse_req_ctx(ioctl->req)->uid == 0 ? 0 : -EPERM;
}

static int flags_set(Ioctl *ioctl, unsigned mask, const MapfsAttr *attr) {
    MapfsAttr before, after;
    int r = mapfs_request_may_change(ioctl->req);

    if (r == 0)
        r = mapfs_fs_getattr(ioctl->session->fs, ioctl->ino, &before);
    if (r == 0)
        r = flags_check_user(ioctl, before.flags, attr->flags);
    if (r == 0)
        r = mapfs_fs_setattr(ioctl->session->fs, ioctl->ino, mask, attr, &after);
    /* The kernel does not know that this changes ctime. It drops the attributes alone, so it waits for no page. */
    if (r == 0)
        (void)fuse_lowlevel_notify_inval_inode(ioctl->session->fuse, ioctl->ino, -1, 0); /* fails if it has none */
    return r;
}

/* The flags have the values of FS_*_FL. */
static int handle_get_flags(Ioctl *ioctl) {
    MapfsAttr attr;
    uint32_t flags;
    int r = mapfs_fs_getattr(ioctl->session->fs, ioctl->ino, &attr);

    if (r < 0)
        return r;
    flags = (uint32_t)attr.flags;
    return ioctl_answer(ioctl, &flags, sizeof(flags));
}

static int handle_set_flags(Ioctl *ioctl) {
    MapfsAttr attr = {0};
    uint32_t flags;
    int r = ioctl_take(ioctl, &flags, sizeof(flags));

    if (r < 0)
        return r;
    attr.flags = flags;
    return flags_set(ioctl, MAPFS_SET_FLAGS, &attr);
}

static const struct {
    uint32_t xflag;
    uint64_t flag;
} xflags[] = {
    {FS_XFLAG_IMMUTABLE, MAPFS_INODE_IMMUTABLE}, {FS_XFLAG_APPEND, MAPFS_INODE_APPEND},
    {FS_XFLAG_SYNC, MAPFS_INODE_SYNC},           {FS_XFLAG_NOATIME, MAPFS_INODE_NOATIME},
    {FS_XFLAG_NODUMP, MAPFS_INODE_NODUMP},
};

static int handle_get_xattr(Ioctl *ioctl) {
    struct fsxattr fsx = {0};
    MapfsAttr attr;
    int r = mapfs_fs_getattr(ioctl->session->fs, ioctl->ino, &attr);

    if (r < 0)
        return r;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(xflags); i++)
        fsx.fsx_xflags |= attr.flags & xflags[i].flag ? xflags[i].xflag : 0;
    fsx.fsx_projid = attr.project;
    return ioctl_answer(ioctl, &fsx, sizeof(fsx));
}

static int handle_set_xattr(Ioctl *ioctl) {
    MapfsAttr attr = {0};
    struct fsxattr fsx;
    int r = ioctl_take(ioctl, &fsx, sizeof(fsx));

    if (r < 0)
        return r;
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(xflags); i++) {
        attr.flags |= fsx.fsx_xflags & xflags[i].xflag ? xflags[i].flag : 0;
        fsx.fsx_xflags &= ~xflags[i].xflag;
    }
    if (fsx.fsx_xflags & ~(uint32_t)FS_XFLAG_HASATTR)
        return -EOPNOTSUPP;
    attr.project = fsx.fsx_projid;
    return flags_set(ioctl, MAPFS_SET_FLAGS | MAPFS_SET_PROJECT, &attr);
}

/* Programs give it an int, whatever the command's number says. Inode numbers are not reused. */
static int handle_get_version(Ioctl *ioctl) {
    const uint32_t generation = 1;

    return ioctl_answer(ioctl, &generation, sizeof(generation));
}

/* --- the whole filesystem --- */

/* What needs CAP_SYS_ADMIN elsewhere. A daemon sees no capabilities: root, and who runs it, may. */
static int ioctl_check_admin(const Ioctl *ioctl) {
    const uid_t uid = fuse_req_ctx(ioctl->req)->uid;

    if (uid != 0 && uid != geteuid())
        return -EPERM;
    return ioctl->session->config->read_only ? -EROFS : mapfs_request_may_change(ioctl->req);
}

static int handle_trim(Ioctl *ioctl) {
    MapfsStore *store = mapfs_fs_store(ioctl->session->fs);
    struct fstrim_range range;
    MapfsStoreStatus status;
    uint64_t n_trimmed, first, end;
    int r = ioctl_check_admin(ioctl);

    if (r == 0)
        r = ioctl_take(ioctl, &range, sizeof(range));
    if (r < 0)
        return r;
    mapfs_store_status(store, &status);
    first = range.start / MAPFS_BLOCK_SIZE + (range.start % MAPFS_BLOCK_SIZE != 0);
    if (first >= status.n_blocks || range.len < MAPFS_BLOCK_SIZE || range.minlen / MAPFS_BLOCK_SIZE > status.n_blocks)
        return -EINVAL;
    end = range.len > UINT64_MAX - range.start ? UINT64_MAX : range.start + range.len;
    end = MAPFS_MIN(end / MAPFS_BLOCK_SIZE, status.n_blocks);
    if (end <= first)
        return -EINVAL;
    /* What was just removed is free only after checkpoints. Without room for these, what is free already can go all the same. */
    r = mapfs_fs_make_room(ioctl->session->fs);
    if (r < 0 && r != -ENOSPC)
        return r;
    r = mapfs_store_trim(store, (MapfsRun){{first}, end - first},
                         MAPFS_MAX(range.minlen / MAPFS_BLOCK_SIZE + (range.minlen % MAPFS_BLOCK_SIZE != 0), 1u),
                         &n_trimmed);
    if (r < 0)
        return r;
    range.len = n_trimmed * MAPFS_BLOCK_SIZE;
    return ioctl_answer(ioctl, &range, sizeof(range));
}

/* Reads what the kernel does not hand on from the program that waits for us. False when we may not. */
static bool ioctl_read_argument(const Ioctl *ioctl, uint32_t *ret_value) {
    const pid_t pid = fuse_req_ctx(ioctl->req)->pid;
    struct iovec local = {ret_value, sizeof(*ret_value)};
    struct iovec remote = {(void *)(uintptr_t)ioctl->arg, sizeof(*ret_value)};

    return pid > 0 && process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)sizeof(*ret_value);
}

static int handle_shutdown(Ioctl *ioctl) {
    MapfsStore *store = mapfs_fs_store(ioctl->session->fs);
    uint32_t how = SHUTDOWN_FLUSH;
    int r = ioctl_check_admin(ioctl);

    if (r < 0)
        return r;
    /* What cannot be read is taken for the way that loses nothing. */
    if (!ioctl_read_argument(ioctl, &how))
        how = SHUTDOWN_FLUSH;
    if (how > SHUTDOWN_NOLOGFLUSH)
        return -EINVAL;
    if (how == SHUTDOWN_FLUSH || how == SHUTDOWN_LOGFLUSH)
        r = mapfs_store_sync(store);
    if (r == 0)
        mapfs_image_lose_writes(mapfs_store_image(store), -EIO);
    return r;
}

static int handle_get_label(Ioctl *ioctl) {
    struct mapfs_disk_superblock superblock;
    char label[LABEL_MAX] = {0};

    mapfs_store_superblock(mapfs_fs_store(ioctl->session->fs), &superblock);
    memcpy(label, superblock.label, sizeof(superblock.label));
    return ioctl_answer(ioctl, label, sizeof(label));
}

static int handle_set_label(Ioctl *ioctl) {
    char label[LABEL_MAX];
    size_t len;
    int r = ioctl_check_admin(ioctl);

    if (r == 0)
        r = ioctl_take(ioctl, label, sizeof(label));
    if (r < 0)
        return r;
    len = strnlen(label, sizeof(label));
    if (!g_utf8_validate(label, (gssize)len, NULL))
        return -EINVAL;
    return mapfs_store_set_label(mapfs_fs_store(ioctl->session->fs), label, len);
}

/* --- all of them --- */

static const struct {
    unsigned command;
    int (*handle)(Ioctl *ioctl);
} commands[] = {
    {FS_IOC_GETFLAGS, handle_get_flags},     {FS_IOC_SETFLAGS, handle_set_flags},
    {FS_IOC_FSGETXATTR, handle_get_xattr},   {FS_IOC_FSSETXATTR, handle_set_xattr},
    {FS_IOC_GETVERSION, handle_get_version}, {FITRIM, handle_trim},
    {IOCTL_SHUTDOWN, handle_shutdown},       {FS_IOC_GETFSLABEL, handle_get_label},
    {FS_IOC_SETFSLABEL, handle_set_label},
};

/* mapfs's own are for the mount as a whole: only the root directory takes them. */
static int handle_control(Ioctl *ioctl, unsigned command, unsigned flags) {
    const MapfsSessionConfig *config = ioctl->session->config;
    int r;

    if (ioctl->ino != FUSE_ROOT_ID || !(flags & FUSE_IOCTL_DIR) || !config->ioctl)
        return -ENOTTY;
    ioctl->out_len = ioctl->out_max;
    r = config->ioctl(config->user, command, ioctl->out, &ioctl->out_len);
    return r;
}

static int ioctl_handle(Ioctl *ioctl, unsigned command, unsigned flags) {
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(commands); i++) {
        if (commands[i].command == command)
            return commands[i].handle(ioctl);
    }
    return handle_control(ioctl, command, flags);
}

void mapfs_handle_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int command, void *arg, struct fuse_file_info *fi,
                        unsigned flags, const void *in_buffer, size_t in_len, size_t out_len) {
    Ioctl ioctl = {
        .req = req,
        .session = mapfs_request_session(req),
        .ino = ino,
        .arg = arg,
        .in = in_buffer,
        .in_len = in_len,
        .out_max = MAPFS_MIN(out_len, sizeof(ioctl.out)),
    };
    int r = mapfs_request_result(req, ioctl_handle(&ioctl, command, flags));

    (void)fi;
    if (r < 0)
        (void)fuse_reply_err(req, -r);
    else
        (void)fuse_reply_ioctl(req, 0, ioctl.out, ioctl.out_len);
}
