/* SPDX-License-Identifier: MIT */
#pragma once

/* Access control lists of libarchive's entries, as the values of extended attributes that Linux keeps them in. */

#include <archive.h>
#include <archive_entry.h>
#include <glib.h>

#include "base/macros.h"

#define MAPFS_POPULATE_ACL_ACCESS "system.posix_acl_access"
#define MAPFS_POPULATE_ACL_DEFAULT "system.posix_acl_default"

/* The list of a type (ARCHIVE_ENTRY_ACL_TYPE_ACCESS or _DEFAULT), or NULL in *ret_value when there is none that says more than the mode. 0, or
 * -errno after *ret_problem (to be freed) was set. */
int mapfs_populate_acl(struct archive_entry *entry, int type, GBytes **ret_value, char **ret_problem) MAPFS_MUST_USE;
