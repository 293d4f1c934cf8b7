/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <glib.h>

#include "control/client.h"

#define MOUNT_TYPE "fuse.mapfs"

void mapfs_mount_entry_clear(MapfsMountEntry *entry) {
    g_free(entry->point);
    g_free(entry->type);
    g_free(entry->source);
    g_free(entry->device);
    g_free(entry->options);
    *entry = (MapfsMountEntry){0};
}

/* The table writes space, tab, newline and backslash as three octal digits behind a backslash. */
static char *field_unescape(const char *field) {
    GString *text = g_string_new(NULL);

    for (const char *at = field; *at; at++) {
        if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' && at[3] >= '0' &&
            at[3] <= '7') {
            g_string_append_c(text, (char)((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0')));
            at += 3;
        } else {
            g_string_append_c(text, *at);
        }
    }
    return g_string_free(text, FALSE);
}

/* A line of mountinfo, see proc(5): id, parent, device, root, point, options, optional fields, "-", type, source, options. False for what is
 * no mount of ours. */
static bool entry_parse(const char *line, MapfsMountEntry *ret_entry) {
    g_auto(GStrv) fields = g_strsplit(line, " ", -1);
    const guint n = g_strv_length(fields);
    guint dash = 6;

    while (dash < n && strcmp(fields[dash], "-") != 0)
        dash++;
    if (dash + 3 >= n || strcmp(fields[dash + 1], MOUNT_TYPE) != 0)
        return false;
    *ret_entry = (MapfsMountEntry){
        .point = field_unescape(fields[4]),
        .type = field_unescape(fields[dash + 1]),
        .source = field_unescape(fields[dash + 2]),
        .device = g_strdup(fields[2]),
        .options = g_strdup_printf("%s,%s", fields[5], fields[dash + 3]),
    };
    return true;
}

/* NULL is wanted of none. */
static bool text_fits(const char *text, const char *wanted) {
    return !wanted || strcmp(text, wanted) == 0;
}

/* The last entry that fits covers those before it. Of `wanted` point, source and device count, each NULL for any. */
static int table_lookup(int pid, const MapfsMountEntry *wanted, MapfsMountEntry *ret_entry) {
    g_autofree char *path = pid > 0 ? g_strdup_printf("/proc/%d/mountinfo", pid) : g_strdup("/proc/self/mountinfo");
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    MapfsMountEntry entry;
    int found = 0;

    if (!g_file_get_contents(path, &text, NULL, NULL))
        return -ENOENT;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!entry_parse(*line, &entry))
            continue;
        if (!text_fits(entry.point, wanted->point) || !text_fits(entry.source, wanted->source) ||
            !text_fits(entry.device, wanted->device)) {
            mapfs_mount_entry_clear(&entry);
            continue;
        }
        if (found)
            mapfs_mount_entry_clear(ret_entry);
        *ret_entry = entry;
        found = 1;
    }
    return found;
}

/* Absolute, without symbolic links and dots; the last component is not touched, since it may be a mount that is dead. */
static char *point_resolve(const char *path) {
    g_autofree char *trimmed = g_strdup(path);
    g_autofree char *directory = NULL;
    g_autofree char *name = NULL;
    char *resolved;
    char *full;

    for (size_t len = strlen(trimmed); len > 1 && trimmed[len - 1] == '/'; len--)
        trimmed[len - 1] = '\0';
    directory = g_path_get_dirname(trimmed);
    name = g_path_get_basename(trimmed);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "/") == 0)
        return realpath(trimmed, NULL);
    resolved = realpath(directory, NULL);
    if (!resolved)
        return NULL;
    full = g_build_filename(resolved, name, NULL);
    free(resolved); /* realpath's own */
    return full;
}

int mapfs_mount_lookup_point(const char *path, MapfsMountEntry *ret_entry) {
    g_autofree char *point = point_resolve(path);
    g_autofree char *target = NULL;
    int r;

    if (!point)
        return -errno;
    r = table_lookup(0, &(MapfsMountEntry){.point = point}, ret_entry);
    if (r != 0)
        return r;
    /* Perhaps a symbolic link to a mount point. */
    target = realpath(path, NULL);
    return target ? table_lookup(0, &(MapfsMountEntry){.point = target}, ret_entry) : 0;
}

int mapfs_mount_lookup_source(int pid, const char *source, MapfsMountEntry *ret_entry) {
    return table_lookup(pid, &(MapfsMountEntry){.source = (char *)source}, ret_entry);
}

/* Looks for what is `wanted` in all tables. */
static int spaces_lookup(const MapfsMountEntry *wanted, int *ret_pid) {
    g_autoptr(GDir) directory = g_dir_open("/proc", 0, NULL);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    MapfsMountEntry entry;
    const char *name;

    while (directory && (name = g_dir_read_name(directory))) {
        g_autofree char *link = g_strdup_printf("/proc/%s/ns/mnt", name);
        char *namespace = g_ascii_isdigit(*name) ? g_file_read_link(link, NULL) : NULL;

        /* One table a namespace; many processes share it. */
        if (!namespace || !g_hash_table_add(seen, namespace))
            continue;
        if (table_lookup(atoi(name), wanted, &entry) == 1) {
            mapfs_mount_entry_clear(&entry);
            *ret_pid = atoi(name);
            return 1;
        }
    }
    return 0;
}

int mapfs_mount_lookup_elsewhere(const MapfsMountEntry *entry, int *ret_pid) {
    return spaces_lookup(&(MapfsMountEntry){.device = entry->device, .source = entry->source}, ret_pid);
}

/* The device of what a process serves, as its descriptor of /dev/fuse tells: MAJOR:MINOR, or NULL where the kernel does not tell it (6.18 does), or not
 * this user. */
static char *daemon_device(int pid) {
    g_autofree char *descriptors = g_strdup_printf("/proc/%d/fdinfo", pid);
    g_autoptr(GDir) directory = g_dir_open(descriptors, 0, NULL);
    char *device = NULL;
    const char *name;

    while (!device && directory && (name = g_dir_read_name(directory))) {
        static const char key[] = "\nfuse_connection:";
        g_autofree char *path = g_build_filename(descriptors, name, NULL);
        g_autofree char *text = NULL;
        const char *found;

        if (!g_file_get_contents(path, &text, NULL, NULL))
            continue;
        found = strstr(text, key);
        if (found)
            device = g_strdup_printf("0:%d", atoi(found + strlen(key)));
    }
    return device;
}

/* A mount of one of the images in the daemon's command line: for a mount, the program has the absolute path of the image there. */
static int daemon_lookup_by_name(int space, int pid, MapfsMountEntry *ret_entry) {
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", pid);
    g_autofree char *words = NULL;
    gsize len;

    if (!g_file_get_contents(path, &words, &len, NULL))
        return 0;
    for (gsize at = 0; at < len; at += strlen(words + at) + 1)
        if (words[at] == '/' && mapfs_mount_lookup_source(space, words + at, ret_entry) == 1)
            return 1;
    return 0;
}

int mapfs_mount_lookup_daemon(int pid, int *ret_space, MapfsMountEntry *ret_entry) {
    g_autofree char *device = daemon_device(pid);
    const MapfsMountEntry wanted = {.device = device};
    const int spaces[] = {0, pid};
    int space;

    for (size_t i = 0; i < MAPFS_N_ELEMENTS(spaces); i++) {
        const int r =
            device ? table_lookup(spaces[i], &wanted, ret_entry) : daemon_lookup_by_name(spaces[i], pid, ret_entry);
        if (r == 1) {
            *ret_space = spaces[i];
            return 1;
        }
    }
    if (!device || spaces_lookup(&wanted, &space) != 1 || table_lookup(space, &wanted, ret_entry) != 1)
        return 0;
    *ret_space = space;
    return 1;
}

/* `layers` are directories with colons between them. */
static bool layers_have(const char *layers, const char *point) {
    g_auto(GStrv) paths = g_strsplit(layers, ":", -1);
    const size_t len = strlen(point);

    for (char **path = paths; *path; path++) {
        g_autofree char *layer = field_unescape(*path);
        if (strncmp(layer, point, len) == 0 && (layer[len] == '\0' || layer[len] == '/'))
            return true;
    }
    return false;
}

/* Options of an overlay, as in "rw,lowerdir=/a:/b,upperdir=/c,workdir=/d". */
static bool overlay_has(const char *options, const char *point) {
    g_auto(GStrv) items = g_strsplit(options, ",", -1);

    for (char **item = items; *item; item++) {
        const char *layers = strstr(*item, "dir=");
        if (layers && layers_have(layers + strlen("dir="), point))
            return true;
    }
    return false;
}

int mapfs_mount_lookup_overlay(const char *point, char **ret_overlay) {
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/self/mountinfo", &text, NULL, NULL))
        return 0;
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        const char *tail = strstr(*line, " - overlay ");
        g_auto(GStrv) fields = g_strsplit(*line, " ", -1);

        if (tail && g_strv_length(fields) > 4 && overlay_has(tail, point)) {
            *ret_overlay = field_unescape(fields[4]);
            return 1;
        }
    }
    return 0;
}
