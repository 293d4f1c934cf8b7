/* SPDX-License-Identifier: MIT */

/* Reader epochs: each reader notes the running generation before it looks anything up. A block that it finds can only be freed in
 * that generation or a later one, and those are not given back while the note stands.
 *
 * A reader that has read the generation but not yet noted it may be missed by a release. Its lookup comes after, under the tree
 * lock, and finds only what is not freed by then. */

#include <sched.h>

#include "txn/store-private.h"

unsigned mapfs_store_reader_enter(MapfsStore *store) {
    unsigned slot = (unsigned)((uintptr_t)pthread_self() >> 12) % READER_SLOTS;

    for (unsigned i = 0;; i++) {
        uint64_t free_slot = 0;

        if (__atomic_compare_exchange_n(&store->readers[slot], &free_slot, STORE_LOAD(store->running), false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return slot;
        slot = (slot + 1) % READER_SLOTS;
        if (i % READER_SLOTS == READER_SLOTS - 1)
            sched_yield();
    }
}

void mapfs_store_reader_leave(MapfsStore *store, unsigned token) {
    STORE_SET(store->readers[token], 0);
}

uint64_t mapfs_store_oldest_reader(const MapfsStore *store) {
    uint64_t oldest = UINT64_MAX;

    for (unsigned i = 0; i < READER_SLOTS; i++) {
        uint64_t generation = STORE_LOAD(store->readers[i]);

        if (generation != 0)
            oldest = MAPFS_MIN(oldest, generation);
    }
    return oldest;
}
