/* SPDX-License-Identifier: MIT */
#include "tools/populate.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <archive.h>
#include <archive_entry.h>
#include <glib.h>

#include "tools/messages.h"
#include "tools/populate-acl.h"
#include "tools/progress.h"

#define READ_BLOCK (64u * 1024u)

static const char program[] = "mkfs.mapfs"; /* nobody else fills a filesystem */

/* The attributes of a directory are set when nothing more is made in it, which would change its times and inherit its default list. */
typedef struct {
    char *path;
    uint64_t ino;
    unsigned mask;
    MapfsAttr attr;
    GBytes *default_acl; /* or NULL */
} LateAttr;

static void late_clear(void *data) {
    LateAttr *late = data;

    g_clear_pointer(&late->path, g_free);
    g_clear_pointer(&late->default_acl, g_bytes_unref);
}

typedef struct {
    MapfsFs *fs;
    const char *source;
    const struct stat *image; /* what is filled */
    size_t prefix_len;        /* of the source directory's path, which begins every name */
    struct archive *archive;
    GHashTable *directories; /* path -> ino, so that names need not be looked up; "" is the root */
    GHashTable *hard_links;  /* "device:inode" of the source -> ino */
    GArray *late;            /* of LateAttr */
    MapfsProgress progress;
    uint64_t n_entries;
    bool from_disk;
    char *message;
} Populate;

static int populate_fail(Populate *populate, int error, const char *format, ...) G_GNUC_PRINTF(3, 4);
static int populate_fail(Populate *populate, int error, const char *format, ...) {
    g_autofree char *what = NULL;
    va_list args;

    va_start(args, format);
    what = g_strdup_vprintf(format, args);
    va_end(args);
    if (!populate->message) {
        if (error == -ENOSPC)
            populate->message =
                g_strdup_printf("%s does not fit: the image is full after %" PRIu64 " entries; make it larger with -s",
                                populate->source, populate->n_entries);
        else
            populate->message = g_strdup_printf("%s: %s", what, strerror(-error));
    }
    return error;
}

/* `path`: the entry concerned, or NULL. */
static int populate_fail_archive(Populate *populate, const char *path) {
    const int error = archive_errno(populate->archive);
    const char *text = archive_error_string(populate->archive);

    /* EILSEQ is libarchive's number for what it does not understand. */
    if (!populate->message && error == EILSEQ && archive_format(populate->archive) == 0)
        populate->message = g_strdup_printf("%s: %s: it should be a directory, or an archive (tar, cpio, zip, 7zip, "
                                            "iso9660)",
                                            populate->source, text ? text : "cannot be read");
    if (!populate->message)
        populate->message = g_strdup_printf("%s: %s%s%s", populate->source, path ? path : "", path ? ": " : "",
                                            text ? text : "cannot be read");
    return error > 0 ? -error : -EIO;
}

static uint64_t *ino_new(uint64_t ino) {
    uint64_t *copy = g_new(uint64_t, 1);

    *copy = ino;
    return copy;
}

/* "a/b" of "/a//./b/", or NULL when it leaves the tree. */
static char *path_normalize(const char *path) {
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autoptr(GString) result = g_string_new(NULL);

    for (char **part = parts; *part; part++) {
        if (**part == '\0' || strcmp(*part, ".") == 0)
            continue;
        if (strcmp(*part, "..") == 0)
            return NULL;
        if (result->len > 0)
            g_string_append_c(result, '/');
        g_string_append(result, *part);
    }
    return g_strdup(result->str);
}

/* Looks a name up without keeping the inode: nobody removes it meanwhile. */
static int populate_lookup(Populate *populate, uint64_t parent, const char *name, MapfsAttr *ret_attr) {
    int r = mapfs_fs_lookup(populate->fs, parent, name, strlen(name), ret_attr);

    if (r == 0)
        mapfs_fs_forget(populate->fs, ret_attr->ino, 1);
    return r;
}

static int populate_create(Populate *populate, uint64_t parent, const char *name, const MapfsNewInode *new_inode,
                           uint64_t *ret_ino) {
    MapfsAttr attr;
    int r = mapfs_fs_create(populate->fs, &(MapfsName){parent, name, strlen(name)}, new_inode, &attr);

    if (r < 0)
        return r;
    mapfs_fs_forget(populate->fs, attr.ino, 1);
    *ret_ino = attr.ino;
    return 0;
}

/* The directory at a normalized path; what an archive does not list is made. A file there goes if `replace`. */
static int populate_directory(Populate *populate, const char *path, bool replace, uint64_t *ret_ino) {
    const MapfsNewInode new_inode = {.mode = S_IFDIR | 0755};
    g_autofree char *parent_path = NULL;
    const uint64_t *known;
    const char *slash;
    const char *name;
    uint64_t parent;
    MapfsAttr attr;
    int r;

    known = g_hash_table_lookup(populate->directories, path);
    if (known) {
        *ret_ino = *known;
        return 0;
    }
    slash = strrchr(path, '/');
    name = slash ? slash + 1 : path;
    parent_path = slash ? g_strndup(path, (gsize)(slash - path)) : g_strdup("");
    r = populate_directory(populate, parent_path, false, &parent); /* as deep as the path */
    if (r < 0)
        return r;
    r = populate_lookup(populate, parent, name, &attr);
    if (r == 0 && !S_ISDIR(attr.mode)) {
        r = replace ? mapfs_fs_unlink(populate->fs, parent, name, strlen(name)) : -ENOTDIR;
        if (r == 0)
            r = -ENOENT;
    }
    if (r == -ENOENT)
        r = populate_create(populate, parent, name, &new_inode, &attr.ino);
    if (r < 0)
        return r;
    g_hash_table_insert(populate->directories, g_strdup(path), ino_new(attr.ino));
    *ret_ino = attr.ino;
    return 0;
}

static int populate_data(Populate *populate, struct archive_entry *entry, uint64_t ino, const char *path) {
    const MapfsAttr attr = {.size = (uint64_t)archive_entry_size(entry)};
    MapfsAttr result;
    const void *data;
    la_int64_t offset;
    size_t len;
    int status;
    int r;

    while ((status = archive_read_data_block(populate->archive, &data, &len, &offset)) == ARCHIVE_OK) {
        if (len == 0)
            continue;
        r = mapfs_fs_write(populate->fs, ino, (uint64_t)offset, data, len);
        if (r < 0)
            return populate_fail(populate, r, "%s", path);
    }
    if (status != ARCHIVE_EOF) /* a warning, too, says that the data is not what was archived */
        return populate_fail_archive(populate, path);
    /* A zip archive that is read as a stream tells the size after the data. */
    if (!archive_entry_size_is_set(entry))
        return 0;
    /* A hole at the end. */
    r = mapfs_fs_setattr(populate->fs, ino, MAPFS_SET_SIZE, &attr, &result);
    return r < 0 ? populate_fail(populate, r, "%s", path) : 0;
}

static int populate_acls(Populate *populate, struct archive_entry *entry, LateAttr *late, const char *path) {
    g_autoptr(GBytes) access = NULL;
    g_autofree char *problem = NULL;
    int r;

    r = mapfs_populate_acl(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, &access, &problem);
    if (r == 0 && !late->default_acl)
        r = mapfs_populate_acl(entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, &late->default_acl, &problem);
    if (r < 0 && !populate->message)
        populate->message = g_strdup_printf("%s: %s", path, problem);
    if (r == 0 && access) {
        size_t len;
        const void *bytes = g_bytes_get_data(access, &len);
        r = mapfs_fs_setxattr(populate->fs, late->ino, MAPFS_POPULATE_ACL_ACCESS, (MapfsBytes){bytes, len}, 0);
        if (r < 0)
            return populate_fail(populate, r, "%s: access control list", path);
    }
    return r;
}

static int populate_late(Populate *populate, const LateAttr *late) {
    const uint64_t *known = g_hash_table_lookup(populate->directories, late->path);
    MapfsAttr result;
    int r = 0;

    if (!known || *known != late->ino)
        return 0; /* a later entry has replaced it */
    if (late->default_acl) {
        size_t len;
        const void *bytes = g_bytes_get_data(late->default_acl, &len);
        r = mapfs_fs_setxattr(populate->fs, late->ino, MAPFS_POPULATE_ACL_DEFAULT, (MapfsBytes){bytes, len}, 0);
    }
    if (r == 0)
        r = mapfs_fs_setattr(populate->fs, late->ino, late->mask, &late->attr, &result);
    return r < 0 ? populate_fail(populate, r, "%s: times or default access control list", late->path) : 0;
}

static int populate_xattrs(Populate *populate, struct archive_entry *entry, LateAttr *late, const char *path) {
    const char *name;
    const void *value;
    size_t len;

    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK) {
        /* tar --xattrs-include=* has lists among the attributes. */
        if (strcmp(name, MAPFS_POPULATE_ACL_DEFAULT) == 0) {
            late->default_acl = g_bytes_new(value, len);
            continue;
        }
        int r = mapfs_fs_setxattr(populate->fs, late->ino, name, (MapfsBytes){value, len}, 0);
        if (r < 0)
            return populate_fail(populate, r, "%s: extended attribute %s", path, name);
    }
    return 0;
}

/* Owner first: a change of it takes suid away. */
static int populate_attr(Populate *populate, struct archive_entry *entry, uint64_t ino, const char *path) {
    LateAttr late = {
        .path = g_strdup(path),
        .ino = ino,
        .mask = MAPFS_SET_ATIME | MAPFS_SET_MTIME,
        .attr =
            {
                .uid = (uint32_t)archive_entry_uid(entry),
                .gid = (uint32_t)archive_entry_gid(entry),
                .mode = archive_entry_perm(entry),
                .mtime = {.tv_sec = archive_entry_mtime(entry), .tv_nsec = archive_entry_mtime_nsec(entry)},
            },
    };
    MapfsAttr result;
    int r;

    late.attr.atime = late.attr.mtime; /* the source's own is that of this very reading */
    r = mapfs_fs_setattr(populate->fs, ino, MAPFS_SET_UID | MAPFS_SET_GID, &late.attr, &result);
    if (r == 0)
        r = populate_xattrs(populate, entry, &late, path);
    if (r == 0 && archive_entry_filetype(entry) != AE_IFLNK)
        r = mapfs_fs_setattr(populate->fs, ino, MAPFS_SET_MODE, &late.attr, &result);
    /* The mode of an entry with a list has the owning group's bits, and not the mask's. */
    if (r == 0 && archive_entry_filetype(entry) != AE_IFLNK)
        r = populate_acls(populate, entry, &late, path);
    if (r == 0 && archive_entry_filetype(entry) == AE_IFDIR)
        g_array_append_val(populate->late, late);
    else
        late_clear(&late);
    if (r == 0 && archive_entry_filetype(entry) != AE_IFDIR)
        r = mapfs_fs_setattr(populate->fs, ino, late.mask, &late.attr, &result);
    return r < 0 ? populate_fail(populate, r, "%s", path) : 0;
}

/* The inode that this entry is a further name of, or 0. */
static int populate_hard_link(Populate *populate, struct archive_entry *entry, const char *path, uint64_t *ret_ino) {
    const char *target = archive_entry_hardlink(entry);
    g_autofree char *target_path = NULL;
    MapfsAttr attr;
    uint64_t parent = MAPFS_INO_ROOT;
    int r = 0;

    *ret_ino = 0;
    if (populate->from_disk) {
        g_autofree char *key = g_strdup_printf("%" PRIu64 ":%" PRId64, (uint64_t)archive_entry_dev(entry),
                                               (int64_t)archive_entry_ino64(entry));
        const uint64_t *known = archive_entry_nlink(entry) > 1 ? g_hash_table_lookup(populate->hard_links, key) : NULL;
        *ret_ino = known ? *known : 0;
        return 0;
    }
    if (!target)
        return 0;
    target_path = path_normalize(target);
    if (!target_path)
        return populate_fail(populate, -EINVAL, "%s: linked to %s", path, target);
    char *name = strrchr(target_path, '/');
    if (name) {
        *name++ = '\0';
        r = populate_directory(populate, target_path, false, &parent);
    }
    if (r == 0)
        r = populate_lookup(populate, parent, name ? name : target_path, &attr);
    if (r < 0)
        return populate_fail(populate, r, "%s: linked to %s", path, target);
    *ret_ino = attr.ino;
    return 0;
}

static void populate_remember_link(Populate *populate, struct archive_entry *entry, uint64_t ino) {
    if (!populate->from_disk || archive_entry_nlink(entry) < 2)
        return;
    g_hash_table_insert(populate->hard_links,
                        g_strdup_printf("%" PRIu64 ":%" PRId64, (uint64_t)archive_entry_dev(entry),
                                        (int64_t)archive_entry_ino64(entry)),
                        ino_new(ino));
}

/* One more name, which is free, of an inode. */
static int populate_link(Populate *populate, uint64_t ino, const MapfsName *name, const char *path) {
    MapfsAttr attr;
    int r = mapfs_fs_link(populate->fs, ino, name, &attr);

    if (r < 0)
        return populate_fail(populate, r, "%s", path);
    mapfs_fs_forget(populate->fs, attr.ino, 1);
    return 0;
}

/* Archives of cpio's newer form have the data of a file with the last of its links, those of pax may have it with each. */
static int populate_link_data(Populate *populate, struct archive_entry *entry, uint64_t ino, const char *path) {
    int r;

    if (populate->from_disk || archive_entry_filetype(entry) != AE_IFREG || !archive_entry_size_is_set(entry) ||
        archive_entry_size(entry) == 0)
        return 0;
    r = populate_data(populate, entry, ino, path);
    return r < 0 ? r : populate_attr(populate, entry, ino, path);
}

/* What is not a directory, under a name that is free. */
static int populate_file(Populate *populate, struct archive_entry *entry, const MapfsName *name, const char *path) {
    const mode_t type = archive_entry_filetype(entry);
    const char *target = type == AE_IFLNK ? archive_entry_symlink(entry) : NULL;
    const MapfsNewInode new_inode = {
        .mode = type | (type == AE_IFLNK ? 0777 : 0600),
        .rdev_major = (uint32_t)archive_entry_rdevmajor(entry),
        .rdev_minor = (uint32_t)archive_entry_rdevminor(entry),
        .target = target,
        .target_len = target ? strlen(target) : 0,
    };
    uint64_t ino;
    int r;

    r = populate_create(populate, name->parent, name->name, &new_inode, &ino);
    if (r < 0)
        return populate_fail(populate, r, "%s", path);
    populate_remember_link(populate, entry, ino);
    if (type == AE_IFREG) {
        r = populate_data(populate, entry, ino, path);
        if (r < 0)
            return r;
    }
    return populate_attr(populate, entry, ino, path);
}

/* A later entry of an archive replaces an earlier one, as with tar: a directory only if it is empty. */
static int populate_replace(Populate *populate, const MapfsName *name, const MapfsAttr *attr, const char *path) {
    int r;

    if (!S_ISDIR(attr->mode)) {
        r = mapfs_fs_unlink(populate->fs, name->parent, name->name, name->name_len);
        return r < 0 ? populate_fail(populate, r, "%s", path) : 0;
    }
    r = mapfs_fs_rmdir(populate->fs, name->parent, name->name, name->name_len);
    if (r < 0)
        return populate_fail(populate, r, "%s: cannot take the place of the directory of an earlier entry", path);
    (void)g_hash_table_remove(populate->directories, path);
    return 0;
}

/* What is not a directory, or a hard link, under a name that may be taken. */
static int populate_name(Populate *populate, struct archive_entry *entry, const MapfsName *name, const char *path) {
    MapfsAttr present;
    uint64_t ino;
    int r;

    /* First of all, since it may lead to what is to be replaced. */
    r = populate_hard_link(populate, entry, path, &ino);
    if (r < 0)
        return r;
    if (populate_lookup(populate, name->parent, name->name, &present) < 0)
        present.ino = 0;
    if (present.ino != 0 && present.ino != ino) {
        r = populate_replace(populate, name, &present, path);
        if (r < 0)
            return r;
    }
    if (ino == 0)
        return populate_file(populate, entry, name, path);
    r = present.ino == ino ? 0 : populate_link(populate, ino, name, path);
    return r < 0 ? r : populate_link_data(populate, entry, ino, path);
}

/* The image in the directory that it is filled from; the node of a device may well be copied. */
static bool populate_is_image(const Populate *populate, struct archive_entry *entry) {
    return populate->from_disk && archive_entry_filetype(entry) == AE_IFREG &&
           archive_entry_dev(entry) == populate->image->st_dev &&
           (uint64_t)archive_entry_ino64(entry) == populate->image->st_ino;
}

static int populate_entry(Populate *populate, struct archive_entry *entry) {
    const char *given = archive_entry_pathname(entry);
    g_autofree char *path =
        given && strlen(given) >= populate->prefix_len ? path_normalize(given + populate->prefix_len) : NULL;
    MapfsName name = {.parent = MAPFS_INO_ROOT};
    uint64_t ino;
    int r;

    if (!path)
        return populate_fail(populate, -EINVAL, "%s: name outside of the tree", given ? given : "(no name)");
    if (populate_is_image(populate, entry)) {
        mapfs_progress_clear(&populate->progress);
        mapfs_complain(program, "%s: is the image itself, left out", path);
        return 0;
    }
    if (archive_entry_filetype(entry) == AE_IFDIR && !archive_entry_hardlink(entry)) {
        r = populate_directory(populate, path, true, &ino);
        return r < 0 ? populate_fail(populate, r, "%s", path) : populate_attr(populate, entry, ino, path);
    }
    name.name = path;
    char *slash = strrchr(path, '/');
    g_autofree char *full = g_strdup(path);
    if (slash) {
        *slash = '\0';
        name.name = slash + 1;
        r = populate_directory(populate, path, false, &name.parent);
        if (r < 0)
            return populate_fail(populate, r, "%s", full);
    }
    name.name_len = strlen(name.name);
    return populate_name(populate, entry, &name, full);
}

static int populate_entries(Populate *populate) {
    struct archive_entry *entry = archive_entry_new();
    int status;
    int r = 0;

    while (r == 0) {
        status = archive_read_next_header2(populate->archive, entry);
        if (status == ARCHIVE_EOF)
            break;
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN) {
            r = populate_fail_archive(populate, NULL);
            break;
        }
        /* An archive warns of names that the locale cannot show; a directory of attributes that cannot be read, and would be lost. */
        if (status == ARCHIVE_WARN && populate->from_disk) {
            const char *path = archive_entry_pathname(entry) + populate->prefix_len;

            path += strspn(path, "/");
            r = populate_fail_archive(populate, *path ? path : NULL);
            break;
        }
        if (populate->from_disk)
            (void)archive_read_disk_descend(populate->archive); /* of a file it does nothing */
        r = populate_entry(populate, entry);
        populate->n_entries++;
        mapfs_progress_set(&populate->progress, "files copied", populate->n_entries, 0);
    }
    archive_entry_free(entry);
    /* In this order: the later of two entries of a directory counts. */
    for (guint i = 0; r == 0 && i < populate->late->len; i++)
        r = populate_late(populate, &g_array_index(populate->late, LateAttr, i));
    return r;
}

static int populate_open(Populate *populate) {
    int status;

    if (populate->from_disk) {
        populate->archive = archive_read_disk_new();
        (void)archive_read_disk_set_symlink_physical(populate->archive);
        (void)archive_read_disk_set_behavior(populate->archive, ARCHIVE_READDISK_NO_FFLAGS);
        status = archive_read_disk_open(populate->archive, populate->source);
        populate->prefix_len = strlen(populate->source);
    } else {
        populate->archive = archive_read_new();
        (void)archive_read_support_filter_all(populate->archive);
        /* Not all that libarchive knows: it takes nearly every text for a list of files (mtree). */
        (void)archive_read_support_format_tar(populate->archive);
        (void)archive_read_support_format_cpio(populate->archive);
        (void)archive_read_support_format_zip(populate->archive);
        (void)archive_read_support_format_7zip(populate->archive);
        (void)archive_read_support_format_iso9660(populate->archive);
        status = archive_read_open_filename(populate->archive, populate->source, READ_BLOCK);
    }
    return status == ARCHIVE_OK ? 0 : populate_fail_archive(populate, NULL);
}

/* Of a directory that it can be read; of an archive that it begins as one. A pipe can be read only once. */
static int populate_try(Populate *populate, const struct stat *st) {
    struct archive_entry *entry;
    int status, r;

    if (!S_ISREG(st->st_mode)) {
        if (access(populate->source, S_ISDIR(st->st_mode) ? R_OK | X_OK : R_OK) == 0)
            return 0;
        r = -errno;
        return populate_fail(populate, r, "%s", populate->source);
    }
    r = populate_open(populate);
    if (r == 0) {
        status = archive_read_next_header(populate->archive, &entry);
        if (status != ARCHIVE_OK && status != ARCHIVE_WARN && status != ARCHIVE_EOF)
            r = populate_fail_archive(populate, NULL);
    }
    (void)archive_free(populate->archive);
    return r;
}

int mapfs_populate_check(const char *source, const struct stat *image, char **ret_message) {
    Populate populate = {.source = source};
    struct stat st;
    int r;

    if (stat(source, &st) < 0) {
        r = -errno;
        *ret_message = g_strdup_printf("%s: %s", source, strerror(-r));
        return r;
    }
    if (image && st.st_dev == image->st_dev && st.st_ino == image->st_ino) {
        *ret_message =
            g_strdup_printf("%s: is the image itself, which cannot be filled from what it is about to lose", source);
        return -EINVAL;
    }
    r = populate_try(&populate, &st);
    *ret_message = populate.message;
    return r;
}

int mapfs_populate(MapfsFs *fs, const char *source, const struct stat *image, char **ret_message) {
    Populate populate = {.fs = fs, .source = source, .image = image};
    struct stat st;
    int r;

    if (stat(source, &st) < 0) {
        r = -errno;
        *ret_message = g_strdup_printf("%s: %s", source, strerror(-r));
        return r;
    }
    populate.from_disk = S_ISDIR(st.st_mode);
    populate.directories = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_hash_table_insert(populate.directories, g_strdup(""), ino_new(MAPFS_INO_ROOT));
    populate.hard_links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    populate.late = g_array_new(FALSE, FALSE, sizeof(LateAttr));
    g_array_set_clear_func(populate.late, late_clear);
    mapfs_progress_init(&populate.progress);
    r = populate_open(&populate);
    if (r == 0)
        r = populate_entries(&populate);
    mapfs_progress_clear(&populate.progress);
    (void)archive_free(populate.archive);
    g_array_unref(populate.late);
    g_hash_table_unref(populate.hard_links);
    g_hash_table_unref(populate.directories);
    if (r < 0)
        *ret_message = populate.message;
    else
        g_free(populate.message);
    return r;
}
