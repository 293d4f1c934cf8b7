/* SPDX-License-Identifier: MIT */

/* The program. Which command it is says the name that it is called by, or else its first argument. */

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"
#include "image/image.h"
#include "mapfs-config.h"
#include "tools/messages.h"
#include "tools/tool.h"

static const struct command {
    const char *name;  /* mapfs NAME */
    const char *alias; /* or the name that the program is called by */
    int (*run)(int argc, char **argv);
    const char *purpose;
} commands[] = {
    {"mkfs", "mkfs.mapfs", mapfs_tool_mkfs, "make an image"},
    {"mount", NULL, mapfs_tool_mount, "mount an image"},
    {"umount", NULL, mapfs_tool_umount, "unmount, and wait until everything is durable"},
    {"sync", NULL, mapfs_tool_sync, "make all changes durable now"},
    {"info", NULL, mapfs_tool_info, "tell about an image or a mount"},
    {"fsck", "fsck.mapfs", mapfs_tool_fsck, "check and repair an image"},
    {"dump", NULL, mapfs_tool_dump, "show the inside of an image, for developers"},
    {NULL, "mount.mapfs", mapfs_tool_mount_helper, NULL},
    {NULL, "mount.fuse.mapfs", mapfs_tool_mount_helper, NULL},
};

static int print_help(void) {
    (void)printf("Usage: mapfs COMMAND [OPTION...] [ARGUMENT...]\n"
                 "A filesystem in one memory-mapped image file.\n\n");
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(commands); i++)
        if (commands[i].name)
            (void)printf("  mapfs %-8s %s\n", commands[i].name, commands[i].purpose);
    (void)printf("\n'mapfs COMMAND --help' tells more. 'mapfs --version' prints the version.\n");
    return MAPFS_EXIT_OK;
}

static const struct command *command_lookup(const char *name, bool is_alias) {
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(commands); i++) {
        const char *candidate = is_alias ? commands[i].alias : commands[i].name;
        if (candidate && strcmp(candidate, name) == 0)
            return &commands[i];
    }
    return NULL;
}

/* mount.fuse3 runs the program of the type fuse.mapfs as "mapfs IMAGE MOUNTPOINT -o OPTIONS". */
static bool is_mount_helper(int argc, char **argv) {
    return argc >= 3 && argv[1][0] != '-' && (strchr(argv[1], '/') || access(argv[1], F_OK) == 0);
}

/* `mapfs help COMMAND` is `mapfs COMMAND --help`. */
static int run_help(int argc, char **argv) {
    const struct command *command = argc > 2 ? command_lookup(argv[2], false) : NULL;
    char help[] = "--help";
    char *help_argv[] = {argv[argc > 2 ? 2 : 0], help, NULL};

    if (argc > 2 && !command) {
        mapfs_complain("mapfs", "unknown command '%s'", argv[2]);
        return mapfs_usage_error("mapfs");
    }
    return command ? command->run(2, help_argv) : print_help();
}

static int run_subcommand(int argc, char **argv) {
    const struct command *command;
    char name[32];

    if (argc < 2) {
        mapfs_complain("mapfs", "a command is needed");
        return mapfs_usage_error("mapfs");
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        (void)printf("mapfs %s\n", MAPFS_VERSION);
        return MAPFS_EXIT_OK;
    }
    if (strcmp(argv[1], "help") == 0)
        return run_help(argc, argv);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return print_help();
    command = command_lookup(argv[1], false);
    if (command) {
        /* getopt's messages begin with it. */
        (void)snprintf(name, sizeof name, "mapfs %s", command->name);
        argv[1] = name;
        return command->run(argc - 1, argv + 1);
    }
    if (is_mount_helper(argc, argv))
        return mapfs_tool_mount_helper(argc, argv);
    mapfs_complain("mapfs", "unknown command '%s'", argv[1]);
    return mapfs_usage_error("mapfs");
}

int main(int argc, char **argv) {
    const char *slash;
    const struct command *command;
    int status;

    if (argc < 1)
        return MAPFS_EXIT_USAGE;
    /* A limit of the size of files (ulimit -f) is an error like others. */
    (void)signal(SIGXFSZ, SIG_IGN); /* fails for no signal that is one */
    /* Every command looks at an image through a mapping. */
    if (mapfs_sigbus_install() < 0) {
        mapfs_complain("mapfs", "cannot catch SIGBUS");
        return MAPFS_EXIT_FAILURE;
    }
    slash = strrchr(argv[0], '/');
    command = command_lookup(slash ? slash + 1 : argv[0], true);
    status = command ? command->run(argc, argv) : run_subcommand(argc, argv);
    /* What was printed may not have reached its file. */
    if (fflush(stdout) != 0 && status == MAPFS_EXIT_OK)
        return MAPFS_EXIT_FAILURE;
    return status;
}
