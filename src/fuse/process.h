/* SPDX-License-Identifier: MIT */
#pragma once

/* What a process that serves a filesystem asks of the kernel. */

#include "base/macros.h"

/* Memory that the process needs is not got by writing out pages to its own mount, and it is among the last to be killed when memory is
 * short, as far as its rights go. SIGBUS of mapped images is caught. Before threads are started. -errno. */
int mapfs_process_prepare(void) MAPFS_MUST_USE;
