/* SPDX-License-Identifier: MIT */

/* The rules are those of fs/posix_acl.c in Linux. */

#include "format/acl.h"

#include <errno.h>
#include <sys/stat.h>

#include "format/le.h"

/* The kernel's form in extended attributes: uapi/linux/posix_acl_xattr.h. */
#define ACL_VERSION 2u
#define TAG_USER_OBJ 0x01u
#define TAG_USER 0x02u
#define TAG_GROUP_OBJ 0x04u
#define TAG_GROUP 0x08u
#define TAG_MASK 0x10u
#define TAG_OTHER 0x20u
#define ID_NONE UINT32_MAX

struct acl_header {
    struct mapfs_le32 version;
};

struct acl_entry {
    struct mapfs_le16 tag;
    struct mapfs_le16 perm;
    struct mapfs_le32 id;
};
_Static_assert(sizeof(struct acl_header) + MAPFS_ACL_ENTRIES_MAX * sizeof(struct acl_entry) <= MAPFS_ACL_LEN_MAX,
               "the longest list");

static bool tag_is_named(uint16_t tag) {
    return tag == TAG_USER || tag == TAG_GROUP;
}

/* Where a tag stands in a list: they never fall. -1 for what is none. */
static int tag_rank(uint16_t tag) {
    static const uint16_t order[] = {TAG_USER_OBJ, TAG_USER, TAG_GROUP_OBJ, TAG_GROUP, TAG_MASK, TAG_OTHER};

    for (int i = 0; i < (int)MAPFS_N_ELEMENTS(order); i++) {
        if (order[i] == tag)
            return i;
    }
    return -1;
}

static unsigned tag_count(const MapfsAcl *acl, uint16_t tag) {
    unsigned n = 0;

    for (unsigned i = 0; i < acl->n_entries; i++)
        n += acl->entries[i].tag == tag;
    return n;
}

/* One owner, one group, one for others, any number of named ones between, and with these a mask; in that order. */
static int acl_check(const MapfsAcl *acl) {
    bool named = tag_count(acl, TAG_USER) > 0 || tag_count(acl, TAG_GROUP) > 0;
    unsigned n_masks = tag_count(acl, TAG_MASK);
    int rank = -1;

    for (unsigned i = 0; i < acl->n_entries; i++) {
        const MapfsAclEntry *entry = &acl->entries[i];
        int next = tag_rank(entry->tag);

        if (next < 0 || next < rank || (entry->perm & ~S_IRWXO) != 0)
            return -EINVAL;
        if (tag_is_named(entry->tag) && entry->id == ID_NONE)
            return -EINVAL;
        rank = next;
    }
    if (tag_count(acl, TAG_USER_OBJ) != 1 || tag_count(acl, TAG_GROUP_OBJ) != 1 || tag_count(acl, TAG_OTHER) != 1)
        return -EINVAL;
    return n_masks > 1 || (named && n_masks == 0) ? -EINVAL : 0;
}

int mapfs_acl_parse(const void *bytes, size_t len, MapfsAcl *ret_acl) {
    const uint8_t *at = (const uint8_t *)bytes + sizeof(struct acl_header);
    struct acl_header header;

    ret_acl->n_entries = 0;
    if (len == 0)
        return 0;
    if (len > MAPFS_ACL_LEN_MAX)
        return -E2BIG;
    if (len < sizeof(header))
        return -EINVAL;
    memcpy(&header, bytes, sizeof(header));
    if (mapfs_le32_load(header.version) != ACL_VERSION)
        return -EOPNOTSUPP;
    if ((len - sizeof(header)) % sizeof(struct acl_entry) != 0)
        return -EINVAL;
    ret_acl->n_entries = (unsigned)((len - sizeof(header)) / sizeof(struct acl_entry));
    for (unsigned i = 0; i < ret_acl->n_entries; i++, at += sizeof(struct acl_entry)) {
        struct acl_entry entry;

        memcpy(&entry, at, sizeof(entry));
        ret_acl->entries[i] = (MapfsAclEntry){
            .tag = mapfs_le16_load(entry.tag), .perm = mapfs_le16_load(entry.perm), .id = mapfs_le32_load(entry.id)};
    }
    return ret_acl->n_entries == 0 ? 0 : acl_check(ret_acl);
}

size_t mapfs_acl_format(const MapfsAcl *acl, uint8_t *buffer) {
    const struct acl_header header = {mapfs_le32_store(ACL_VERSION)};
    uint8_t *at = buffer + sizeof(header);

    memcpy(buffer, &header, sizeof(header));
    for (unsigned i = 0; i < acl->n_entries; i++, at += sizeof(struct acl_entry)) {
        const MapfsAclEntry *from = &acl->entries[i];
        const struct acl_entry entry = {mapfs_le16_store(from->tag), mapfs_le16_store(from->perm),
                                        mapfs_le32_store(tag_is_named(from->tag) ? from->id : ID_NONE)};

        memcpy(at, &entry, sizeof(entry));
    }
    return (size_t)(at - buffer);
}

/* The entries that a mode shows. The mask, where there is one, stands for the group. */
typedef struct {
    MapfsAclEntry *owner, *group, *other;
} ModeEntries;

static ModeEntries mode_entries(MapfsAcl *acl) {
    ModeEntries found = {0};

    for (unsigned i = 0; i < acl->n_entries; i++) {
        MapfsAclEntry *entry = &acl->entries[i];

        switch (entry->tag) {
        case TAG_USER_OBJ:
            found.owner = entry;
            break;
        case TAG_GROUP_OBJ:
        case TAG_MASK: /* comes after the group */
            found.group = entry;
            break;
        case TAG_OTHER:
            found.other = entry;
            break;
        default:
            break;
        }
    }
    return found;
}

static bool acl_says_more(const MapfsAcl *acl) {
    return acl->n_entries > 3;
}

static void mode_set(const ModeEntries *entries, uint32_t *mode) {
    *mode &= ~(uint32_t)(S_IRWXU | S_IRWXG | S_IRWXO);
    *mode |= (uint32_t)entries->owner->perm << 6 | (uint32_t)entries->group->perm << 3 | entries->other->perm;
}

bool mapfs_acl_to_mode(const MapfsAcl *acl, uint32_t *mode) {
    MapfsAcl copy = *acl;
    const ModeEntries entries = mode_entries(&copy);

    mode_set(&entries, mode);
    return acl_says_more(acl);
}

void mapfs_acl_chmod(MapfsAcl *acl, uint32_t mode) {
    const ModeEntries entries = mode_entries(acl);

    entries.owner->perm = mode >> 6 & S_IRWXO;
    entries.group->perm = mode >> 3 & S_IRWXO;
    entries.other->perm = mode & S_IRWXO;
}

bool mapfs_acl_create(MapfsAcl *acl, uint32_t *mode) {
    const ModeEntries entries = mode_entries(acl);

    entries.owner->perm &= *mode >> 6 & S_IRWXO;
    entries.group->perm &= *mode >> 3 & S_IRWXO;
    entries.other->perm &= *mode & S_IRWXO;
    mode_set(&entries, mode);
    return acl_says_more(acl);
}
