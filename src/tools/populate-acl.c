/* SPDX-License-Identifier: MIT */
#include "tools/populate-acl.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>

#include "format/le.h"
#include "tools/number.h"

/* The kernel's form: uapi/linux/posix_acl_xattr.h. */
#define ACL_VERSION 2u
#define ID_NONE UINT32_MAX

struct acl_entry {
    struct mapfs_le16 tag;
    struct mapfs_le16 perm;
    struct mapfs_le32 id;
};

/* In the order in which they stand in a list. */
static const struct {
    int archive_tag;
    uint16_t tag;
    bool is_named;
} tags[] = {
    {ARCHIVE_ENTRY_ACL_USER_OBJ, 0x01, false},  {ARCHIVE_ENTRY_ACL_USER, 0x02, true},
    {ARCHIVE_ENTRY_ACL_GROUP_OBJ, 0x04, false}, {ARCHIVE_ENTRY_ACL_GROUP, 0x08, true},
    {ARCHIVE_ENTRY_ACL_MASK, 0x10, false},      {ARCHIVE_ENTRY_ACL_OTHER, 0x20, false},
};

/* Archives may tell names alone, which are those of this system, or numbers as names. */
static bool id_find(bool is_user, const char *name, uint32_t *ret_id) {
    const struct passwd *user = is_user ? getpwnam(name) : NULL;
    const struct group *group = is_user ? NULL : getgrnam(name);
    uint64_t number;

    if (user)
        *ret_id = user->pw_uid;
    else if (group)
        *ret_id = group->gr_gid;
    else if (mapfs_number_parse(name, ID_NONE - 1, &number))
        *ret_id = (uint32_t)number;
    else
        return false;
    return true;
}

static int entry_compare(gconstpointer a, gconstpointer b) {
    const struct acl_entry *left = a, *right = b;
    const uint32_t left_id = mapfs_le32_load(left->id), right_id = mapfs_le32_load(right->id);

    if (left->tag.raw != right->tag.raw)
        return mapfs_le16_load(left->tag) < mapfs_le16_load(right->tag) ? -1 : 1;
    return left_id < right_id ? -1 : left_id > right_id;
}

static int entry_add(GArray *list, int archive_tag, int permissions, int64_t id, const char *name) {
    struct acl_entry entry = {.perm = mapfs_le16_store((uint16_t)(permissions & 7)), .id = mapfs_le32_store(ID_NONE)};
    uint32_t found = (uint32_t)id;

    for (size_t i = 0; i < G_N_ELEMENTS(tags); i++) {
        if (tags[i].archive_tag != archive_tag)
            continue;
        if (tags[i].is_named && id < 0 && !(name && id_find(archive_tag == ARCHIVE_ENTRY_ACL_USER, name, &found)))
            return -EINVAL;
        if (tags[i].is_named)
            entry.id = mapfs_le32_store(found);
        entry.tag = mapfs_le16_store(tags[i].tag);
        g_array_append_val(list, entry);
    }
    return 0;
}

int mapfs_populate_acl(struct archive_entry *entry, int type, GBytes **ret_value, char **ret_problem) {
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(struct acl_entry));
    const struct mapfs_le32 version = mapfs_le32_store(ACL_VERSION);
    int one_type, permissions, tag, id;
    const char *name;
    GByteArray *value;

    *ret_value = NULL;
    if (archive_entry_acl_reset(entry, type) == 0)
        return 0;
    while (archive_entry_acl_next(entry, type, &one_type, &permissions, &tag, &id, &name) == ARCHIVE_OK) {
        if (entry_add(list, tag, permissions, id, name) < 0) {
            *ret_problem =
                g_strdup_printf("the access control list names '%s', who is not known here", name ? name : "");
            return -EINVAL;
        }
    }
    g_array_sort(list, entry_compare);
    value = g_byte_array_new();
    g_byte_array_append(value, (const guint8 *)&version, sizeof version);
    g_byte_array_append(value, (const guint8 *)list->data, (guint)(list->len * sizeof(struct acl_entry)));
    *ret_value = g_byte_array_free_to_bytes(value);
    return 0;
}
