/* SPDX-License-Identifier: MIT */
#pragma once

/* What a filesystem has to do about POSIX access control lists, while the kernel decides by them who may do what: a list and the mode say the
 * same, and a new inode takes its directory's over. */

#include "format/acl.h"
#include "fs/fs-private.h"

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
