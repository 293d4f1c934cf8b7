/* SPDX-License-Identifier: MIT */
#pragma once

/* Puts the value of an access control list together from its chunks, and judges it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/acl.h"

typedef enum {
    MAPFS_ACL_GOOD,
    MAPFS_ACL_BAD,        /* no valid list, or on an inode that can have none of its kind */
    MAPFS_ACL_OTHER_MODE, /* valid, and the inode's mode says something else */
} MapfsAclVerdict;

/* An extended attribute that is being read. */
typedef struct {
    bool is_access, is_default; /* neither: of any other name, and nothing of it is kept */
    size_t len;                 /* of the value so far, also of what had no room */
    uint8_t value[MAPFS_ACL_LEN_MAX];
} MapfsAclReader;

/* Begins with an attribute's well-formed first chunk. */
void mapfs_acl_reader_begin(MapfsAclReader *reader, const uint8_t *chunk, size_t len);
/* Takes the chunk that follows. */
void mapfs_acl_reader_add(MapfsAclReader *reader, const uint8_t *chunk, size_t len);
/* Judges the whole attribute of an inode with this mode; MAPFS_ACL_GOOD for what is no list. *mode becomes what a valid access list says. */
MapfsAclVerdict mapfs_acl_reader_judge(const MapfsAclReader *reader, uint32_t *mode);
