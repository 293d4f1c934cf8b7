/* SPDX-License-Identifier: MIT */
#include "walk.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "format/items.h"

/* Files up to this size are read whole; of longer ones what is mapped, and a page on either side. */
#define WHOLE_LEN (UINT64_C(1) << 20)
#define LIST_LEN 65536u

typedef struct {
    uint64_t ino;
    uint8_t type, name_len;
    char name[256];
} WalkEntry;

typedef struct {
    MapfsFs *fs;
    Model *into;
    uint64_t sum;
    GArray *dirs;        /* uint64_t: to be read */
    GArray *entries;     /* WalkEntry: of the directory being read */
    GHashTable *counted; /* inodes with several names that were added */
    GString *error;
    MapfsRead read;
    char list[LIST_LEN];
    uint8_t value[MAPFS_XATTR_VALUE_MAX];
} Walk;

static int walk_failed(Walk *walk, uint64_t ino, const char *what, int error) {
    g_string_append_printf(walk->error, "inode %" PRIu64 ": %s: %s (%s)", ino, what, strerror(-error),
                           mapfs_damage_last());
    return error;
}

/* --- content --- */

/* Pieces of a file, put together to pages. */
typedef struct {
    uint64_t index;
    size_t fill;
    uint64_t sum;
    ModelInode *into;
    uint8_t page[MODEL_PAGE];
} Pages;

static void pages_add(Pages *pages, const uint8_t *page) {
    pages->sum += model_hash_page(pages->index, page);
    if (pages->into)
        model_page_put(pages->into, pages->index, page);
    pages->index++;
}

static void pages_feed(Pages *pages, const uint8_t *bytes, size_t len) {
    while (len > 0) {
        size_t n = MAPFS_MIN(len, MODEL_PAGE - pages->fill);

        if (n == MODEL_PAGE) {
            pages_add(pages, bytes);
        } else {
            memcpy(pages->page + pages->fill, bytes, n);
            pages->fill = (pages->fill + n) % MODEL_PAGE;
            if (pages->fill == 0)
                pages_add(pages, pages->page);
        }
        bytes += n;
        len -= n;
    }
}

static void pages_flush(Pages *pages) {
    if (pages->fill == 0)
        return;
    memset(pages->page + pages->fill, 0, MODEL_PAGE - pages->fill);
    pages_add(pages, pages->page);
    pages->fill = 0;
}

static int read_piece(Walk *walk, uint64_t ino, uint64_t offset, size_t len, Pages *pages) {
    int r = mapfs_fs_read_begin(walk->fs, ino, offset, len, &walk->read);

    if (r < 0)
        return walk_failed(walk, ino, "read", r);
    for (unsigned i = 0; i < walk->read.n_iov; i++)
        pages_feed(pages, walk->read.iov[i].iov_base, walk->read.iov[i].iov_len);
    r = mapfs_fs_read_end(walk->fs, &walk->read);
    if (r < 0)
        return walk_failed(walk, ino, "end of read", r);
    return walk->read.len == len ? 0 : walk_failed(walk, ino, "short read", -EIO);
}

/* Reads [first, end) blocks, as far as the file goes. */
static int read_blocks(Walk *walk, const MapfsAttr *attr, uint64_t first, uint64_t end, Pages *pages) {
    uint64_t offset = first * MODEL_PAGE, stop = MAPFS_MIN(end * MODEL_PAGE, attr->size);

    pages->index = first;
    while (offset < stop) {
        size_t n = (size_t)MAPFS_MIN(stop - offset, MAPFS_IO_LEN_MAX);
        int r = read_piece(walk, attr->ino, offset, n, pages);

        if (r < 0)
            return r;
        offset += n;
    }
    pages_flush(pages);
    return 0;
}

/* The next extent from block `at` on: 1, 0, or -errno. */
static int next_extent(Walk *walk, uint64_t ino, uint64_t at, MapfsRun *ret_blocks) {
    MapfsStore *store = mapfs_fs_store(walk->fs);
    const MapfsKey key = {.object = ino, .kind = MAPFS_KIND_EXTENT, .offset = at};
    struct mapfs_disk_extent extent;
    MapfsItem item;
    int r;

    mapfs_store_read_lock(store);
    r = mapfs_tree_lookup_ge(mapfs_store_tree(store), key, &item);
    if (r > 0 && (item.key.object != ino || item.key.kind != MAPFS_KIND_EXTENT || item.value_len != sizeof(extent)))
        r = 0;
    if (r > 0) {
        memcpy(&extent, item.value, sizeof(extent));
        *ret_blocks = (MapfsRun){{item.key.offset}, mapfs_le32_load(extent.n_blocks)};
    }
    mapfs_store_read_unlock(store);
    return r;
}

static int read_long_file(Walk *walk, const MapfsAttr *attr, Pages *pages) {
    uint64_t done = 0; /* blocks before are read */
    MapfsRun blocks = {{0}, 0};
    int r;

    while ((r = next_extent(walk, attr->ino, blocks.start.n + blocks.n_blocks, &blocks)) > 0) {
        uint64_t first = MAPFS_MAX(done, blocks.start.n > 0 ? blocks.start.n - 1 : 0);

        done = blocks.start.n + blocks.n_blocks + 1;
        r = read_blocks(walk, attr, first, done, pages);
        if (r < 0)
            return r;
    }
    return r;
}

static int read_content(Walk *walk, const MapfsAttr *attr, ModelInode *into, uint64_t *ret_sum) {
    Pages pages = {.into = into};
    int r;

    if (attr->size <= WHOLE_LEN)
        r = read_blocks(walk, attr, 0, WHOLE_LEN / MODEL_PAGE, &pages);
    else
        r = read_long_file(walk, attr, &pages);
    *ret_sum = pages.sum;
    return r;
}

/* --- inodes --- */

static int read_xattrs(Walk *walk, uint64_t ino, ModelInode *into, uint64_t *ret_sum) {
    int len = mapfs_fs_listxattr(walk->fs, ino, walk->list, LIST_LEN);

    if (len < 0)
        return walk_failed(walk, ino, "list of extended attributes", len);
    *ret_sum = 0;
    for (const char *name = walk->list; name < walk->list + len; name += strlen(name) + 1) {
        int n = mapfs_fs_getxattr(walk->fs, ino, name, walk->value, sizeof(walk->value));

        if (n < 0)
            return walk_failed(walk, ino, name, n);
        *ret_sum += model_hash_xattr(name, walk->value, (size_t)n);
        if (into)
            model_xattr_set(into, name, walk->value, (size_t)n);
    }
    return 0;
}

static int read_parts(Walk *walk, const MapfsAttr *attr, ModelInode *into) {
    char target[MAPFS_SYMLINK_LEN_MAX + 1];
    uint64_t content_sum = 0, xattr_sum;
    bool is_link = S_ISLNK(attr->mode);
    int r;

    r = read_xattrs(walk, attr->ino, into, &xattr_sum);
    if (r < 0)
        return r;
    if (is_link) {
        r = mapfs_fs_readlink(walk->fs, attr->ino, target);
        if (r < 0)
            return walk_failed(walk, attr->ino, "target", r);
    }
    if (S_ISREG(attr->mode)) {
        r = read_content(walk, attr, into, &content_sum);
        if (r < 0)
            return r;
    }
    walk->sum += model_hash_inode(attr, is_link ? target : NULL, content_sum, xattr_sum);
    if (into) {
        into->target = is_link ? g_strdup(target) : NULL;
        model_update(walk->into, into);
    }
    return 0;
}

static int add_inode(Walk *walk, uint64_t ino, uint8_t type) {
    ModelInode *into = NULL;
    MapfsAttr attr;
    int r = mapfs_fs_getattr(walk->fs, ino, &attr);

    if (r < 0)
        return walk_failed(walk, ino, "attributes", r);
    if (attr.ino != ino || mapfs_dirent_type_from_mode(attr.mode) != type)
        return walk_failed(walk, ino, "is not what its entry says", -EUCLEAN);
    if (S_ISDIR(attr.mode)) {
        g_array_append_val(walk->dirs, ino);
    } else if (attr.nlink > 1) {
        uint64_t *key = g_memdup2(&ino, sizeof(ino));

        if (!g_hash_table_add(walk->counted, key))
            return 0;
    }
    if (walk->into)
        into = model_inode_add(walk->into, &attr);
    return read_parts(walk, &attr, into);
}

/* --- names --- */

static int take_entry(void *user, const MapfsDirEntry *entry) {
    Walk *walk = user;
    WalkEntry taken = {.ino = entry->ino, .type = entry->type, .name_len = (uint8_t)entry->name_len};

    if (entry->name_len <= 2 && memcmp(entry->name, "..", entry->name_len) == 0)
        return 1;
    memcpy(taken.name, entry->name, taken.name_len);
    g_array_append_val(walk->entries, taken);
    return 1;
}

static int read_dir(Walk *walk, uint64_t dir) {
    int r;

    g_array_set_size(walk->entries, 0);
    r = mapfs_fs_readdir(walk->fs, dir, &(MapfsDirScan){0, false, take_entry, walk});
    if (r < 0)
        return walk_failed(walk, dir, "list", r);
    for (guint i = 0; i < walk->entries->len; i++) {
        const WalkEntry *entry = &g_array_index(walk->entries, WalkEntry, i);
        const MapfsName name = {dir, entry->name, entry->name_len};

        walk->sum += model_hash_entry(dir, entry->name, entry->name_len, entry->ino);
        if (walk->into)
            model_entry_add(walk->into, &name, entry->ino);
        r = add_inode(walk, entry->ino, entry->type);
        if (r < 0)
            return r;
    }
    return 0;
}

/* That a name is listed is one thing, that it is found another. */
static int find_entry(Walk *walk, uint64_t dir) {
    const WalkEntry *entry;
    MapfsAttr attr;
    int r;

    if (walk->entries->len == 0)
        return 0;
    entry = &g_array_index(walk->entries, WalkEntry, dir % walk->entries->len);
    r = mapfs_fs_lookup(walk->fs, dir, entry->name, entry->name_len, &attr);
    if (r < 0)
        return walk_failed(walk, dir, "lookup of a listed name", r);
    mapfs_fs_forget(walk->fs, attr.ino, 1);
    return attr.ino == entry->ino ? 0 : walk_failed(walk, dir, "lookup gives another inode than the list", -EUCLEAN);
}

static int walk_dirs(Walk *walk) {
    int r = add_inode(walk, MAPFS_INO_ROOT, mapfs_dirent_type_from_mode(S_IFDIR));

    for (guint i = 0; i < walk->dirs->len && r == 0; i++) {
        uint64_t dir = g_array_index(walk->dirs, uint64_t, i);

        /* In a damaged image directories may go round in a circle. */
        if (i > 100000)
            return walk_failed(walk, dir, "too many directories", -ELOOP);
        r = read_dir(walk, dir);
        if (r == 0)
            r = find_entry(walk, dir);
    }
    return r;
}

int walk_all(MapfsFs *fs, Model *into, uint64_t *ret_sum, GString *error) {
    g_autofree Walk *walk = g_new(Walk, 1);
    int r;

    walk->fs = fs;
    walk->into = into;
    walk->sum = 0;
    walk->error = error;
    walk->dirs = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    walk->entries = g_array_new(FALSE, FALSE, sizeof(WalkEntry));
    walk->counted = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    r = walk_dirs(walk);
    g_array_unref(walk->dirs);
    g_array_unref(walk->entries);
    g_hash_table_unref(walk->counted);
    if (r < 0)
        return r;
    *ret_sum = walk->sum;
    return 0;
}
