/* SPDX-License-Identifier: MIT */

/* Operations on names. Each says first what the result must be, from the model alone. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "acl.h"
#include "clock.h"
#include "stage.h"

static int name_verdict(const StageName *name) {
    if (name->len > MAPFS_NAME_LEN_MAX)
        return -ENAMETOOLONG;
    return name->len == 0 || strcmp(name->bytes, ".") == 0 || strcmp(name->bytes, "..") == 0 ? -EINVAL : 0;
}

static int dir_verdict(const ModelInode *dir) {
    if (!S_ISDIR(dir->attr.mode))
        return -ENOTDIR;
    return dir->attr.nlink == 0 ? -ENOENT : 0;
}

/* Mostly a directory in use, now and then anything. */
static ModelInode *pick_parent(Stage *stage) {
    ModelInode *any = random_once_in(&stage->random, 40) ? stage_pick_inode(stage) : NULL;

    return any ? any : stage_pick_dir(stage);
}

/* A directory has gained or lost entries and subdirectories. */
static void dir_count(ModelInode *dir, int n_entries, int n_subdirs) {
    dir->attr.size += (uint64_t)(int64_t)n_entries;
    dir->attr.nlink += (uint32_t)n_subdirs;
    stage_touch(dir, true);
}

/* A name of the inode is gone. */
static void lose_name(Stage *stage, ModelInode *inode) {
    inode->attr.nlink = S_ISDIR(inode->attr.mode) ? 0 : inode->attr.nlink - 1;
    stage_touch(inode, false);
    if (inode->attr.nlink == 0 && inode->n_lookups == 0)
        model_inode_remove(stage->model, inode);
    else
        stage_settle(stage, inode);
}

static void forget(Stage *stage, ModelInode *inode, uint64_t n) {
    mapfs_fs_forget(stage->fs, inode->attr.ino, n);
    inode->n_lookups -= n;
    if (inode->n_lookups == 0 && inode->attr.nlink == 0)
        model_inode_remove(stage->model, inode);
}

/* --- new names --- */

/* The new inode with the attributes that it must have, looked up once; NULL when its number is not new. */
static ModelInode *create_inode(Stage *stage, const ModelInode *parent, const MapfsNewInode *how,
                                const MapfsAttr *attr) {
    bool is_dir = S_ISDIR(how->mode), device = S_ISCHR(how->mode) || S_ISBLK(how->mode);
    bool inherits = parent->attr.mode & S_ISGID;
    ModelInode *inode;
    MapfsAttr expected = {
        .ino = attr->ino,
        .size = how->target_len,
        .change = attr->change - 1,
        .parent = is_dir ? parent->attr.ino : 0,
        .atime = clock_now(),
        .mtime = clock_now(),
        .ctime = clock_now(),
        .btime = clock_now(),
        .mode = how->mode | (inherits && is_dir ? S_ISGID : 0),
        .uid = how->uid,
        .gid = inherits ? parent->attr.gid : how->gid,
        .nlink = is_dir ? 2 : 1,
        .rdev_major = device ? how->rdev_major : 0,
        .rdev_minor = device ? how->rdev_minor : 0,
    };

    if (model_inode(stage->model, attr->ino)) {
        stage_fail(stage, "gave inode number %" PRIu64 ", which is in use", attr->ino);
        return NULL;
    }
    inode = model_inode_add(stage->model, &expected);
    inode->target = how->target ? g_strndup(how->target, how->target_len) : NULL;
    inode->n_lookups = 1;
    return inode;
}

static void create_model(Stage *stage, const MapfsName *name, const MapfsNewInode *how, const MapfsAttr *attr) {
    ModelInode *parent = model_inode(stage->model, name->parent);
    ModelInode *inode = create_inode(stage, parent, how, attr);

    if (!inode)
        return;
    acl_inherit(parent, how->umask, inode);
    stage_settle(stage, inode);
    model_entry_add(stage->model, name, attr->ino);
    dir_count(parent, 1, S_ISDIR(how->mode));
    stage_settle(stage, parent);
    /* What stays looked up can be unlinked while it is open. */
    if (!random_once_in(&stage->random, 4))
        forget(stage, inode, 1);
}

static void create(Stage *stage, const char *what, const MapfsNewInode *how) {
    ModelInode *parent = pick_parent(stage);
    MapfsAttr attr = {0};
    StageName name;
    MapfsName at;
    int expected, r;

    stage_pick_name(stage, &name);
    at = (MapfsName){parent->attr.ino, name.bytes, name.len};
    expected = name_verdict(&name);
    if (expected == 0)
        expected = dir_verdict(parent);
    if (expected == 0 && model_entry(stage->model, at.parent, at.name, at.name_len))
        expected = -EEXIST;
    stage_note(stage, "%s %.20s in %" PRIu64 " mode %o target of %zu", what, name.bytes, at.parent, how->mode,
               how->target_len);
    r = mapfs_fs_create(stage->fs, &at, how, &attr);
    if (stage_result(stage, STAGE_GROWS, expected, r) && !stage->broken) {
        g_string_append_printf(stage->note, " ino %" PRIu64, attr.ino);
        create_model(stage, &at, how, &attr);
    }
}

/* An inode without names, if there is one nearby; else any. */
static ModelInode *pick_unnamed(Stage *stage) {
    ModelInode *inode = stage_pick_inode(stage);

    for (unsigned i = 0; i < 8 && inode->attr.nlink > 0; i++)
        inode = stage_pick_inode(stage);
    return inode;
}

static MapfsNewInode new_inode(Stage *stage, uint32_t type) {
    uint64_t bits = random_draw(&stage->random);

    return (MapfsNewInode){
        .mode = type | (uint32_t)(bits & 07777 & (bits >> 20 | 0777)),
        .umask = bits >> 40 & 1 ? 022 : 0,
        .uid = (uint32_t)(bits >> 32 & 3),
        .gid = (uint32_t)(bits >> 34 & 3),
    };
}

void stage_create(Stage *stage) {
    const MapfsNewInode how = new_inode(stage, S_IFREG);

    create(stage, "create", &how);
}

void stage_mkdir(Stage *stage) {
    const MapfsNewInode how = new_inode(stage, S_IFDIR);

    create(stage, "mkdir", &how);
}

void stage_symlink(Stage *stage) {
    static const size_t lens[] = {1, 10, 60, 1535, 1536, 1537, 3072, 4095};
    MapfsNewInode how = new_inode(stage, S_IFLNK);
    char target[MAPFS_SYMLINK_LEN_MAX + 1];

    how.mode = S_IFLNK | 0777;
    how.target_len = lens[random_below(&stage->random, MAPFS_N_ELEMENTS(lens))];
    memset(target, 'a' + (int)random_below(&stage->random, 26), how.target_len);
    target[random_below(&stage->random, how.target_len)] = '/';
    target[how.target_len] = '\0';
    how.target = target;
    create(stage, "symlink", &how);
}

void stage_mknod(Stage *stage) {
    static const uint32_t types[] = {S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK};
    MapfsNewInode how = new_inode(stage, types[random_below(&stage->random, MAPFS_N_ELEMENTS(types))]);

    how.rdev_major = (uint32_t)random_below(&stage->random, 300);
    how.rdev_minor = (uint32_t)random_draw(&stage->random);
    create(stage, "mknod", &how);
}

void stage_tmpfile(Stage *stage) {
    const MapfsNewInode how = new_inode(stage, S_IFREG);
    ModelInode *parent = pick_parent(stage), *inode;
    MapfsAttr attr = {0};
    int r;

    stage_note(stage, "tmpfile in %" PRIu64 " mode %o", parent->attr.ino, how.mode);
    r = mapfs_fs_tmpfile(stage->fs, parent->attr.ino, &how, &attr);
    if (!stage_result(stage, STAGE_GROWS, dir_verdict(parent), r) || stage->broken)
        return;
    g_string_append_printf(stage->note, " ino %" PRIu64, attr.ino);
    inode = create_inode(stage, parent, &how, &attr);
    if (!inode)
        return;
    inode->attr.nlink = 0;
    acl_inherit(parent, how.umask, inode);
    stage_settle(stage, inode);
    if (random_once_in(&stage->random, 4))
        forget(stage, inode, 1);
}

static int link_verdict(Stage *stage, const ModelInode *inode, const ModelInode *parent, const StageName *name) {
    int r = name_verdict(name);

    if (r < 0)
        return r;
    if (S_ISDIR(inode->attr.mode))
        return -EPERM;
    r = dir_verdict(parent);
    if (r < 0)
        return r;
    return model_entry(stage->model, parent->attr.ino, name->bytes, name->len) ? -EEXIST : 0;
}

/* Also of inodes that have no name any more, or had none yet: all that are in the model are looked up. */
void stage_link(Stage *stage) {
    ModelInode *inode = pick_unnamed(stage), *parent = pick_parent(stage);
    uint64_t ino = inode->attr.ino, dir = parent->attr.ino;
    MapfsName at = {.parent = dir};
    StageName name;
    MapfsAttr attr;
    int r;

    stage_pick_name(stage, &name);
    at.name = name.bytes;
    at.name_len = name.len;
    stage_note(stage, "link %" PRIu64 " as %.20s in %" PRIu64, ino, name.bytes, dir);
    r = mapfs_fs_link(stage->fs, ino, &at, &attr);
    if (!stage_result(stage, STAGE_GROWS, link_verdict(stage, inode, parent, &name), r))
        return;
    model_entry_add(stage->model, &at, ino);
    inode->attr.nlink++;
    inode->n_lookups++;
    stage_touch(inode, false);
    stage_settle(stage, inode);
    dir_count(parent, 1, 0);
    stage_settle(stage, parent);
    if (!stage->broken)
        forget(stage, inode, 1);
}

/* --- names that go --- */

void stage_unlink(Stage *stage) {
    ModelEntry *entry = stage_pick_entry(stage);
    bool as_dir, is_dir;
    ModelInode *parent, *inode;
    int expected = 0, r;

    if (!entry)
        return;
    parent = model_inode(stage->model, entry->parent);
    inode = model_inode(stage->model, entry->ino);
    is_dir = S_ISDIR(inode->attr.mode);
    as_dir = random_once_in(&stage->random, 30) ? !is_dir : is_dir;
    if (as_dir != is_dir)
        expected = as_dir ? -ENOTDIR : -EISDIR;
    else if (is_dir && inode->attr.size > 0)
        expected = -ENOTEMPTY;
    stage_note(stage, "%s %.20s in %" PRIu64 " ino %" PRIu64 " nlink %u size %" PRIu64, as_dir ? "rmdir" : "unlink",
               entry->name, entry->parent, entry->ino, inode->attr.nlink, inode->attr.size);
    if (as_dir)
        r = mapfs_fs_rmdir(stage->fs, entry->parent, entry->name, entry->name_len);
    else
        r = mapfs_fs_unlink(stage->fs, entry->parent, entry->name, entry->name_len);
    if (!stage_result(stage, STAGE_FREES, expected, r))
        return;
    model_entry_remove(stage->model, entry);
    lose_name(stage, inode);
    dir_count(parent, -1, is_dir ? -1 : 0);
    stage_settle(stage, parent);
}

/* --- rename --- */

typedef struct {
    MapfsName from, to;
    ModelInode *from_dir, *to_dir;
    ModelEntry *old, *new;     /* NULL: not there */
    ModelInode *inode, *other; /* the same */
    unsigned flags;
    const MapfsNewInode *whiteout; /* NULL: none */
} Rename;

static int rename_verdict_replace(const Rename *rename) {
    if (S_ISDIR(rename->inode->attr.mode) && !S_ISDIR(rename->other->attr.mode))
        return -ENOTDIR;
    if (!S_ISDIR(rename->inode->attr.mode) && S_ISDIR(rename->other->attr.mode))
        return -EISDIR;
    return S_ISDIR(rename->other->attr.mode) && rename->other->attr.size > 0 ? -ENOTEMPTY : 0;
}

static bool rename_loops(const Model *model, const Rename *rename) {
    if (rename->from_dir == rename->to_dir)
        return false;
    if (S_ISDIR(rename->inode->attr.mode) && model_is_within(model, rename->to.parent, rename->inode->attr.ino))
        return true;
    return rename->flags & MAPFS_FS_RENAME_EXCHANGE && S_ISDIR(rename->other->attr.mode) &&
           model_is_within(model, rename->from.parent, rename->other->attr.ino);
}

static int rename_verdict(const Model *model, const Rename *rename) {
    int r = dir_verdict(rename->from_dir);

    if (r == 0)
        r = dir_verdict(rename->to_dir);
    if (r < 0)
        return r;
    if (!rename->old)
        return -ENOENT;
    if (rename->new && rename->flags & MAPFS_FS_RENAME_NOREPLACE)
        return -EEXIST;
    if (!rename->new && rename->flags & MAPFS_FS_RENAME_EXCHANGE)
        return -ENOENT;
    if (rename->inode == rename->other)
        return 0;
    if (rename_loops(model, rename))
        return -EINVAL;
    return rename->new && !(rename->flags & MAPFS_FS_RENAME_EXCHANGE) ? rename_verdict_replace(rename) : 0;
}

static void moved_to(Stage *stage, ModelInode *inode, uint64_t parent) {
    if (S_ISDIR(inode->attr.mode))
        inode->attr.parent = parent;
    stage_touch(inode, false);
    stage_settle(stage, inode);
}

static void rename_dirs(Stage *stage, const Rename *rename, bool other_is_dir) {
    bool exchange = rename->flags & MAPFS_FS_RENAME_EXCHANGE;
    int n_old = exchange || rename->whiteout ? 0 : -1, n_new = rename->other ? 0 : 1;
    int moves = S_ISDIR(rename->inode->attr.mode), other = other_is_dir;
    int n_from = exchange ? other - moves : -moves, n_to = moves - other;

    if (rename->from_dir == rename->to_dir) {
        dir_count(rename->from_dir, n_old + n_new, n_from + n_to);
    } else {
        dir_count(rename->from_dir, n_old, n_from);
        dir_count(rename->to_dir, n_new, n_to);
        stage_settle(stage, rename->to_dir);
    }
    stage_settle(stage, rename->from_dir);
}

/* The inode that now has the old name. Its group depends on what the directory was before. */
static void rename_whiteout(Stage *stage, const Rename *rename) {
    ModelInode *inode;
    MapfsAttr attr;
    int r;

    if (stage->broken)
        return;
    r = mapfs_fs_lookup(stage->fs, rename->from.parent, rename->from.name, rename->from.name_len, &attr);
    if (r < 0) {
        stage_fail(stage, "leaves no whiteout: %s", strerror(-r));
        return;
    }
    inode = create_inode(stage, rename->from_dir, rename->whiteout, &attr);
    if (!inode)
        return;
    model_entry_set(stage->model, rename->old, attr.ino);
    stage_settle(stage, inode);
    forget(stage, inode, 1);
}

static void rename_model(Stage *stage, const Rename *rename) {
    bool exchange = rename->flags & MAPFS_FS_RENAME_EXCHANGE;
    uint64_t ino = rename->inode->attr.ino;
    bool other_is_dir = rename->other && S_ISDIR(rename->other->attr.mode);

    if (exchange)
        model_entry_set(stage->model, rename->old, rename->other->attr.ino);
    if (rename->new)
        model_entry_set(stage->model, rename->new, ino);
    else
        model_entry_add(stage->model, &rename->to, ino);
    if (rename->whiteout)
        rename_whiteout(stage, rename);
    else if (!exchange)
        model_entry_remove(stage->model, rename->old);
    rename_dirs(stage, rename, other_is_dir);
    moved_to(stage, rename->inode, rename->to.parent);
    if (exchange)
        moved_to(stage, rename->other, rename->from.parent);
    else if (rename->other)
        lose_name(stage, rename->other);
}

static int rename_run(Stage *stage, const Rename *rename) {
    if (rename->whiteout)
        return mapfs_fs_rename_whiteout(stage->fs, &rename->from, &rename->to, rename->flags, rename->whiteout);
    return mapfs_fs_rename(stage->fs, &rename->from, &rename->to, rename->flags);
}

void stage_rename(Stage *stage) {
    static const unsigned flags[] = {
        0, 0, 0, MAPFS_FS_RENAME_NOREPLACE, MAPFS_FS_RENAME_EXCHANGE, MAPFS_FS_RENAME_EXCHANGE};
    MapfsNewInode whiteout = new_inode(stage, S_IFCHR);
    const ModelEntry *from = stage_pick_entry(stage),
                     *to = random_once_in(&stage->random, 2) ? stage_pick_entry(stage) : NULL;
    ModelInode *to_dir = pick_parent(stage);
    StageName from_name = {0}, to_name = {0};
    Rename rename = {.flags = flags[random_below(&stage->random, MAPFS_N_ELEMENTS(flags))]};
    int expected, r;

    if (!from)
        return;
    whiteout.mode = S_IFCHR;
    if (!(rename.flags & MAPFS_FS_RENAME_EXCHANGE) && random_once_in(&stage->random, 3))
        rename.whiteout = &whiteout;
    memcpy(from_name.bytes, from->name, from_name.len = from->name_len);
    if (to)
        memcpy(to_name.bytes, to->name, to_name.len = to->name_len);
    else
        stage_pick_name(stage, &to_name);
    rename.from = (MapfsName){from->parent, from_name.bytes, from_name.len};
    rename.to = (MapfsName){to ? to->parent : to_dir->attr.ino, to_name.bytes, to_name.len};
    rename.from_dir = model_inode(stage->model, rename.from.parent);
    rename.to_dir = model_inode(stage->model, rename.to.parent);
    rename.old = model_entry(stage->model, rename.from.parent, from_name.bytes, from_name.len);
    rename.new = model_entry(stage->model, rename.to.parent, to_name.bytes, to_name.len);
    rename.inode = model_inode(stage->model, rename.old->ino);
    rename.other = rename.new ? model_inode(stage->model, rename.new->ino) : NULL;
    expected = name_verdict(&to_name);
    if (expected == 0)
        expected = rename_verdict(stage->model, &rename);
    stage_note(stage, "rename %.20s in %" PRIu64 " to %.20s in %" PRIu64 " flags %u%s", from_name.bytes,
               rename.from.parent, to_name.bytes, rename.to.parent, rename.flags, rename.whiteout ? " whiteout" : "");
    r = rename_run(stage, &rename);
    if (stage_result(stage, STAGE_GROWS, expected, r) && rename.inode != rename.other)
        rename_model(stage, &rename);
}

/* --- lookups --- */

void stage_lookup(Stage *stage) {
    const ModelEntry *entry = stage_pick_entry(stage);
    ModelInode *inode;
    MapfsAttr attr;
    int r;

    if (!entry)
        return;
    stage_note(stage, "lookup %.20s in %" PRIu64, entry->name, entry->parent);
    r = mapfs_fs_lookup(stage->fs, entry->parent, entry->name, entry->name_len, &attr);
    if (r < 0 || attr.ino != entry->ino) {
        stage_fail(stage, "gave %d, inode %" PRIu64 " instead of %" PRIu64, r, r < 0 ? 0 : attr.ino, entry->ino);
        return;
    }
    inode = model_inode(stage->model, entry->ino);
    inode->n_lookups++;
}

void stage_forget(Stage *stage) {
    for (unsigned i = 0; i < 20; i++) {
        ModelInode *inode = stage_pick_inode(stage);

        if (inode->n_lookups == 0)
            continue;
        stage_note(stage, "forget %" PRIu64, inode->attr.ino);
        forget(stage, inode, random_once_in(&stage->random, 3) ? 1 : inode->n_lookups);
        return;
    }
}

void stage_reclaim(Stage *stage) {
    int r;

    stage_note(stage, "reclaim");
    r = mapfs_fs_reclaim(stage->fs);
    (void)stage_result(stage, STAGE_FREES, 0, r); /* nothing visible changes */
}
