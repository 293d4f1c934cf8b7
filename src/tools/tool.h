/* SPDX-License-Identifier: MIT */
#pragma once

/* The commands. Each parses its options, makes a few library calls, prints, and returns the exit status of the process. argv[0] is the
 * command's name. */

#include "base/macros.h"

int mapfs_tool_dump(int argc, char **argv) MAPFS_MUST_USE;
int mapfs_tool_fsck(int argc, char **argv) MAPFS_MUST_USE;
int mapfs_tool_info(int argc, char **argv) MAPFS_MUST_USE;
int mapfs_tool_mkfs(int argc, char **argv) MAPFS_MUST_USE;
int mapfs_tool_mount(int argc, char **argv) MAPFS_MUST_USE;
int mapfs_tool_sync(int argc, char **argv) MAPFS_MUST_USE;
int mapfs_tool_umount(int argc, char **argv) MAPFS_MUST_USE;

/* As mount(8) calls its helpers: SOURCE MOUNTPOINT [-sfnv] [-o OPTIONS]. */
int mapfs_tool_mount_helper(int argc, char **argv) MAPFS_MUST_USE;

#define MAPFS_EXIT_OK 0
#define MAPFS_EXIT_FAILURE 1
#define MAPFS_EXIT_USAGE 2

/* How long a command waits for the daemon of an image that is finishing. */
#define MAPFS_WAIT_MS 10000u
