/* SPDX-License-Identifier: MIT */

/* Directory entries. */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "repair/repair-private.h"

/* An entry as it is stored, with its name. */
typedef union {
    struct mapfs_disk_dirent header;
    uint8_t bytes[sizeof(struct mapfs_disk_dirent) + MAPFS_NAME_LEN_MAX];
} Entry;

static MapfsKey entry_key(uint64_t directory, uint64_t offset) {
    return (MapfsKey){.object = directory, .kind = MAPFS_KIND_DIRENT, .offset = offset};
}

static bool entry_is(const Entry *entry, int len, const char *name, unsigned name_len) {
    return len == (int)(sizeof(entry->header) + name_len) && entry->header.name_len == name_len &&
           memcmp(entry->header.name, name, name_len) == 0;
}

/* True when a slot below `offset`'s, with the same hash, has the name. */
static bool name_is_taken(const MapfsRepair *repair, uint64_t directory, uint64_t offset, const Entry *entry) {
    unsigned slot = (unsigned)offset % MAPFS_DIRENT_SLOTS;
    Entry other;

    while (slot-- > 0) {
        uint64_t other_offset = (offset & ~(uint64_t)(MAPFS_DIRENT_SLOTS - 1)) | slot;
        int len = mapfs_repair_get(repair, entry_key(directory, other_offset), &other, sizeof(other));

        if (entry_is(&other, len, entry->header.name, entry->header.name_len))
            return true;
    }
    return false;
}

static int entry_drop(MapfsRepair *repair, const RepairReader *reader, const Entry *entry, const char *why) {
    mapfs_repair_say(repair, MAPFS_REPAIR_LOST, reader->key.object,
                     "directory %" PRIu64 ": removed the entry \"%.*s\" of inode %" PRIu64 ": %s", reader->key.object,
                     entry->header.name_len, entry->header.name, mapfs_le64_load(entry->header.ino), why);
    return mapfs_repair_remove(repair, reader->key);
}

/* The entry is at the wrong hash: no lookup would find it. It is stored anew when all others are settled. */
static int entry_move(MapfsRepair *repair, const RepairReader *reader, const Entry *entry) {
    RepairName name = {
        .directory = reader->key.object, .ino = mapfs_le64_load(entry->header.ino), .name_len = entry->header.name_len};
    int r;

    memcpy(name.name, entry->header.name, name.name_len);
    r = mapfs_vector_push(&repair->names, &name, sizeof(name));
    return r < 0 ? r : mapfs_repair_remove(repair, reader->key);
}

/* Why an entry cannot stay, or NULL. */
static const char *entry_fault(const MapfsRepair *repair, const RepairReader *reader, const Entry *entry,
                               const RepairInode *target) {
    if (!target || target->is_dead)
        return "it does not exist";
    if (name_is_taken(repair, reader->key.object, reader->key.offset, entry))
        return "the name was there twice";
    if (target->type != DT_DIR)
        return NULL;
    if (target->ino == MAPFS_INO_ROOT || target->ino == reader->key.object)
        return "a directory cannot lie in itself";
    return target->named_in != 0 ? "a directory has one name only" : NULL;
}

static void name_count(RepairInode *directory, RepairInode *target) {
    directory->n_entries++;
    target->n_names++;
    if (target->type != DT_DIR)
        return;
    directory->n_subdirectories++;
    target->named_in = directory->ino;
}

int mapfs_repair_fix_dirent(MapfsRepair *repair, RepairCurrent *current, const RepairReader *reader) {
    RepairInode *target;
    const char *fault;
    Entry entry = {.bytes = {0}};

    memcpy(&entry, reader->value, MAPFS_MIN(reader->value_len, sizeof(entry)));
    target = mapfs_repair_lookup_inode(repair, mapfs_le64_load(entry.header.ino));
    if (target && mapfs_dirent_hash(entry.header.name, entry.header.name_len, repair->hash_seed) !=
                      reader->key.offset >> MAPFS_DIRENT_SLOT_SHIFT)
        return entry_move(repair, reader, &entry);
    fault = entry_fault(repair, reader, &entry, target);
    if (fault)
        return entry_drop(repair, reader, &entry, fault);
    name_count(current->inode, target);
    if (entry.header.type == target->type)
        return 0;
    mapfs_repair_say(repair, MAPFS_REPAIR_FIXED, target->ino,
                     "directory %" PRIu64 ": the entry \"%.*s\" has type %u, was %u", reader->key.object,
                     entry.header.name_len, entry.header.name, target->type, entry.header.type);
    entry.header.type = target->type;
    return mapfs_repair_put(repair, reader->key, &entry, reader->value_len);
}

int mapfs_repair_add_name(MapfsRepair *repair, const RepairName *name) {
    RepairInode *directory = mapfs_repair_lookup_inode(repair, name->directory);
    RepairInode *target = mapfs_repair_lookup_inode(repair, name->ino);
    uint64_t hash = mapfs_dirent_hash(name->name, name->name_len, repair->hash_seed);
    uint64_t free_slot = MAPFS_DIRENT_SLOTS;
    Entry entry = {.bytes = {0}};
    int len, r;

    if (!directory || !target || directory->is_dead || target->is_dead ||
        (target->type == DT_DIR && (target->named_in != 0 || target->ino == MAPFS_INO_ROOT || target == directory)))
        return 0;
    for (uint64_t slot = MAPFS_DIRENT_SLOTS; slot-- > 0;) {
        len = mapfs_repair_get(repair, entry_key(name->directory, hash << MAPFS_DIRENT_SLOT_SHIFT | slot), &entry,
                               sizeof(entry));
        if (len < 0 && len != -ENOENT)
            return len;
        if (len < 0)
            free_slot = slot;
        else if (entry_is(&entry, len, name->name, name->name_len))
            return 0;
    }
    if (free_slot == MAPFS_DIRENT_SLOTS)
        return 0;
    entry = (Entry){.bytes = {0}};
    entry.header.ino = mapfs_le64_store(name->ino);
    entry.header.type = target->type;
    entry.header.name_len = name->name_len;
    memcpy(entry.header.name, name->name, name->name_len);
    r = mapfs_repair_put(repair, entry_key(name->directory, hash << MAPFS_DIRENT_SLOT_SHIFT | free_slot), &entry,
                         sizeof(entry.header) + name->name_len);
    if (r < 0)
        return r;
    name_count(directory, target);
    return 1;
}

int mapfs_repair_unname(MapfsRepair *repair, uint64_t directory, uint64_t ino) {
    RepairReader reader = {.next = entry_key(directory, 0)};
    int r;

    while ((r = mapfs_repair_read(repair, &reader)) > 0) {
        struct mapfs_disk_dirent header;

        if (reader.key.object != directory || reader.key.kind != MAPFS_KIND_DIRENT)
            return 0;
        memcpy(&header, reader.value, sizeof(header));
        if (mapfs_le64_load(header.ino) == ino)
            return mapfs_repair_remove(repair, reader.key);
    }
    return r;
}

int mapfs_repair_find_name(const MapfsRepair *repair, uint64_t directory, const char *name, uint64_t *ret_ino) {
    size_t name_len = strlen(name);
    uint64_t hash = mapfs_dirent_hash(name, name_len, repair->hash_seed);

    *ret_ino = 0;
    for (uint64_t slot = 0; slot < MAPFS_DIRENT_SLOTS; slot++) {
        Entry entry;
        int len = mapfs_repair_get(repair, entry_key(directory, hash << MAPFS_DIRENT_SLOT_SHIFT | slot), &entry,
                                   sizeof(entry));

        if (len < 0 && len != -ENOENT)
            return len;
        if (len > 0 && entry_is(&entry, len, name, (unsigned)name_len)) {
            *ret_ino = mapfs_le64_load(entry.header.ino);
            return 0;
        }
    }
    return 0;
}
