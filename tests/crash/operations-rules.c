/* SPDX-License-Identifier: MIT */

/* Access control lists, what chattr(1) forbids, and host blocks that are given back. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "acl.h"
#include "stage.h"

/* --- access control lists --- */

static uint16_t pick_perm(Stage *stage) {
    return (uint16_t)random_below(&stage->random, 8);
}

/* Up to as many entries as there can be; those with names need a mask. */
static void pick_acl(Stage *stage, Acl *acl) {
    Random *random = &stage->random;
    uint64_t n_users = random_once_in(random, 12) ? random_below(random, 500) : random_below(random, 4);
    uint64_t n_groups = random_below(random, 3);

    acl_init(acl);
    acl_add(acl, ACL_USER_OBJ, pick_perm(stage), UINT32_MAX);
    for (uint64_t i = 0; i < n_users; i++)
        acl_add(acl, ACL_USER, pick_perm(stage), (uint32_t)i);
    acl_add(acl, ACL_GROUP_OBJ, pick_perm(stage), UINT32_MAX);
    for (uint64_t i = 0; i < n_groups; i++)
        acl_add(acl, ACL_GROUP, pick_perm(stage), (uint32_t)i);
    if (n_users + n_groups > 0 || random_once_in(random, 4))
        acl_add(acl, ACL_MASK, pick_perm(stage), UINT32_MAX);
    acl_add(acl, ACL_OTHER, pick_perm(stage), UINT32_MAX);
    if (random_once_in(random, 20))
        acl->entries[random_below(random, acl->n_entries)].perm |= 8; /* no list */
}

static bool acl_is_valid(const Acl *acl) {
    for (size_t i = 0; i < acl->n_entries; i++) {
        if (acl->entries[i].perm > 7)
            return false;
    }
    return true;
}

static int setacl_verdict(const ModelInode *inode, const Acl *acl, const char *name) {
    bool is_empty = acl->n_entries == 0;

    if (!acl_is_valid(acl))
        return -EINVAL;
    if (S_ISLNK(inode->attr.mode))
        return -EOPNOTSUPP;
    return !is_empty && !S_ISDIR(inode->attr.mode) && strcmp(name, ACL_DEFAULT) == 0 ? -EACCES : 0;
}

/* True when anything changes. */
static bool setacl_model(ModelInode *inode, const Acl *acl, const char *name, bool kill_sgid) {
    ModelXattr *old = model_xattr(inode, name);

    if (acl->n_entries == 0 && !old)
        return false;
    if (acl->n_entries == 0) {
        model_xattr_remove(inode, old);
    } else if (strcmp(name, ACL_DEFAULT) == 0) {
        model_xattr_set(inode, name, acl, acl_len(acl));
    } else {
        acl_set_access(inode, acl);
        inode->attr.mode &= ~(kill_sgid ? (uint32_t)S_ISGID : 0);
    }
    return true;
}

void stage_setacl(Stage *stage) {
    ModelInode *inode = random_once_in(&stage->random, 2) ? stage_pick_dir(stage) : stage_pick_inode(stage);
    const char *name = random_once_in(&stage->random, 2) ? ACL_DEFAULT : ACL_ACCESS;
    bool kill_sgid = random_once_in(&stage->random, 4);
    Acl acl;
    int r;

    pick_acl(stage, &acl);
    if (random_once_in(&stage->random, 6))
        acl_init(&acl);
    stage_note(stage, "setxattr %" PRIu64 " %s entries %zu%s", inode->attr.ino, name, acl.n_entries,
               kill_sgid ? " kill sgid" : "");
    r = mapfs_fs_setxattr(stage->fs, inode->attr.ino, name, (MapfsBytes){&acl, acl.n_entries > 0 ? acl_len(&acl) : 0},
                          kill_sgid ? MAPFS_XATTR_FLAG_KILL_SGID : 0);
    if (!stage_result(stage, acl.n_entries > 0 ? STAGE_GROWS : STAGE_FREES, setacl_verdict(inode, &acl, name), r))
        return;
    if (!setacl_model(inode, &acl, name, kill_sgid))
        return;
    stage_touch(inode, false);
    stage_settle(stage, inode);
}

/* --- chattr --- */

#define PROTECTED (MAPFS_INODE_IMMUTABLE | MAPFS_INODE_APPEND)

/* What neither an immutable nor an append-only inode lets anybody do. */
static int try_change(Stage *stage, const ModelInode *inode) {
    const MapfsAttr attr = {.mode = 0700, .size = 1};
    uint64_t ino = inode->attr.ino;
    uint8_t byte = 1;
    MapfsAttr after;

    switch (random_below(&stage->random, S_ISREG(inode->attr.mode) ? 6 : 3)) {
    case 0:
        return mapfs_fs_setattr(stage->fs, ino, MAPFS_SET_MODE, &attr, &after);
    case 1:
        return mapfs_fs_setxattr(stage->fs, ino, "user.a1", (MapfsBytes){&byte, 1}, 0);
    case 2:
        return mapfs_fs_link(stage->fs, ino, &(MapfsName){MAPFS_INO_ROOT, "protected", 9}, &after);
    case 3:
        return mapfs_fs_write(stage->fs, ino, 0, &byte, 1);
    case 4:
        return mapfs_fs_setattr(stage->fs, ino, MAPFS_SET_SIZE, &attr, &after);
    default:
        return mapfs_fs_allocate(stage->fs, ino, MAPFS_ALLOCATE_PUNCH | MAPFS_ALLOCATE_KEEP_SIZE,
                                 (MapfsIoRange){0, 4096});
    }
}

/* What it does to its names and, as a directory, to those in it. */
static int try_names(Stage *stage, const ModelEntry *entry) {
    const MapfsName from = {entry->parent, entry->name, entry->name_len}, to = {MAPFS_INO_ROOT, "protected", 9};

    if (random_once_in(&stage->random, 2))
        return mapfs_fs_rename(stage->fs, &from, &to, 0);
    if (S_ISDIR(model_inode(stage->model, entry->ino)->attr.mode))
        return mapfs_fs_rmdir(stage->fs, entry->parent, entry->name, entry->name_len);
    return mapfs_fs_unlink(stage->fs, entry->parent, entry->name, entry->name_len);
}

static int set_flags(Stage *stage, ModelInode *inode, uint64_t flags) {
    const MapfsAttr attr = {.flags = flags};
    MapfsAttr after;
    int r = mapfs_fs_setattr(stage->fs, inode->attr.ino, MAPFS_SET_FLAGS, &attr, &after);

    if (stage_result(stage, STAGE_FREES, 0, r)) {
        inode->attr.flags = flags;
        stage_touch(inode, false);
        stage_settle(stage, inode);
    }
    return r;
}

void stage_adopt(Stage *stage) {
    for (guint i = 0; i < stage->model->inodes->len; i++) {
        const ModelInode *inode = g_ptr_array_index(stage->model->inodes, i);

        if (inode->attr.flags & PROTECTED)
            stage->protected_ino = inode->attr.ino;
    }
}

bool stage_unprotect(Stage *stage) {
    ModelInode *inode = stage->protected_ino ? model_inode(stage->model, stage->protected_ino) : NULL;

    if (!inode)
        return false;
    stage_note(stage, "unprotect %" PRIu64, inode->attr.ino);
    if (set_flags(stage, inode, inode->attr.flags & ~PROTECTED) == 0)
        stage->protected_ino = 0;
    return true;
}

/* Whether a change was refused; also by a host that a sync in the midst of it found to fail. */
static bool is_refused(Stage *stage, int r) {
    if (r == -EIO && stage->trouble)
        stage->broken = true;
    return r == -EPERM || r == -ENOSPC || (r == -EIO && stage->broken);
}

static void try_both(Stage *stage, const ModelInode *inode) {
    const ModelEntry *entry = stage_pick_entry(stage);
    int r = try_change(stage, inode);

    if (!is_refused(stage, r))
        stage_fail(stage, "a change of a protected inode gives %d", r);
    if (!entry || (entry->ino != inode->attr.ino && entry->parent != inode->attr.ino))
        return;
    r = try_names(stage, entry);
    if (!is_refused(stage, r))
        stage_fail(stage, "the loss of a protected name gives %d", r);
}

/* An inode that is protected for a moment. A power cut may find it so. */
void stage_protect(Stage *stage) {
    static const uint64_t choice[] = {MAPFS_INODE_IMMUTABLE, MAPFS_INODE_APPEND, PROTECTED};
    ModelInode *inode = stage_pick_inode(stage);
    uint64_t flags = inode->attr.flags;

    /* Whoever cannot take the flag away again would be stuck with it. */
    if (stage->trouble || stage->nested || stage->held.active)
        return;
    stage_note(stage, "protect %" PRIu64, inode->attr.ino);
    if (set_flags(stage, inode, flags | choice[random_below(&stage->random, MAPFS_N_ELEMENTS(choice))]) < 0)
        return;
    g_array_append_val(stage->between, stage->model->sum);
    for (unsigned i = 0; i < 3; i++)
        try_both(stage, inode);
    if (set_flags(stage, inode, flags) < 0 && !stage->broken)
        stage_fail(stage, "leaves the inode protected");
}

/* --- the host --- */

/* fstrim: free blocks alone may be lost by it. */
void stage_trim(Stage *stage) {
    uint64_t n_min = 1 + random_below(&stage->random, 20), start = random_below(&stage->random, 600), n_blocks;
    MapfsRun range = {{start}, random_once_in(&stage->random, 2) ? UINT64_MAX - start : 64};
    int r;

    stage_note(stage, "trim from %" PRIu64 " of runs of %" PRIu64, start, n_min);
    r = mapfs_store_trim(mapfs_fs_store(stage->fs), range, n_min, &n_blocks);
    (void)stage_result(stage, STAGE_FREES, 0, r); /* nothing visible changes */
}
