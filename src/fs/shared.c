/* SPDX-License-Identifier: MIT */

/* Counts of shared blocks in the tree. */

#include "fs/shared-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/error.h"

static MapfsKey shared_key(uint64_t block) {
    return (MapfsKey){.object = MAPFS_OBJECT_SHARED, .kind = MAPFS_KIND_SHARED, .offset = block};
}

static uint64_t run_end(MapfsRun run) {
    return run.start.n + run.n_blocks;
}

static int shared_decode(const MapfsItem *item, MapfsShared *ret_shared) {
    struct mapfs_disk_shared value;
    MapfsShared shared;

    if (item->value_len != sizeof(value))
        return mapfs_damage(0, "shared extent", "at %" PRIu64 " has a length of %zu bytes", item->key.offset,
                            item->value_len);
    memcpy(&value, item->value, sizeof(value));
    shared = (MapfsShared){.run = {{item->key.offset}, mapfs_le64_load(value.n_blocks)},
                           .n_refs = mapfs_le32_load(value.n_refs)};
    if (shared.run.n_blocks == 0 || !mapfs_run_fits(shared.run, MAPFS_IMAGE_BLOCKS_MAX) || shared.n_refs < 2)
        return mapfs_damage(0, "shared extent", "at %" PRIu64 " has %" PRIu64 " blocks and %" PRIu32 " references",
                            item->key.offset, shared.run.n_blocks, shared.n_refs);
    *ret_shared = shared;
    return 0;
}

static bool item_is_shared(const MapfsItem *item) {
    return item->key.object == MAPFS_OBJECT_SHARED && item->key.kind == MAPFS_KIND_SHARED;
}

/* The last item that starts at or before `block`: 1, 0 or -errno. */
static int shared_before(MapfsTree *tree, uint64_t block, MapfsShared *ret_shared) {
    MapfsItem item;
    int r;

    r = mapfs_tree_lookup_le(tree, shared_key(block), &item);
    if (r <= 0)
        return r;
    if (!item_is_shared(&item))
        return 0;
    r = shared_decode(&item, ret_shared);
    return r < 0 ? r : 1;
}

/* The item that has `block`: 1, 0 or -errno. */
static int shared_find(MapfsTree *tree, uint64_t block, MapfsShared *ret_shared) {
    int r = shared_before(tree, block, ret_shared);

    return r > 0 && run_end(ret_shared->run) <= block ? 0 : r;
}

/* Where the first item at or after `block` starts, or `end` if that is before. */
static int shared_next(MapfsTree *tree, uint64_t block, uint64_t end, uint64_t *ret_start) {
    MapfsItem item;
    int r;

    r = mapfs_tree_lookup_ge(tree, shared_key(block), &item);
    if (r < 0)
        return r;
    *ret_start = r > 0 && item_is_shared(&item) ? MAPFS_MIN(item.key.offset, end) : end;
    return 0;
}

static int part_from_start(MapfsTree *tree, MapfsRun run, MapfsShared *ret_part) {
    uint64_t start = run.start.n, end = run_end(run);
    MapfsShared item;
    int r;

    r = shared_find(tree, start, &item);
    if (r < 0)
        return r;
    if (r > 0) {
        end = MAPFS_MIN(end, run_end(item.run));
    } else {
        item.n_refs = 1;
        r = shared_next(tree, start, end, &end);
        if (r < 0)
            return r;
    }
    *ret_part = (MapfsShared){.run = {{start}, end - start}, .n_refs = item.n_refs};
    return 0;
}

static int part_from_end(MapfsTree *tree, MapfsRun run, MapfsShared *ret_part) {
    uint64_t start = run.start.n, end = run_end(run);
    MapfsShared item;
    int r;

    r = shared_before(tree, end - 1, &item);
    if (r < 0)
        return r;
    if (r > 0 && run_end(item.run) >= end) {
        start = MAPFS_MAX(start, item.run.start.n);
    } else {
        item.n_refs = 1;
        start = r > 0 ? MAPFS_MAX(start, run_end(item.run)) : start;
    }
    *ret_part = (MapfsShared){.run = {{start}, end - start}, .n_refs = item.n_refs};
    return 0;
}

int mapfs_shared_part(MapfsTree *tree, MapfsRun run, bool from_end, MapfsShared *ret_part) {
    return from_end ? part_from_end(tree, run, ret_part) : part_from_start(tree, run, ret_part);
}

/* --- changes --- */

/* Items around a part, in their order: up to a neighbour, the rest of the item before the part, the part, the rest, a neighbour. */
typedef struct {
    MapfsShared items[5];
    unsigned n;
} SharedList;

static void list_add(SharedList *list, const MapfsShared *item) {
    list->items[list->n++] = *item;
}

/* Adds [start, end) with a count, unless it needs no item, and joins it with the one before if both have the same count. */
static void list_join(SharedList *list, uint64_t start, uint64_t end, uint32_t n_refs) {
    MapfsShared *last = list->n > 0 ? &list->items[list->n - 1] : NULL;

    if (end <= start || n_refs < 2)
        return;
    if (last && last->n_refs == n_refs && run_end(last->run) == start)
        last->run.n_blocks += end - start;
    else
        list_add(list, &(MapfsShared){.run = {{start}, end - start}, .n_refs = n_refs});
}

static const MapfsShared *list_lookup(const SharedList *list, uint64_t block) {
    for (unsigned i = 0; i < list->n; i++) {
        if (list->items[i].run.start.n == block)
            return &list->items[i];
    }
    return NULL;
}

static int list_replace(MapfsTree *tree, const SharedList *before, const SharedList *after) {
    for (unsigned i = 0; i < before->n; i++) {
        uint64_t block = before->items[i].run.start.n;
        int r = list_lookup(after, block) ? 0 : mapfs_tree_remove(tree, shared_key(block));

        if (r < 0)
            return r;
    }
    for (unsigned i = 0; i < after->n; i++) {
        const MapfsShared *item = &after->items[i], *old = list_lookup(before, item->run.start.n);
        struct mapfs_disk_shared value = {.n_blocks = mapfs_le64_store(item->run.n_blocks),
                                          .n_refs = mapfs_le32_store(item->n_refs)};
        int r;

        if (old && old->run.n_blocks == item->run.n_blocks && old->n_refs == item->n_refs)
            continue;
        r = mapfs_tree_put(tree, shared_key(item->run.start.n), &value, sizeof(value));
        if (r < 0)
            return r;
    }
    return 0;
}

/* A neighbour that begins or ends right at the part and will have the same count: 1, 0, or -errno. */
static int neighbour_before(MapfsTree *tree, uint64_t start, uint32_t n_refs, MapfsShared *ret_item) {
    int r = shared_find(tree, start - 1, ret_item);

    return r > 0 && (run_end(ret_item->run) != start || ret_item->n_refs != n_refs) ? 0 : r;
}
static int neighbour_after(MapfsTree *tree, uint64_t end, uint32_t n_refs, MapfsShared *ret_item) {
    int r = shared_find(tree, end, ret_item);

    return r > 0 && (ret_item->run.start.n != end || ret_item->n_refs != n_refs) ? 0 : r;
}

int mapfs_shared_set(MapfsTree *tree, const MapfsShared *part, uint32_t n_refs) {
    uint64_t start = part->run.start.n, end = run_end(part->run);
    SharedList before = {.n = 0}, after = {.n = 0};
    MapfsShared left, whole, right;
    int has_left, has_whole, has_right;

    has_left = neighbour_before(tree, start, n_refs, &left);
    has_whole = shared_find(tree, start, &whole);
    has_right = neighbour_after(tree, end, n_refs, &right);
    if (has_left < 0 || has_whole < 0 || has_right < 0)
        return has_left < 0 ? has_left : has_whole < 0 ? has_whole : has_right;
    if (has_left) {
        list_add(&before, &left);
        list_join(&after, left.run.start.n, start, n_refs);
    }
    if (has_whole) {
        list_add(&before, &whole);
        list_join(&after, whole.run.start.n, start, whole.n_refs);
    }
    list_join(&after, start, end, n_refs);
    if (has_whole)
        list_join(&after, end, run_end(whole.run), whole.n_refs);
    if (has_right) {
        list_add(&before, &right);
        list_join(&after, end, run_end(right.run), n_refs);
    }
    return list_replace(tree, &before, &after);
}

int mapfs_shared_add(MapfsTree *tree, MapfsRun run) {
    while (run.n_blocks > 0) {
        MapfsShared part;
        int r;

        r = part_from_start(tree, run, &part);
        if (r < 0)
            return r;
        if (part.n_refs == UINT32_MAX)
            return -EOVERFLOW;
        r = mapfs_shared_set(tree, &part, part.n_refs + 1);
        if (r < 0)
            return r;
        run.start.n += part.run.n_blocks;
        run.n_blocks -= part.run.n_blocks;
    }
    return 0;
}

int mapfs_shared_is_sole(MapfsTree *tree, MapfsRun run, bool *ret_sole) {
    MapfsShared part;
    int r;

    r = part_from_start(tree, run, &part);
    if (r == 0)
        *ret_sole = part.n_refs == 1 && part.run.n_blocks == run.n_blocks;
    return r;
}
