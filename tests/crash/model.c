/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <string.h>
#include <sys/stat.h>

#include <xxhash.h>

/* --- hashes --- */

static uint64_t not_zero(uint64_t hash) {
    return hash == 0 ? 1 : hash;
}

uint64_t model_hash_page(uint64_t index, const uint8_t *bytes) {
    uint64_t first;

    memcpy(&first, bytes, sizeof(first));
    if (first == 0 && memcmp(bytes, bytes + 8, MODEL_PAGE - 8) == 0)
        return 0;
    return not_zero(XXH3_64bits_withSeed(bytes, MODEL_PAGE, index + 1));
}

uint64_t model_hash_xattr(const char *name, const void *value, size_t len) {
    return not_zero(XXH3_64bits_withSeed(value, len, XXH3_64bits(name, strlen(name)) + len));
}

uint64_t model_entry_key(uint64_t parent, const char *name, size_t name_len) {
    return XXH3_64bits_withSeed(name, name_len, parent) | (UINT64_C(1) << 63);
}

uint64_t model_hash_entry(uint64_t parent, const char *name, size_t name_len, uint64_t ino) {
    return not_zero(XXH3_64bits_withSeed(&ino, sizeof(ino), model_entry_key(parent, name, name_len)));
}

static uint64_t nanoseconds(struct timespec time) {
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

uint64_t model_hash_inode(const MapfsAttr *attr, const char *target, uint64_t content_sum, uint64_t xattr_sum) {
    const uint64_t fields[] = {
        attr->ino,
        attr->size,
        attr->change,
        attr->flags,
        S_ISDIR(attr->mode) ? attr->parent : 0,
        nanoseconds(attr->atime),
        nanoseconds(attr->mtime),
        nanoseconds(attr->ctime),
        nanoseconds(attr->btime),
        (uint64_t)attr->mode << 32 | attr->nlink,
        (uint64_t)attr->uid << 32 | attr->gid,
        (uint64_t)attr->rdev_major << 32 | attr->rdev_minor,
        attr->project,
        target ? XXH3_64bits(target, strlen(target)) : 0,
        content_sum,
        xattr_sum,
    };

    return not_zero(XXH3_64bits(fields, sizeof(fields)));
}

/* --- the whole --- */

static guint ino_hash(gconstpointer key) {
    return (guint)((*(const uint64_t *)key * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static gboolean ino_equal(gconstpointer a, gconstpointer b) {
    return *(const uint64_t *)a == *(const uint64_t *)b;
}

static guint entry_hash(gconstpointer key) {
    const ModelEntry *entry = key;

    return (guint)model_entry_key(entry->parent, entry->name, entry->name_len);
}

static gboolean entry_equal(gconstpointer a, gconstpointer b) {
    const ModelEntry *x = a, *y = b;

    return x->parent == y->parent && x->name_len == y->name_len && memcmp(x->name, y->name, x->name_len) == 0;
}

static void xattr_free(gpointer data) {
    ModelXattr *xattr = data;

    g_free(xattr->name);
    g_free(xattr->value);
    g_free(xattr);
}

static void inode_free(gpointer data) {
    ModelInode *inode = data;

    g_hash_table_unref(inode->pages);
    g_ptr_array_unref(inode->xattrs);
    g_free(inode->target);
    g_free(inode);
}

Model *model_new(void) {
    Model *model = g_new0(Model, 1);

    model->inodes = g_ptr_array_new_with_free_func(inode_free);
    model->entries = g_ptr_array_new_with_free_func(g_free);
    model->by_ino = g_hash_table_new(ino_hash, ino_equal);
    model->by_name = g_hash_table_new(entry_hash, entry_equal);
    model->deltas = g_array_new(FALSE, FALSE, sizeof(ModelDelta));
    return model;
}

void model_free(Model *model) {
    if (!model)
        return;
    g_hash_table_unref(model->by_ino);
    g_hash_table_unref(model->by_name);
    g_ptr_array_unref(model->inodes);
    g_ptr_array_unref(model->entries);
    g_array_unref(model->deltas);
    g_free(model);
}

static void model_count(Model *model, uint64_t key, uint64_t before, uint64_t after) {
    ModelDelta delta = {key, before, after};

    if (before == after)
        return;
    model->sum += after - before;
    g_array_append_val(model->deltas, delta);
}

/* --- inodes --- */

ModelInode *model_inode(const Model *model, uint64_t ino) {
    return g_hash_table_lookup(model->by_ino, &ino);
}

ModelInode *model_inode_add(Model *model, const MapfsAttr *attr) {
    ModelInode *inode = g_new0(ModelInode, 1);

    inode->attr = *attr;
    inode->pages = g_hash_table_new_full(ino_hash, ino_equal, NULL, g_free);
    inode->xattrs = g_ptr_array_new_with_free_func(xattr_free);
    inode->index = model->inodes->len;
    g_ptr_array_add(model->inodes, inode);
    g_hash_table_insert(model->by_ino, &inode->attr.ino, inode);
    return inode;
}

void model_update(Model *model, ModelInode *inode) {
    uint64_t hash = 0;

    if (inode->attr.nlink > 0)
        hash = model_hash_inode(&inode->attr, inode->target, inode->content_sum, inode->xattr_sum);
    model_count(model, inode->attr.ino, inode->hash, hash);
    inode->hash = hash;
}

void model_inode_remove(Model *model, ModelInode *inode) {
    ModelInode *last = g_ptr_array_index(model->inodes, model->inodes->len - 1);

    model_count(model, inode->attr.ino, inode->hash, 0);
    g_hash_table_remove(model->by_ino, &inode->attr.ino);
    last->index = inode->index;
    (void)g_ptr_array_remove_index_fast(model->inodes, inode->index); /* frees it; what is returned is dead */
}

void model_unmount(Model *model) {
    for (guint i = model->inodes->len; i-- > 0;) {
        ModelInode *inode = g_ptr_array_index(model->inodes, i);

        inode->n_lookups = 0;
        if (inode->attr.nlink == 0)
            model_inode_remove(model, inode);
    }
}

/* --- names --- */

static ModelEntry entry_key(uint64_t parent, const char *name, size_t name_len) {
    ModelEntry entry = {.parent = parent, .name_len = name_len};

    memcpy(entry.name, name, name_len);
    return entry;
}

ModelEntry *model_entry(const Model *model, uint64_t parent, const char *name, size_t name_len) {
    ModelEntry key;

    if (name_len > 255)
        return NULL;
    key = entry_key(parent, name, name_len);
    return g_hash_table_lookup(model->by_name, &key);
}

void model_entry_set(Model *model, ModelEntry *entry, uint64_t ino) {
    uint64_t hash = ino == 0 ? 0 : model_hash_entry(entry->parent, entry->name, entry->name_len, ino);

    model_count(model, model_entry_key(entry->parent, entry->name, entry->name_len), entry->hash, hash);
    entry->ino = ino;
    entry->hash = hash;
}

void model_entry_add(Model *model, const MapfsName *name, uint64_t ino) {
    ModelEntry *entry = g_new(ModelEntry, 1);

    *entry = entry_key(name->parent, name->name, name->name_len);
    entry->index = model->entries->len;
    g_ptr_array_add(model->entries, entry);
    g_hash_table_add(model->by_name, entry);
    model_entry_set(model, entry, ino);
}

void model_entry_remove(Model *model, ModelEntry *entry) {
    ModelEntry *last = g_ptr_array_index(model->entries, model->entries->len - 1);

    model_entry_set(model, entry, 0);
    g_hash_table_remove(model->by_name, entry);
    last->index = entry->index;
    (void)g_ptr_array_remove_index_fast(model->entries, entry->index); /* frees it; what is returned is dead */
}

bool model_is_within(const Model *model, uint64_t dir, uint64_t ancestor) {
    while (dir != ancestor && dir != MAPFS_INO_ROOT)
        dir = model_inode(model, dir)->attr.parent;
    return dir == ancestor;
}

/* --- content --- */

void model_page_put(ModelInode *inode, uint64_t index, const uint8_t *bytes) {
    ModelPage *page = g_hash_table_lookup(inode->pages, &index);
    uint64_t hash = model_hash_page(index, bytes);

    inode->content_sum += hash - (page ? page->hash : 0);
    if (hash == 0) {
        g_hash_table_remove(inode->pages, &index);
        return;
    }
    if (!page) {
        page = g_new(ModelPage, 1);
        page->index = index;
        g_hash_table_insert(inode->pages, &page->index, page);
    }
    page->hash = hash;
    memmove(page->bytes, bytes, MODEL_PAGE);
}

static void page_load(const ModelInode *inode, uint64_t index, uint8_t *buffer) {
    const ModelPage *page = g_hash_table_lookup(inode->pages, &index);

    if (page)
        memcpy(buffer, page->bytes, MODEL_PAGE);
    else
        memset(buffer, 0, MODEL_PAGE);
}

void model_write(ModelInode *inode, uint64_t offset, const uint8_t *bytes, size_t len) {
    inode->attr.size = MAPFS_MAX(inode->attr.size, offset + len);
    while (len > 0) {
        size_t at = offset % MODEL_PAGE, n = MAPFS_MIN(len, MODEL_PAGE - at);
        uint8_t buffer[MODEL_PAGE];

        page_load(inode, offset / MODEL_PAGE, buffer);
        memcpy(buffer + at, bytes, n);
        model_page_put(inode, offset / MODEL_PAGE, buffer);
        offset += n;
        bytes += n;
        len -= n;
    }
}

void model_read(const ModelInode *inode, uint64_t offset, uint8_t *buffer, size_t len) {
    while (len > 0) {
        size_t at = offset % MODEL_PAGE, n = MAPFS_MIN(len, MODEL_PAGE - at);
        uint8_t page[MODEL_PAGE];

        page_load(inode, offset / MODEL_PAGE, page);
        memcpy(buffer, page + at, n);
        offset += n;
        buffer += n;
        len -= n;
    }
}

static void pages_drop(ModelInode *inode, uint64_t first) {
    GHashTableIter iter;
    gpointer value;

    g_hash_table_iter_init(&iter, inode->pages);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const ModelPage *page = value;

        if (page->index < first)
            continue;
        inode->content_sum -= page->hash;
        g_hash_table_iter_remove(&iter);
    }
}

void model_truncate(ModelInode *inode, uint64_t size) {
    size_t at = size % MODEL_PAGE;

    if (size < inode->attr.size)
        pages_drop(inode, (size + MODEL_PAGE - 1) / MODEL_PAGE);
    if (size < inode->attr.size && at > 0) {
        uint8_t buffer[MODEL_PAGE];

        page_load(inode, size / MODEL_PAGE, buffer);
        memset(buffer + at, 0, MODEL_PAGE - at);
        model_page_put(inode, size / MODEL_PAGE, buffer);
    }
    inode->attr.size = size;
}

/* --- extended attributes --- */

ModelXattr *model_xattr(const ModelInode *inode, const char *name) {
    for (guint i = 0; i < inode->xattrs->len; i++) {
        ModelXattr *xattr = g_ptr_array_index(inode->xattrs, i);

        if (strcmp(xattr->name, name) == 0)
            return xattr;
    }
    return NULL;
}

void model_xattr_remove(ModelInode *inode, ModelXattr *xattr) {
    inode->xattr_sum -= xattr->hash;
    (void)g_ptr_array_remove_fast(inode->xattrs, xattr); /* it is there */
}

void model_xattr_set(ModelInode *inode, const char *name, const void *value, size_t len) {
    ModelXattr *old = model_xattr(inode, name);
    ModelXattr *xattr;

    if (old)
        model_xattr_remove(inode, old);
    xattr = g_new(ModelXattr, 1);
    *xattr = (ModelXattr){g_strdup(name), g_memdup2(value, len), len, model_hash_xattr(name, value, len)};
    inode->xattr_sum += xattr->hash;
    g_ptr_array_add(inode->xattrs, xattr);
}
