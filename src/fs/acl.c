/* SPDX-License-Identifier: MIT */

/* Lists in the tree: set and removed, kept in step with the mode, inherited. Each change is an XATTR record; where a change of a list
 * belongs to another one (a new inode, a new mode), its record follows in the same transaction. */

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "fs/acl-private.h"
#include "fs/apply-private.h"
#include "fs/flags-private.h"
#include "fs/xattr-private.h"

_Static_assert((sizeof(struct mapfs_disk_xattr) + sizeof(MAPFS_XATTR_ACL_DEFAULT) - 1 + MAPFS_ACL_LEN_MAX +
                MAPFS_XATTR_CHUNK - 1) /
                           MAPFS_XATTR_CHUNK +
                       1 <=
                   MAPFS_ACL_CHANGES,
               "the longest list and the inode");

/* The record with room for the longest list. */
typedef union {
    struct mapfs_disk_record_xattr xattr;
    uint8_t bytes[sizeof(struct mapfs_disk_record_xattr) + sizeof(MAPFS_XATTR_ACL_DEFAULT) + MAPFS_ACL_LEN_MAX + 8];
} AclRecord;

#define MODE_STAYS UINT32_MAX

/* One change of one list. */
typedef struct {
    uint64_t ino;
    const char *name;
    const MapfsAcl *acl; /* NULL: the one that is there goes */
    uint32_t mode;       /* becomes the inode's unless it is MODE_STAYS */
    uint64_t time;
} AclStep;

static int step_run(MapfsFs *fs, MapfsTxn *txn, const AclStep *step) {
    uint32_t flags = (step->acl ? 0 : MAPFS_XATTR_REMOVE) | (step->mode == MODE_STAYS ? 0 : MAPFS_XATTR_SET_MODE);
    size_t name_len = strlen(step->name), value_len = 0;
    AclRecord record;

    memset(&record.xattr, 0, sizeof(record.xattr));
    memcpy(record.xattr.bytes, step->name, name_len);
    if (step->acl)
        value_len = mapfs_acl_format(step->acl, (uint8_t *)record.xattr.bytes + name_len);
    record.xattr.ino = mapfs_le64_store(step->ino);
    record.xattr.flags = mapfs_le32_store(flags);
    record.xattr.mode = mapfs_le32_store(step->mode == MODE_STAYS ? 0 : step->mode & 07777);
    record.xattr.value_len = mapfs_le32_store((uint32_t)value_len);
    record.xattr.name_len = (uint8_t)name_len;
    mapfs_record_init(&record.xattr.header, MAPFS_RECORD_XATTR, sizeof(record.xattr) + name_len + value_len,
                      step->time);
    return mapfs_record_run(fs, txn, &record.xattr.header);
}

/* The attribute that holds a list: 1, 0 when there is none, or -errno. A longer one than lists are is damage: changes of lists claim no room for it. */
static int acl_lookup(MapfsFs *fs, uint64_t ino, const struct mapfs_disk_inode *inode, const char *name,
                      MapfsXattr *ret_xattr) {
    int r;

    if (mapfs_le32_load(inode->n_xattrs) == 0)
        return 0;
    r = mapfs_xattr_lookup(fs, ino, name, strlen(name), ret_xattr);
    if (r > 0 && ret_xattr->value_len > MAPFS_ACL_LEN_MAX)
        return mapfs_damage(0, "xattr", "%s of inode %" PRIu64 " has %" PRIu32 " bytes", name, ino,
                            ret_xattr->value_len);
    return r;
}

/* A list of a loaded inode: 1, 0 if it has none, -EUCLEAN for one that cannot have been set. */
static int acl_load(MapfsFs *fs, uint64_t ino, const struct mapfs_disk_inode *inode, const char *name,
                    MapfsAcl *ret_acl) {
    uint8_t bytes[MAPFS_ACL_LEN_MAX];
    MapfsXattr xattr;
    int r;

    r = acl_lookup(fs, ino, inode, name, &xattr);
    if (r <= 0)
        return r;
    r = mapfs_xattr_read(mapfs_store_tree(fs->store), ino, &xattr, bytes);
    if (r < 0)
        return r;
    if (mapfs_acl_parse(bytes, (size_t)r, ret_acl) < 0 || ret_acl->n_entries == 0)
        return mapfs_damage(0, "xattr", "%s of inode %" PRIu64 " is no access control list", name, ino);
    return 1;
}

/* --- set --- */

/* Gives the inode other attributes than its lists. */
static int attributes_run(MapfsFs *fs, MapfsTxn *txn, struct mapfs_disk_record_setattr *record, uint64_t time) {
    mapfs_record_init(&record->header, MAPFS_RECORD_SETATTR, sizeof(*record), time);
    return mapfs_record_run(fs, txn, &record->header);
}

/* A list that says no more than a mode is kept as the mode alone. */
static int set_mode(MapfsFs *fs, MapfsTxn *txn, const AclStep *step) {
    struct mapfs_disk_record_setattr record = {
        .ino = mapfs_le64_store(step->ino),
        .mask = mapfs_le32_store(MAPFS_ATTR_MODE),
        .mode = mapfs_le32_store(step->mode & 07777),
    };
    int r = step_run(fs, txn, step);

    return r == -ENODATA ? attributes_run(fs, txn, &record, step->time) : r;
}

typedef struct {
    uint64_t ino;
    const char *name;
    bool kill_sgid;
    MapfsAcl acl;
} AclChange;

static int set_access(MapfsFs *fs, MapfsTxn *txn, const AclChange *change, uint32_t mode) {
    AclStep step = {change->ino, change->name, &change->acl, mode, mapfs_fs_now()};
    bool says_more = mapfs_acl_to_mode(&change->acl, &step.mode);

    if (change->kill_sgid)
        step.mode &= ~(uint32_t)S_ISGID;
    if (says_more)
        return step_run(fs, txn, &step);
    step.acl = NULL;
    return set_mode(fs, txn, &step);
}

static int set_locked(MapfsFs *fs, MapfsTxn *txn, const AclChange *change) {
    bool is_access = strcmp(change->name, MAPFS_XATTR_ACL_ACCESS) == 0, is_empty = change->acl.n_entries == 0;
    const AclStep step = {change->ino, change->name, is_empty ? NULL : &change->acl, MODE_STAYS, mapfs_fs_now()};
    struct mapfs_disk_inode inode;
    MapfsXattr old;
    uint32_t mode;
    bool had;
    int r = mapfs_inode_load(mapfs_store_tree(fs->store), change->ino, &inode);

    if (r == 0)
        r = acl_lookup(fs, change->ino, &inode, change->name, &old);
    if (r < 0)
        return r;
    had = r > 0;
    mode = mapfs_le32_load(inode.mode);
    if (S_ISLNK(mode))
        return -EOPNOTSUPP;
    r = mapfs_flags_check_change(&inode);
    if (r < 0)
        return r;
    if (!is_access && !S_ISDIR(mode))
        return is_empty ? 0 : -EACCES;
    if (!had && !is_empty)
        r = mapfs_xattr_check_room(fs, change->ino, &inode, strlen(change->name));
    if (r < 0)
        return r;
    if (is_access && !is_empty)
        return set_access(fs, txn, change, mode);
    r = step_run(fs, txn, &step);
    return is_empty && r == -ENODATA ? 0 : r;
}

int mapfs_acl_set(MapfsFs *fs, uint64_t ino, const char *name, MapfsBytes value, bool kill_sgid) {
    const MapfsKey keys[] = {mapfs_inode_key(ino), mapfs_xattr_name_key(fs, ino, name, strlen(name))};
    AclChange change = {.ino = ino, .name = name, .kill_sgid = kill_sgid};
    MapfsTxn txn;
    int r = mapfs_acl_parse(value.bytes, value.len, &change.acl);

    if (r < 0)
        return r;
    mapfs_store_prefetch(fs->store, keys, MAPFS_N_ELEMENTS(keys));
    r = mapfs_fs_begin(fs, change.acl.n_entries > 0 ? MAPFS_TXN_GROWS : MAPFS_TXN_FREES, MAPFS_ACL_CHANGES, &txn);
    if (r < 0)
        return r;
    mapfs_txn_lock(&txn);
    r = set_locked(fs, &txn, &change);
    mapfs_txn_end(&txn);
    return r;
}

/* --- together with other changes --- */

int mapfs_acl_check(MapfsFs *fs, uint64_t ino, const struct mapfs_disk_inode *inode) {
    MapfsAcl acl;
    int r = acl_load(fs, ino, inode, MAPFS_XATTR_ACL_ACCESS, &acl);

    return r < 0 ? r : 0;
}

int mapfs_acl_follow_mode(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, const struct mapfs_disk_inode *inode,
                          uint32_t mode) {
    MapfsAcl acl;
    const AclStep step = {ino, MAPFS_XATTR_ACL_ACCESS, &acl, MODE_STAYS, mapfs_fs_now()};
    int r = acl_load(fs, ino, inode, MAPFS_XATTR_ACL_ACCESS, &acl);

    if (r <= 0)
        return r;
    mapfs_acl_chmod(&acl, mode);
    r = step_run(fs, txn, &step);
    return r < 0 ? r : 1;
}

int mapfs_inherit(MapfsFs *fs, uint64_t dir, const struct mapfs_disk_inode *parent, const MapfsNewInode *new_inode,
                  MapfsInherited *ret_inherited) {
    int r = 0;

    ret_inherited->mode = new_inode->mode;
    ret_inherited->flags = mapfs_flags_inherited(parent, new_inode->mode);
    ret_inherited->has_access = ret_inherited->has_default = false;
    if (!S_ISLNK(new_inode->mode)) {
        r = acl_load(fs, dir, parent, MAPFS_XATTR_ACL_DEFAULT, &ret_inherited->dir_default);
        if (r < 0)
            return r;
        if (r == 0)
            ret_inherited->mode &= ~(new_inode->umask & 0777);
    }
    if (r > 0) {
        ret_inherited->access = ret_inherited->dir_default;
        ret_inherited->has_access = mapfs_acl_create(&ret_inherited->access, &ret_inherited->mode);
        ret_inherited->has_default = S_ISDIR(new_inode->mode);
    }
    return ret_inherited->flags != 0 || ret_inherited->has_access || ret_inherited->has_default;
}

int mapfs_inherit_store(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, const MapfsInherited *inherited, uint64_t time) {
    const AclStep access = {ino, MAPFS_XATTR_ACL_ACCESS, &inherited->access, MODE_STAYS, time};
    const AclStep dir_default = {ino, MAPFS_XATTR_ACL_DEFAULT, &inherited->dir_default, MODE_STAYS, time};
    struct mapfs_disk_record_setattr record = {
        .ino = mapfs_le64_store(ino),
        .mask = mapfs_le32_store(MAPFS_ATTR_FLAGS),
        .flags = mapfs_le64_store(inherited->flags),
    };
    int r = 0;

    if (inherited->flags != 0)
        r = attributes_run(fs, txn, &record, time);
    if (r == 0 && inherited->has_access)
        r = step_run(fs, txn, &access);
    if (r == 0 && inherited->has_default)
        r = step_run(fs, txn, &dir_default);
    return r;
}
