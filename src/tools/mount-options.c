/* SPDX-License-Identifier: MIT */
#include "tools/mount-options.h"

#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <glib.h>

#include "tools/number.h"

const char mapfs_mount_options_help[] =
    "Options of -o:\n"
    "  ro, rw                 read-only (needs no permission to write the image), or not\n"
    "  view=shared|readonly   readonly is the same as ro\n"
    "  commit=SECONDS         checkpoint at least this often (default 5)\n"
    "  cache=through|writeback  when the kernel hands writes on: at once, or later (faster small writes; default "
    "through)\n"
    "  discard, nodiscard     give freed blocks back to the host, or not (default: yes, but not on a block device)\n"
    "  offset=BYTES           where the image begins in its file (K, M, G, T)\n"
    "  busy_poll=on|off       shorter ways for requests at the cost of processor time while many come (default on)\n"
    "  errors=remount-ro|continue  when damage is found: refuse changes (default), or go on\n"
    "  uid=N, gid=N           show everything as owned by N\n"
    "  remount                change ro, rw, nosuid, noexec and the like of what is mounted (root only)\n"
    "  allow_other, allow_root  who else may use the mount\n"
    "  suid, nosuid, dev, nodev, exec, noexec, sync, dirsync, auto_unmount, context=..., ...  as for any FUSE mount\n"
    "                         (nosuid and nodev are the default of mapfs mount, not of mount -t mapfs by root)\n";

typedef enum {
    OPTION_IGNORE, /* generic; has no meaning here, or is what happens anyway */
    OPTION_PASS,   /* goes to libfuse as it is */
    OPTION_LATER,  /* its feature is not in this version; the value in `text` is what happens anyway */
    OPTION_LABEL,  /* for SELinux: goes to the kernel where there is SELinux, as mount(8) does it */
    OPTION_REMOUNT,
    OPTION_READ_ONLY,
    OPTION_READ_WRITE,
    /* From here on only a new daemon can change them. */
    OPTION_VIEW,
    OPTION_COMMIT,
    OPTION_CACHE,
    OPTION_BUSY_POLL,
    OPTION_DISCARD,
    OPTION_NODISCARD,
    OPTION_OFFSET,
    OPTION_UID,
    OPTION_GID,
    OPTION_ERRORS,
} OptionKind;

typedef enum {
    VALUE_NONE,
    VALUE_NEEDED,
    VALUE_OPTIONAL,
} OptionValue;

static const struct option_entry {
    const char *name;
    OptionKind kind;
    OptionValue value;
    const char *text;
} option_table[] = {
    /* for the daemon */
    {"ro", OPTION_READ_ONLY, VALUE_NONE, NULL},
    {"rw", OPTION_READ_WRITE, VALUE_NONE, NULL},
    {"remount", OPTION_REMOUNT, VALUE_NONE, NULL},
    {"view", OPTION_VIEW, VALUE_NEEDED, NULL},
    {"commit", OPTION_COMMIT, VALUE_NEEDED, NULL},
    {"cache", OPTION_CACHE, VALUE_NEEDED, NULL},
    {"busy_poll", OPTION_BUSY_POLL, VALUE_NEEDED, NULL},
    {"discard", OPTION_DISCARD, VALUE_NONE, NULL},
    {"nodiscard", OPTION_NODISCARD, VALUE_NONE, NULL},
    {"offset", OPTION_OFFSET, VALUE_NEEDED, NULL},
    {"uid", OPTION_UID, VALUE_NEEDED, NULL},
    {"gid", OPTION_GID, VALUE_NEEDED, NULL},
    {"errors", OPTION_ERRORS, VALUE_NEEDED, NULL},
    {"size", OPTION_LATER, VALUE_NEEDED, NULL},
    {"private_limit", OPTION_LATER, VALUE_NEEDED, NULL},
    {"populate", OPTION_LATER, VALUE_NONE, NULL},
    {"lock", OPTION_LATER, VALUE_NEEDED, "none"},
    {"huge", OPTION_LATER, VALUE_NEEDED, "never"},
    {"io_uring", OPTION_LATER, VALUE_NEEDED, "auto off"},
    /* for libfuse and the kernel */
    {"allow_other", OPTION_PASS, VALUE_NONE, NULL},
    {"allow_root", OPTION_PASS, VALUE_NONE, NULL},
    {"auto_unmount", OPTION_PASS, VALUE_NONE, NULL},
    {"suid", OPTION_PASS, VALUE_NONE, NULL},
    {"nosuid", OPTION_PASS, VALUE_NONE, NULL},
    {"dev", OPTION_PASS, VALUE_NONE, NULL},
    {"nodev", OPTION_PASS, VALUE_NONE, NULL},
    {"exec", OPTION_PASS, VALUE_NONE, NULL},
    {"noexec", OPTION_PASS, VALUE_NONE, NULL},
    {"sync", OPTION_PASS, VALUE_NONE, NULL},
    {"dirsync", OPTION_PASS, VALUE_NONE, NULL},
    {"nosymfollow", OPTION_PASS, VALUE_NONE, NULL},
    {"debug", OPTION_PASS, VALUE_NONE, NULL},
    {"context", OPTION_LABEL, VALUE_NEEDED, NULL},
    {"fscontext", OPTION_LABEL, VALUE_NEEDED, NULL},
    {"defcontext", OPTION_LABEL, VALUE_NEEDED, NULL},
    {"rootcontext", OPTION_LABEL, VALUE_NEEDED, NULL},
    /* for mount(8) and the reader of /etc/fstab, or what happens anyway */
    {"default_permissions", OPTION_IGNORE, VALUE_NONE, NULL},
    {"nonempty", OPTION_IGNORE, VALUE_NONE, NULL},
    {"async", OPTION_IGNORE, VALUE_NONE, NULL},
    {"atime", OPTION_IGNORE, VALUE_NONE, NULL},
    {"noatime", OPTION_PASS, VALUE_NONE, NULL},
    {"relatime", OPTION_IGNORE, VALUE_NONE, NULL},
    {"norelatime", OPTION_IGNORE, VALUE_NONE, NULL},
    {"strictatime", OPTION_IGNORE, VALUE_NONE, NULL},
    {"nostrictatime", OPTION_IGNORE, VALUE_NONE, NULL},
    {"diratime", OPTION_IGNORE, VALUE_NONE, NULL},
    {"nodiratime", OPTION_PASS, VALUE_NONE, NULL},
    {"lazytime", OPTION_IGNORE, VALUE_NONE, NULL},
    {"nolazytime", OPTION_IGNORE, VALUE_NONE, NULL},
    {"iversion", OPTION_IGNORE, VALUE_NONE, NULL},
    {"noiversion", OPTION_IGNORE, VALUE_NONE, NULL},
    {"mand", OPTION_IGNORE, VALUE_NONE, NULL},
    {"nomand", OPTION_IGNORE, VALUE_NONE, NULL},
    {"silent", OPTION_IGNORE, VALUE_NONE, NULL},
    {"loud", OPTION_IGNORE, VALUE_NONE, NULL},
    {"defaults", OPTION_IGNORE, VALUE_NONE, NULL},
    {"auto", OPTION_IGNORE, VALUE_NONE, NULL},
    {"noauto", OPTION_IGNORE, VALUE_NONE, NULL},
    {"user", OPTION_IGNORE, VALUE_OPTIONAL, NULL},
    {"nouser", OPTION_IGNORE, VALUE_NONE, NULL},
    {"users", OPTION_IGNORE, VALUE_NONE, NULL},
    {"nousers", OPTION_IGNORE, VALUE_NONE, NULL},
    {"owner", OPTION_IGNORE, VALUE_NONE, NULL},
    {"group", OPTION_IGNORE, VALUE_NONE, NULL},
    {"_netdev", OPTION_IGNORE, VALUE_NONE, NULL},
    {"nofail", OPTION_IGNORE, VALUE_NONE, NULL},
    {"comment", OPTION_IGNORE, VALUE_NEEDED, NULL},
    /* what mount(8) finds in its tables when it remounts, and what mount.fuse(8) takes */
    {"uhelper", OPTION_IGNORE, VALUE_NEEDED, NULL},
    {"helper", OPTION_IGNORE, VALUE_NEEDED, NULL},
    {"seclabel", OPTION_IGNORE, VALUE_NONE, NULL},
    {"symfollow", OPTION_IGNORE, VALUE_NONE, NULL},
    {"fsname", OPTION_IGNORE, VALUE_NEEDED, NULL},
    {"subtype", OPTION_IGNORE, VALUE_NEEDED, NULL},
    {"user_id", OPTION_IGNORE, VALUE_NEEDED, NULL},
    {"group_id", OPTION_IGNORE, VALUE_NEEDED, NULL},
    {"rootmode", OPTION_IGNORE, VALUE_NEEDED, NULL},
    {"max_read", OPTION_IGNORE, VALUE_NEEDED, NULL},
    {"blksize", OPTION_IGNORE, VALUE_NEEDED, NULL},
    /* of libfuse's loop, in whose place fuse/loop.h stands */
    {"clone_fd", OPTION_IGNORE, VALUE_NONE, NULL},
    {"max_idle_threads", OPTION_IGNORE, VALUE_NEEDED, NULL},
    {"max_threads", OPTION_IGNORE, VALUE_NEEDED, NULL},
};

/* What a remount hands to mount(2). */
static const struct flag_entry {
    const char *name;
    unsigned long flag;
    bool is_set;
} flag_table[] = {
    {"ro", MS_RDONLY, true},
    {"rw", MS_RDONLY, false},
    {"nosuid", MS_NOSUID, true},
    {"suid", MS_NOSUID, false},
    {"nodev", MS_NODEV, true},
    {"dev", MS_NODEV, false},
    {"noexec", MS_NOEXEC, true},
    {"exec", MS_NOEXEC, false},
    {"sync", MS_SYNCHRONOUS, true},
    {"async", MS_SYNCHRONOUS, false},
    {"dirsync", MS_DIRSYNC, true},
    {"noatime", MS_NOATIME, true},
    {"atime", MS_NOATIME, false},
    {"nodiratime", MS_NODIRATIME, true},
    {"diratime", MS_NODIRATIME, false},
    {"relatime", MS_RELATIME, true},
    {"norelatime", MS_RELATIME, false},
    {"strictatime", MS_STRICTATIME, true},
    {"nostrictatime", MS_STRICTATIME, false},
    {"nosymfollow", MS_NOSYMFOLLOW, true},
    {"symfollow", MS_NOSYMFOLLOW, false},
    /* What mount(8) understands as these. */
    {"user", MS_NOSUID | MS_NODEV | MS_NOEXEC, true},
    {"users", MS_NOSUID | MS_NODEV | MS_NOEXEC, true},
    {"owner", MS_NOSUID | MS_NODEV, true},
    {"group", MS_NOSUID | MS_NODEV, true},
};

void mapfs_mount_options_init(MapfsMountOptions *options) {
    *options = (MapfsMountOptions){
        .view = MAPFS_VIEW_SHARED, .damage_read_only = true, .busy_poll = true, .uid = -1, .gid = -1};
}

void mapfs_mount_options_clear(MapfsMountOptions *options) {
    g_free(options->fuse);
    g_free(options->fixed);
    options->fuse = NULL;
    options->fixed = NULL;
}

static char *value_wrong(const char *name, const char *value, const char *expected) {
    return g_strdup_printf("option %s: '%s' is not %s", name, value, expected);
}

static char *option_set_view(MapfsMountOptions *options, const char *value) {
    if (strcmp(value, "shared") == 0 || strcmp(value, "readonly") == 0) {
        options->view = strcmp(value, "shared") == 0 ? MAPFS_VIEW_SHARED : MAPFS_VIEW_READONLY;
        return NULL;
    }
    if (strcmp(value, "private") == 0 || strcmp(value, "scratch") == 0 || strcmp(value, "lab") == 0)
        return g_strdup_printf("option view=%s: this version of mapfs has only view=shared and view=readonly", value);
    return value_wrong("view", value, "shared or readonly");
}

/* One of two words. */
static char *option_set_choice(const char *name, const char *value, const char *const words[2], bool *ret_second) {
    for (int i = 0; i < 2; i++) {
        if (strcmp(value, words[i]) == 0) {
            *ret_second = i == 1;
            return NULL;
        }
    }
    return g_strdup_printf("option %s: '%s' is neither %s nor %s", name, value, words[0], words[1]);
}

static char *option_set_commit(MapfsMountOptions *options, const char *value) {
    uint64_t seconds;

    if (!mapfs_number_parse(value, 3600, &seconds) || seconds == 0)
        return value_wrong("commit", value, "a number of seconds from 1 to 3600");
    options->commit_seconds = (unsigned)seconds;
    return NULL;
}

static char *option_set_offset(MapfsMountOptions *options, const char *value) {
    uint64_t offset;

    if (!mapfs_size_parse(value, &offset) || offset % MAPFS_BLOCK_SIZE != 0 || offset > INT64_MAX)
        return value_wrong("offset", value, "a number of bytes that is a multiple of 4096");
    options->offset_bytes = offset;
    return NULL;
}

static char *option_set_id(const char *name, const char *value, int64_t *ret_id) {
    uint64_t id;

    if (!mapfs_number_parse(value, UINT32_MAX - 1, &id))
        return value_wrong(name, value, "a number");
    *ret_id = (int64_t)id;
    return NULL;
}

static char *option_check_later(const struct option_entry *entry, const char *value) {
    if (value && entry->text) {
        g_auto(GStrv) words = g_strsplit(entry->text, " ", -1);
        if (g_strv_contains((const char *const *)words, value))
            return NULL;
    }
    return g_strdup_printf("option %s%s%s: this version of mapfs does not have it", entry->name, value ? "=" : "",
                           value ? value : "");
}

static void option_note_flag(MapfsMountOptions *options, const char *name) {
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(flag_table); i++) {
        const struct flag_entry *entry = &flag_table[i];

        if (strcmp(entry->name, name) != 0)
            continue;
        options->flags = entry->is_set ? options->flags | entry->flag : options->flags & ~entry->flag;
        options->flags_cleared =
            entry->is_set ? options->flags_cleared & ~entry->flag : options->flags_cleared | entry->flag;
    }
}

unsigned long mapfs_mount_options_flags(const char *list) {
    g_auto(GStrv) names = g_strsplit(list, ",", -1);
    unsigned long flags = 0;

    for (char **name = names; *name; name++)
        for (size_t i = 0; i < MAPFS_N_ELEMENTS(flag_table); i++)
            if (flag_table[i].is_set && strcmp(flag_table[i].name, *name) == 0)
                flags |= flag_table[i].flag;
    return flags;
}

static void option_note_fixed(MapfsMountOptions *options, const char *name) {
    g_auto(GStrv) noted = g_strsplit(options->fixed ? options->fixed : "", ",", -1);
    char *names;

    if (g_strv_contains((const char *const *)noted, name))
        return;
    names = options->fixed ? g_strdup_printf("%s,%s", options->fixed, name) : g_strdup(name);
    g_free(options->fixed);
    options->fixed = names;
}

/* The value may have commas, which separate again for libfuse. */
static void option_pass(MapfsMountOptions *options, const char *name, const char *value) {
    GString *list = g_string_new(options->fuse);

    if (list->len > 0)
        g_string_append_c(list, ',');
    g_string_append(list, name);
    if (value)
        g_string_append_c(list, '=');
    for (const char *at = value; at && *at; at++) {
        if (*at == ',' || *at == '\\')
            g_string_append_c(list, '\\');
        g_string_append_c(list, *at);
    }
    g_free(options->fuse);
    options->fuse = g_string_free(list, FALSE);
}

static char *option_apply(MapfsMountOptions *options, const struct option_entry *entry, const char *value) {
    static const char *const caches[] = {"through", "writeback"};
    static const char *const off_on[] = {"off", "on"};
    static const char *const errors[] = {"continue", "remount-ro"};

    switch (entry->kind) {
    case OPTION_IGNORE:
        return NULL;
    case OPTION_PASS:
        option_pass(options, entry->name, value);
        return NULL;
    case OPTION_LABEL:
        if (access("/sys/fs/selinux", F_OK) == 0)
            option_pass(options, entry->name, value);
        return NULL;
    case OPTION_LATER:
        return option_check_later(entry, value);
    case OPTION_REMOUNT:
        options->remount = true;
        return NULL;
    case OPTION_READ_ONLY:
    case OPTION_READ_WRITE:
        options->read_only = entry->kind == OPTION_READ_ONLY;
        return NULL;
    case OPTION_VIEW:
        return option_set_view(options, value);
    case OPTION_COMMIT:
        return option_set_commit(options, value);
    case OPTION_CACHE:
        return option_set_choice(entry->name, value, caches, &options->cache_writeback);
    case OPTION_BUSY_POLL:
        return option_set_choice(entry->name, value, off_on, &options->busy_poll);
    case OPTION_DISCARD:
    case OPTION_NODISCARD:
        options->discard = entry->kind == OPTION_DISCARD ? MAPFS_DISCARD_ON : MAPFS_DISCARD_OFF;
        return NULL;
    case OPTION_OFFSET:
        return option_set_offset(options, value);
    case OPTION_UID:
        return option_set_id(entry->name, value, &options->uid);
    case OPTION_GID:
        return option_set_id(entry->name, value, &options->gid);
    case OPTION_ERRORS:
        return option_set_choice(entry->name, value, errors, &options->damage_read_only);
    }
    g_assert_not_reached();
}

static const struct option_entry *option_lookup(const char *name) {
    for (size_t i = 0; i < MAPFS_N_ELEMENTS(option_table); i++)
        if (strcmp(option_table[i].name, name) == 0)
            return &option_table[i];
    return NULL;
}

/* `option` is one item of the list, without escapes. */
static char *option_parse(MapfsMountOptions *options, const char *option, bool sloppy) {
    const char *equals = strchr(option, '=');
    g_autofree char *name = equals ? g_strndup(option, (gsize)(equals - option)) : g_strdup(option);
    const char *value = equals ? equals + 1 : NULL;
    const struct option_entry *entry = option_lookup(name);

    /* What begins with x- or X- is for programs that read /etc/fstab. */
    if (*option == '\0' || g_str_has_prefix(option, "x-") || g_str_has_prefix(option, "X-"))
        return NULL;
    if (!entry)
        return sloppy ? NULL : g_strdup_printf("unknown option '%s'", name);
    if (entry->value == VALUE_NEEDED && !value)
        return g_strdup_printf("option %s needs a value: %s=...", name, name);
    if (entry->value == VALUE_NONE && value)
        return g_strdup_printf("option %s takes no value", name);
    option_note_flag(options, name);
    if (entry->kind >= OPTION_VIEW)
        option_note_fixed(options, name);
    return option_apply(options, entry, value);
}

char *mapfs_mount_options_parse(MapfsMountOptions *options, const char *list, bool sloppy) {
    g_autoptr(GString) option = g_string_new(NULL);
    char *problem;

    for (const char *at = list;; at++) {
        if (*at == '\\' && at[1] != '\0') {
            g_string_append_c(option, *++at);
            continue;
        }
        if (*at != ',' && *at != '\0') {
            g_string_append_c(option, *at);
            continue;
        }
        problem = option_parse(options, option->str, sloppy);
        if (problem || *at == '\0')
            return problem;
        g_string_truncate(option, 0);
    }
}
