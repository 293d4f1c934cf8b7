/* SPDX-License-Identifier: MIT */
#pragma once

/* POSIX access control lists as they are stored: the values of the extended attributes system.posix_acl_access and system.posix_acl_default, in the
 * kernel's own form. Which are valid, and how a list and a mode become one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/macros.h"

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

static inline bool mapfs_acl_is_name(const char *name) {
    return strcmp(name, MAPFS_XATTR_ACL_ACCESS) == 0 || strcmp(name, MAPFS_XATTR_ACL_DEFAULT) == 0;
}
