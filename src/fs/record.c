/* SPDX-License-Identifier: MIT */

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "fs/apply-private.h"
#include "fs/data-private.h"

typedef int (*ApplyFunction)(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record);

static const ApplyFunction apply_functions[] = {
    [MAPFS_RECORD_CREATE] = mapfs_apply_create,     [MAPFS_RECORD_LINK] = mapfs_apply_link,
    [MAPFS_RECORD_UNLINK] = mapfs_apply_unlink,     [MAPFS_RECORD_RENAME] = mapfs_apply_rename,
    [MAPFS_RECORD_SETATTR] = mapfs_apply_setattr,   [MAPFS_RECORD_XATTR] = mapfs_apply_xattr,
    [MAPFS_RECORD_MAP] = mapfs_apply_map,           [MAPFS_RECORD_INLINE] = mapfs_apply_inline,
    [MAPFS_RECORD_TRUNCATE] = mapfs_apply_truncate, [MAPFS_RECORD_RECLAIM] = mapfs_apply_reclaim,
    [MAPFS_RECORD_ADOPT] = mapfs_apply_adopt,       [MAPFS_RECORD_CLONE] = mapfs_apply_clone,
    [MAPFS_RECORD_PUNCH] = mapfs_apply_punch,
};

int mapfs_fs_begin(MapfsFs *fs, MapfsTxnKind kind, unsigned n_changes, MapfsTxn *ret_txn) {
    return mapfs_fs_begin_more(fs, kind, n_changes, 0, ret_txn);
}

int mapfs_fs_begin_more(MapfsFs *fs, MapfsTxnKind kind, unsigned n_changes, unsigned n_blocks, MapfsTxn *ret_txn) {
    int r = mapfs_txn_begin_more(fs->store, kind, n_changes, n_blocks, ret_txn);

    for (unsigned i = 0; r == -ENOSPC && i < MAPFS_ROOM_TRIES; i++) {
        int room = mapfs_fs_make_room(fs);

        /* No room even for a step of reclaim: what earlier steps and others have freed is still to come back. */
        if (room == -ENOSPC)
            room = mapfs_store_make_room(fs->store);
        if (room < 0)
            return room;
        r = mapfs_txn_begin_more(fs->store, kind, n_changes, n_blocks, ret_txn);
        if (room == 0)
            break;
    }
    return r;
}

void mapfs_record_init(struct mapfs_disk_record *record, uint16_t type, size_t len_bytes, uint64_t time) {
    size_t padded = (len_bytes + 7) & ~(size_t)7;

    memset((uint8_t *)record + len_bytes, 0, padded - len_bytes);
    record->len_bytes = mapfs_le32_store((uint32_t)padded);
    record->type = mapfs_le16_store(type);
    record->reserved = mapfs_le16_store(0);
    record->lsn = mapfs_le64_store(0);
    record->time = mapfs_le64_store(time);
}

int mapfs_record_run(MapfsFs *fs, MapfsTxn *txn, struct mapfs_disk_record *record) {
    int r;

    if (fs->fixed_time != 0)
        record->time = mapfs_le64_store(fs->fixed_time);
    r = mapfs_record_apply(fs, txn, record);
    if (r < 0)
        return r;
    record->lsn = mapfs_le64_store(mapfs_txn_next_lsn(txn));
    return 0;
}

int mapfs_record_apply(MapfsFs *fs, MapfsTxn *txn, const struct mapfs_disk_record *record) {
    unsigned type = mapfs_le16_load(record->type);

    if (type >= MAPFS_N_ELEMENTS(apply_functions) || !apply_functions[type])
        return mapfs_damage(0, "record", "type %u is not known", type);
    return apply_functions[type](fs, txn, record);
}

int mapfs_apply_broken(MapfsFs *fs, int error) {
    (void)error; /* the image keeps its own first error; what was damaged is in mapfs_damage_last() */
    mapfs_image_fail(mapfs_store_image(fs->store), -EIO);
    return -EIO;
}
