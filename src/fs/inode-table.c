/* SPDX-License-Identifier: MIT */

#include "fs/inode-table.h"

#include <pthread.h>

typedef struct {
    uint64_t ino; /* the key, hashed in place */
    uint64_t n_lookups;
    unsigned n_lockers; /* hold or wait for the lock */
    bool orphan;        /* has lost its last name while it was looked up */
    pthread_mutex_t lock;
} InodeEntry;

struct MapfsInodeTable {
    pthread_mutex_t mutex;
    GHashTable *entries; /* uint64_t * -> InodeEntry */
};

static void entry_free(void *data) {
    InodeEntry *entry = data;

    pthread_mutex_destroy(&entry->lock);
    g_slice_free(InodeEntry, entry);
}

/* Inode numbers come one after the other: spread their low bits, or they fill GLib's table in runs. */
static guint ino_hash(const void *key) {
    return (guint)((*(const uint64_t *)key * UINT64_C(0x9e3779b97f4a7c15)) >> 32);
}

static gboolean ino_equal(const void *a, const void *b) {
    return *(const uint64_t *)a == *(const uint64_t *)b;
}

MapfsInodeTable *mapfs_inode_table_new(void) {
    MapfsInodeTable *table = g_new0(MapfsInodeTable, 1);

    pthread_mutex_init(&table->mutex, NULL);
    table->entries = g_hash_table_new_full(ino_hash, ino_equal, NULL, entry_free);
    return table;
}

void mapfs_inode_table_free(MapfsInodeTable *table) {
    if (!table)
        return;
    g_hash_table_unref(table->entries);
    pthread_mutex_destroy(&table->mutex);
    g_free(table);
}

static InodeEntry *table_obtain(MapfsInodeTable *table, uint64_t ino) {
    InodeEntry *entry = g_hash_table_lookup(table->entries, &ino);

    if (entry)
        return entry;
    entry = g_slice_new0(InodeEntry);
    entry->ino = ino;
    pthread_mutex_init(&entry->lock, NULL);
    g_hash_table_add(table->entries, entry);
    return entry;
}

static void table_drop_unused(MapfsInodeTable *table, InodeEntry *entry) {
    if (entry->n_lookups == 0 && entry->n_lockers == 0)
        g_hash_table_remove(table->entries, entry);
}

void mapfs_inode_table_count(MapfsInodeTable *table, uint64_t ino) {
    pthread_mutex_lock(&table->mutex);
    table_obtain(table, ino)->n_lookups++;
    pthread_mutex_unlock(&table->mutex);
}

bool mapfs_inode_table_forget(MapfsInodeTable *table, uint64_t ino, uint64_t n) {
    InodeEntry *entry;
    bool left = false;

    pthread_mutex_lock(&table->mutex);
    entry = g_hash_table_lookup(table->entries, &ino);
    if (entry && entry->n_lookups > 0 && n > 0) {
        entry->n_lookups -= MIN(n, entry->n_lookups);
        left = entry->n_lookups == 0 && entry->orphan;
        table_drop_unused(table, entry);
    }
    pthread_mutex_unlock(&table->mutex);
    return left;
}

bool mapfs_inode_table_set_orphan(MapfsInodeTable *table, uint64_t ino, bool orphan) {
    InodeEntry *entry;
    bool used;

    pthread_mutex_lock(&table->mutex);
    entry = g_hash_table_lookup(table->entries, &ino);
    used = entry && entry->n_lookups > 0;
    if (entry)
        entry->orphan = orphan;
    pthread_mutex_unlock(&table->mutex);
    return orphan && !used;
}

bool mapfs_inode_table_contains(MapfsInodeTable *table, uint64_t ino) {
    const InodeEntry *entry;
    bool used;

    pthread_mutex_lock(&table->mutex);
    entry = g_hash_table_lookup(table->entries, &ino);
    used = entry && entry->n_lookups > 0;
    pthread_mutex_unlock(&table->mutex);
    return used;
}

void mapfs_inode_table_lock(MapfsInodeTable *table, uint64_t ino) {
    InodeEntry *entry;

    pthread_mutex_lock(&table->mutex);
    entry = table_obtain(table, ino);
    entry->n_lockers++;
    pthread_mutex_unlock(&table->mutex);
    pthread_mutex_lock(&entry->lock);
}

void mapfs_inode_table_unlock(MapfsInodeTable *table, uint64_t ino) {
    InodeEntry *entry;

    pthread_mutex_lock(&table->mutex);
    entry = g_hash_table_lookup(table->entries, &ino);
    g_assert(entry && entry->n_lockers > 0);
    pthread_mutex_unlock(&entry->lock);
    entry->n_lockers--;
    table_drop_unused(table, entry);
    pthread_mutex_unlock(&table->mutex);
}
