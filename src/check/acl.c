/* SPDX-License-Identifier: MIT */

#include "check/acl.h"

#include <string.h>
#include <sys/stat.h>

#include "format/items.h"

static bool name_is(const struct mapfs_disk_xattr *xattr, const char *bytes, const char *name) {
    return xattr->name_len == strlen(name) && memcmp(bytes, name, xattr->name_len) == 0;
}

void mapfs_acl_reader_begin(MapfsAclReader *reader, const uint8_t *chunk, size_t len) {
    const char *name = (const char *)chunk + sizeof(struct mapfs_disk_xattr);
    struct mapfs_disk_xattr xattr;

    memcpy(&xattr, chunk, sizeof(xattr));
    reader->is_access = name_is(&xattr, name, MAPFS_XATTR_ACL_ACCESS);
    reader->is_default = name_is(&xattr, name, MAPFS_XATTR_ACL_DEFAULT);
    reader->len = 0;
    mapfs_acl_reader_add(reader, chunk + sizeof(xattr) + xattr.name_len, len - sizeof(xattr) - xattr.name_len);
}

void mapfs_acl_reader_add(MapfsAclReader *reader, const uint8_t *chunk, size_t len) {
    if (!reader->is_access && !reader->is_default)
        return;
    if (reader->len < sizeof(reader->value))
        memcpy(reader->value + reader->len, chunk, MAPFS_MIN(len, sizeof(reader->value) - reader->len));
    reader->len += len;
}

MapfsAclVerdict mapfs_acl_reader_judge(const MapfsAclReader *reader, uint32_t *mode) {
    uint32_t said = *mode;
    MapfsAcl acl;

    if (!reader->is_access && !reader->is_default)
        return MAPFS_ACL_GOOD;
    if (S_ISLNK(*mode) || (reader->is_default && !S_ISDIR(*mode)))
        return MAPFS_ACL_BAD;
    if (mapfs_acl_parse(reader->value, reader->len, &acl) < 0 || acl.n_entries == 0)
        return MAPFS_ACL_BAD;
    if (reader->is_default)
        return MAPFS_ACL_GOOD;
    (void)mapfs_acl_to_mode(&acl, &said);
    if (said == *mode)
        return MAPFS_ACL_GOOD;
    *mode = said;
    return MAPFS_ACL_OTHER_MODE;
}
