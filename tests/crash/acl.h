/* SPDX-License-Identifier: MIT */
#pragma once

/* POSIX access control lists as the model has them: what becomes of them and of the mode, written down once more. */

#include "model.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define ACL_ENTRIES_MAX 511u

typedef struct {
    uint16_t tag, perm;
    uint32_t id;
} AclEntry;

/* The kernel's form in an extended attribute, on a little-endian machine. */
typedef struct {
    uint32_t version;
    AclEntry entries[ACL_ENTRIES_MAX];
    size_t n_entries; /* not part of it */
} Acl;

#define ACL_USER_OBJ 0x01u
#define ACL_USER 0x02u
#define ACL_GROUP_OBJ 0x04u
#define ACL_GROUP 0x08u
#define ACL_MASK 0x10u
#define ACL_OTHER 0x20u

void acl_init(Acl *acl);
void acl_add(Acl *acl, uint16_t tag, uint16_t perm, uint32_t id);
size_t acl_len(const Acl *acl);

/* The permission bits that a list gives. */
uint32_t acl_mode(const Acl *acl);

/* The inode gets this access list: mode, and the attribute if the list says more than that. */
void acl_set_access(ModelInode *inode, const Acl *acl);

/* chmod: an access list follows. */
void acl_follow_mode(ModelInode *inode);

/* A new inode in a directory: lists and mode, the umask if the directory has no default list; and flags. */
void acl_inherit(const ModelInode *dir, uint32_t umask, ModelInode *inode);
