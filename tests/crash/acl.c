/* SPDX-License-Identifier: MIT */
#include "acl.h"

#include <string.h>
#include <sys/stat.h>

#define FLAGS_HANDED_DOWN (MAPFS_INODE_SYNC | MAPFS_INODE_NODUMP | MAPFS_INODE_NOATIME)

void acl_init(Acl *acl) {
    acl->version = 2;
    acl->n_entries = 0;
}

void acl_add(Acl *acl, uint16_t tag, uint16_t perm, uint32_t id) {
    acl->entries[acl->n_entries++] = (AclEntry){tag, perm, id};
}

size_t acl_len(const Acl *acl) {
    return sizeof(acl->version) + acl->n_entries * sizeof(acl->entries[0]);
}

static void acl_load(Acl *acl, const ModelXattr *xattr) {
    memcpy(acl, xattr->value, xattr->len);
    acl->n_entries = (xattr->len - sizeof(acl->version)) / sizeof(acl->entries[0]);
}

static AclEntry *entry_of(Acl *acl, uint16_t tag) {
    for (size_t i = 0; i < acl->n_entries; i++) {
        if (acl->entries[i].tag == tag)
            return &acl->entries[i];
    }
    return NULL;
}

/* What the mode's three digits stand for. */
static AclEntry *digit(Acl *acl, unsigned shift) {
    AclEntry *mask = entry_of(acl, ACL_MASK);

    if (shift == 6)
        return entry_of(acl, ACL_USER_OBJ);
    if (shift == 3)
        return mask ? mask : entry_of(acl, ACL_GROUP_OBJ);
    return entry_of(acl, ACL_OTHER);
}

uint32_t acl_mode(const Acl *acl) {
    Acl copy = *acl;
    uint32_t mode = 0;

    for (unsigned shift = 0; shift <= 6; shift += 3)
        mode |= (uint32_t)digit(&copy, shift)->perm << shift;
    return mode;
}

static void set_list(ModelInode *inode, const char *name, const Acl *acl) {
    ModelXattr *old = model_xattr(inode, name);

    if (acl)
        model_xattr_set(inode, name, acl, acl_len(acl));
    else if (old)
        model_xattr_remove(inode, old);
}

void acl_set_access(ModelInode *inode, const Acl *acl) {
    inode->attr.mode = (inode->attr.mode & ~0777u) | acl_mode(acl);
    set_list(inode, ACL_ACCESS, acl->n_entries > 3 ? acl : NULL);
}

void acl_follow_mode(ModelInode *inode) {
    const ModelXattr *xattr = model_xattr(inode, ACL_ACCESS);
    Acl acl;

    if (!xattr)
        return;
    acl_load(&acl, xattr);
    for (unsigned shift = 0; shift <= 6; shift += 3)
        digit(&acl, shift)->perm = inode->attr.mode >> shift & 7;
    set_list(inode, ACL_ACCESS, &acl);
}

void acl_inherit(const ModelInode *dir, uint32_t umask, ModelInode *inode) {
    bool is_link = S_ISLNK(inode->attr.mode), is_dir = S_ISDIR(inode->attr.mode);
    const ModelXattr *xattr = is_link ? NULL : model_xattr(dir, ACL_DEFAULT);
    Acl acl;

    inode->attr.flags = dir->attr.flags & FLAGS_HANDED_DOWN;
    if (!is_dir && !S_ISREG(inode->attr.mode))
        inode->attr.flags &= ~MAPFS_INODE_SYNC;
    if (!xattr) {
        inode->attr.mode &= ~(is_link ? 0 : umask & 0777);
        return;
    }
    acl_load(&acl, xattr);
    if (is_dir)
        set_list(inode, ACL_DEFAULT, &acl);
    for (unsigned shift = 0; shift <= 6; shift += 3)
        digit(&acl, shift)->perm &= (uint16_t)(inode->attr.mode >> shift & 7);
    acl_set_access(inode, &acl);
}
