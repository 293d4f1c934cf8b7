/* SPDX-License-Identifier: MIT */
#pragma once

/* POSIX access control lists. The kernel decides by them who may do what; what is done here is what it leaves to a
 * filesystem: which lists are valid, that a list and the mode say the same, and what a new inode takes over from its
 * directory. Lists are stored as the extended attributes system.posix_acl_access and system.posix_acl_default, in the
 * kernel's own form. */

#include "fs/fs-private.h"

#define MAPFS_XATTR_ACL_ACCESS "system.posix_acl_access"
#define MAPFS_XATTR_ACL_DEFAULT "system.posix_acl_default"

/* The longest list: FUSE carries a page. */
#define MAPFS_ACL_LEN_MAX 4096u
#define MAPFS_ACL_ENTRIES_MAX 511u

typedef struct {
    uint16_t tag;  /* as in the kernel's ACL_* */
    uint16_t perm; /* rwx */
    uint32_t id;   /* of a named user or group */
} MapfsAclEntry;

typedef struct {
    unsigned n_entries;
    MapfsAclEntry entries[MAPFS_ACL_ENTRIES_MAX];
} MapfsAcl;

/* Reads a list as the kernel has it. One without entries, or of no bytes, has n_entries 0 and means that there is none. -EINVAL
 * for what is no list or not a valid one, -EOPNOTSUPP for another version of the form, -E2BIG. */
int mapfs_acl_parse(const void *bytes, size_t len, MapfsAcl *ret_acl) MAPFS_MUST_USE;

/* The other way; `buffer` has MAPFS_ACL_LEN_MAX bytes. Returns how many it takes. */
size_t mapfs_acl_format(const MapfsAcl *acl, uint8_t *buffer);

/* Puts what a valid list says of owner, group (or mask) and others into the mode's bits. True when the list says more than a mode
 * can. */
bool mapfs_acl_to_mode(const MapfsAcl *acl, uint32_t *mode);

/* Gives a valid list the permissions of a new mode: chmod. */
void mapfs_acl_chmod(MapfsAcl *acl, uint32_t mode);

/* Makes a directory's valid default list the list of a new inode that is created with *mode, and *mode what both allow. True when the list
 * says more than the mode can. */
bool mapfs_acl_create(MapfsAcl *acl, uint32_t *mode);

/* --- acl-change.c --- */

static inline bool mapfs_acl_is_name(const char *name) {
    return strcmp(name, MAPFS_XATTR_ACL_ACCESS) == 0 || strcmp(name, MAPFS_XATTR_ACL_DEFAULT) == 0;
}

/* Sets (or with value.len 0 takes away) a list, as setxattr of its name. -EOPNOTSUPP for a symlink, -EACCES for a default list of what is no
 * directory, others as mapfs_acl_parse(). */
int mapfs_acl_set(MapfsFs *fs, uint64_t ino, const char *name, MapfsBytes value, bool kill_sgid) MAPFS_MUST_USE;

/* Changes of items that one record for a list makes: three chunks and the inode. */
#define MAPFS_ACL_CHANGES 4u

/* Whether mapfs_acl_follow_mode() will find what it can change: 0, or -EUCLEAN. Before the first change of an operation that makes several. Tree held. */
int mapfs_acl_check(MapfsFs *fs, uint64_t ino, const struct mapfs_disk_inode *inode) MAPFS_MUST_USE;

/* After the permissions of a loaded inode have become `mode`: runs a record that changes its access list likewise, if there is one.
 * MAPFS_ACL_CHANGES. 1 if there was something to change, 0 or -errno. Tree locked. */
int mapfs_acl_follow_mode(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, const struct mapfs_disk_inode *inode,
                          uint32_t mode) MAPFS_MUST_USE;

/* What a new inode takes over from its directory. */
typedef struct {
    uint32_t mode;
    uint64_t flags; /* MAPFS_INODE_* */
    bool has_access, has_default;
    MapfsAcl access, dir_default;
} MapfsInherited;

/* Two lists, and the inode for the flags. */
#define MAPFS_INHERIT_CHANGES (2 * MAPFS_ACL_CHANGES + 1u)

/* Works out what an inode to be made below the loaded directory `dir` takes over. Its mode is that of its directory's default list and
 * new_inode's mode, or without such a list of mode and umask. 1 if there is more than the mode, 0 if not, or -errno. Tree held. */
int mapfs_inherit(MapfsFs *fs, uint64_t dir, const struct mapfs_disk_inode *parent, const MapfsNewInode *new_inode,
                  MapfsInherited *ret_inherited) MAPFS_MUST_USE;

/* Gives it to the new inode, all but the mode: records dated `time`, whose MAPFS_INHERIT_CHANGES the caller has claimed. -errno, perhaps
 * after the first record: the caller then ends with mapfs_apply_broken(). Tree locked. */
int mapfs_inherit_store(MapfsFs *fs, MapfsTxn *txn, uint64_t ino, const MapfsInherited *inherited,
                        uint64_t time) MAPFS_MUST_USE;
