/* SPDX-License-Identifier: MIT */

/* In which way two states differ, for the report of a failure. */

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "model.h"

static const ModelEntry *entry_of(const Model *model, uint64_t ino) {
    for (guint i = 0; i < model->entries->len; i++) {
        const ModelEntry *entry = g_ptr_array_index(model->entries, i);

        if (entry->ino == ino)
            return entry;
    }
    return NULL;
}

void model_path(const Model *model, uint64_t ino, GString *text) {
    g_autoptr(GString) path = g_string_new(NULL);
    uint64_t at = ino;

    for (unsigned depth = 0; at != MAPFS_INO_ROOT && depth < 100; depth++) {
        const ModelEntry *entry = entry_of(model, at);

        if (!entry) {
            g_string_prepend(path, "?");
            break;
        }
        g_string_prepend(path, entry->name_len > 40 ? "(long name)" : entry->name);
        g_string_prepend_c(path, '/');
        at = entry->parent;
    }
    g_string_append_printf(text, "inode %" PRIu64 " %s", ino, path->len > 0 ? path->str : "/");
}

static void describe(const ModelInode *inode, GString *text) {
    const MapfsAttr *attr = &inode->attr;

    g_string_append_printf(
        text,
        "mode %o nlink %" PRIu32 " uid %" PRIu32 " gid %" PRIu32 " size %" PRIu64 " change %" PRIu64 " parent %" PRIu64
        " mtime %lld.%09ld ctime %lld.%09ld atime %lld.%09ld pages %u content %016" PRIx64 " xattrs %u %016" PRIx64,
        attr->mode, attr->nlink, attr->uid, attr->gid, attr->size, attr->change, attr->parent,
        (long long)attr->mtime.tv_sec, attr->mtime.tv_nsec, (long long)attr->ctime.tv_sec, attr->ctime.tv_nsec,
        (long long)attr->atime.tv_sec, attr->atime.tv_nsec, g_hash_table_size(inode->pages), inode->content_sum,
        inode->xattrs->len, inode->xattr_sum);
}

static uint64_t first_difference(const ModelPage *a, const ModelPage *b) {
    size_t i = 0;

    while (i < MODEL_PAGE - 1 && (a ? a->bytes[i] : 0) == (b ? b->bytes[i] : 0))
        i++;
    return (a ? a->index : b->index) * MODEL_PAGE + i;
}

static void compare_pages(const ModelInode *expected, const ModelInode *found, GString *text) {
    uint64_t least = UINT64_MAX;
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, expected->pages);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const ModelPage *page = value, *other = g_hash_table_lookup(found->pages, &page->index);

        if (!other || other->hash != page->hash)
            least = MAPFS_MIN(least, first_difference(page, other));
    }
    g_hash_table_iter_init(&iter, found->pages);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const ModelPage *page = value;

        if (!g_hash_table_contains(expected->pages, &page->index))
            least = MAPFS_MIN(least, first_difference(page, NULL));
    }
    if (least != UINT64_MAX)
        g_string_append_printf(text, "\n      first different byte: %" PRIu64, least);
}

static void compare_inode(const ModelInode *expected, const ModelInode *found, GString *text) {
    g_string_append(text, "\n      expected ");
    if (expected)
        describe(expected, text);
    else
        g_string_append(text, "nothing");
    g_string_append(text, "\n      found    ");
    if (found)
        describe(found, text);
    else
        g_string_append(text, "nothing");
    if (expected && found && expected->content_sum != found->content_sum)
        compare_pages(expected, found, text);
    g_string_append_c(text, '\n');
}

static uint64_t visible_hash(const ModelInode *inode) {
    return inode ? inode->hash : 0;
}

static void compare_inodes(const Model *expected, const Model *found, unsigned *n_left, GString *text) {
    for (guint i = 0; i<expected->inodes->len && * n_left> 0; i++) {
        const ModelInode *inode = g_ptr_array_index(expected->inodes, i);
        const ModelInode *other = model_inode(found, inode->attr.ino);

        if (inode->hash == visible_hash(other))
            continue;
        g_string_append(text, "    ");
        model_path(expected, inode->attr.ino, text);
        compare_inode(inode->hash ? inode : NULL, other, text);
        (*n_left)--;
    }
    for (guint i = 0; i<found->inodes->len && * n_left> 0; i++) {
        const ModelInode *inode = g_ptr_array_index(found->inodes, i);

        if (model_inode(expected, inode->attr.ino))
            continue;
        g_string_append(text, "    ");
        model_path(found, inode->attr.ino, text);
        compare_inode(NULL, inode, text);
        (*n_left)--;
    }
}

/* Names of `a` that `b` has not, or for another inode. */
static void compare_names(const Model *a, const Model *b, const char *what, unsigned *n_left, GString *text) {
    for (guint i = 0; i<a->entries->len && * n_left> 0; i++) {
        const ModelEntry *entry = g_ptr_array_index(a->entries, i);
        const ModelEntry *other = model_entry(b, entry->parent, entry->name, entry->name_len);

        if (other && other->ino == entry->ino)
            continue;
        g_string_append_printf(text, "    name %.40s in directory %" PRIu64 " for inode %" PRIu64 " %s\n", entry->name,
                               entry->parent, entry->ino, what);
        (*n_left)--;
    }
}

void model_compare(const Model *expected, const Model *found, unsigned n_max, GString *text) {
    unsigned n_left = n_max;

    compare_inodes(expected, found, &n_left, text);
    compare_names(expected, found, "expected, not found", &n_left, text);
    compare_names(found, expected, "found, not expected", &n_left, text);
}

/* --- earlier states --- */

static GHashTable *hashes_new(const Model *model) {
    GHashTable *hashes = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);

    for (guint i = 0; i < model->inodes->len; i++) {
        const ModelInode *inode = g_ptr_array_index(model->inodes, i);

        if (inode->hash != 0)
            g_hash_table_insert(hashes, g_memdup2(&inode->attr.ino, 8), g_memdup2(&inode->hash, 8));
    }
    for (guint i = 0; i < model->entries->len; i++) {
        const ModelEntry *entry = g_ptr_array_index(model->entries, i);
        uint64_t key = model_entry_key(entry->parent, entry->name, entry->name_len);

        g_hash_table_insert(hashes, g_memdup2(&key, 8), g_memdup2(&entry->hash, 8));
    }
    return hashes;
}

static uint64_t hash_of(GHashTable *hashes, uint64_t key) {
    const uint64_t *hash = g_hash_table_lookup(hashes, &key);

    return hash ? *hash : 0;
}

/* How many keys of `a` are not the same in `b`. */
static guint count_missing(GHashTable *a, GHashTable *b) {
    GHashTableIter iter;
    gpointer key, value;
    guint n = 0;

    g_hash_table_iter_init(&iter, a);
    while (g_hash_table_iter_next(&iter, &key, &value))
        n += *(uint64_t *)value != hash_of(b, *(uint64_t *)key);
    return n;
}

/* Goes back to the first `n_deltas` changes. */
static void hashes_undo(GHashTable *hashes, const GArray *deltas, guint *n_done, guint n_deltas) {
    for (; *n_done > n_deltas; (*n_done)--) {
        const ModelDelta *delta = &g_array_index(deltas, ModelDelta, *n_done - 1);

        if (delta->before == 0)
            g_hash_table_remove(hashes, &delta->key);
        else
            g_hash_table_insert(hashes, g_memdup2(&delta->key, 8), g_memdup2(&delta->before, 8));
    }
}

static void list_differences(const Model *model, const Model *found, GHashTable *expected, GHashTable *there,
                             GString *text) {
    for (guint i = 0; i < found->inodes->len; i++) {
        const ModelInode *inode = g_ptr_array_index(found->inodes, i);
        const ModelInode *now = model_inode(model, inode->attr.ino);
        uint64_t wanted = hash_of(expected, inode->attr.ino);

        if (wanted == inode->hash)
            continue;
        g_string_append(text, "    ");
        model_path(found, inode->attr.ino, text);
        g_string_append(text, wanted == 0                  ? " should not be there"
                              : now && wanted == now->hash ? ""
                                                           : " (expected is of now)");
        compare_inode(now, inode, text);
    }
    for (guint i = 0; i < model->inodes->len; i++) {
        const ModelInode *inode = g_ptr_array_index(model->inodes, i);

        if (hash_of(expected, inode->attr.ino) == 0 || hash_of(there, inode->attr.ino) != 0)
            continue;
        g_string_append(text, "    ");
        model_path(model, inode->attr.ino, text);
        g_string_append(text, " is missing\n");
    }
    for (guint i = 0; i < found->entries->len; i++) {
        const ModelEntry *entry = g_ptr_array_index(found->entries, i);

        if (hash_of(expected, model_entry_key(entry->parent, entry->name, entry->name_len)) != entry->hash)
            g_string_append_printf(
                text, "    name %.40s in directory %" PRIu64 " for inode %" PRIu64 " should not be there\n",
                entry->name, entry->parent, entry->ino);
    }
}

guint model_nearest(const Model *model, const GArray *marks, guint first, const Model *found, GString *text) {
    g_autoptr(GHashTable) there = hashes_new(found), at = hashes_new(model), expected = hashes_new(model);
    guint nearest = marks->len - 1, least = G_MAXUINT, n_done = model->deltas->len;

    for (guint i = marks->len; i-- > first;) {
        guint n;

        hashes_undo(at, model->deltas, &n_done, g_array_index(marks, guint, i));
        n = count_missing(at, there) + count_missing(there, at);
        if (n >= least)
            continue;
        least = n;
        nearest = i;
    }
    n_done = model->deltas->len;
    hashes_undo(expected, model->deltas, &n_done, g_array_index(marks, guint, nearest));
    list_differences(model, found, expected, there, text);
    return nearest;
}
