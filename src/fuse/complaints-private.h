/* SPDX-License-Identifier: MIT */
#pragma once

/* What libfuse and fusermount3 say while something is being mounted: several lines, or none that names the mount point. They are collected, and
 * become one message with a remedy. */

#include "base/macros.h"

typedef struct {
    int stderr_fd;    /* where standard error went, or -1 when nothing is collected */
    int collected_fd; /* a file in memory */
} MapfsComplaints;

/* From here on standard error is collected, that of processes which are started too. Without the descriptors for it nothing is. */
void mapfs_complaints_begin(MapfsComplaints *complaints);

/* Standard error is as before. The lines that were collected, without the names of programs before them; to be freed with g_strfreev. */
char **mapfs_complaints_end(MapfsComplaints *complaints) MAPFS_MUST_USE;

/* What can be done about such a line, or NULL. */
const char *mapfs_complaint_remedy(const char *line) MAPFS_MUST_USE;
