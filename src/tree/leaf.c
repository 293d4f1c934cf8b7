/* SPDX-License-Identifier: MIT */
#include "tree/leaf-private.h"

#include <errno.h>

static unsigned slots_end(unsigned n_items) {
    return (unsigned)(sizeof(struct mapfs_disk_header) + n_items * sizeof(struct mapfs_disk_slot));
}

static int leaf_damage(const void *leaf, unsigned index) {
    const struct mapfs_disk_header *header = leaf;
    int r = mapfs_damage(mapfs_le64_load(header->address), "tree node", "value of item %u lies outside of its place",
                         index);
    /* It always is negative; the compiler, which looks for unset variables behind it, cannot know. */
    return r < 0 ? r : -EUCLEAN;
}

bool mapfs_leaf_is_names(const void *leaf, unsigned n_items) {
    MapfsKey first, last;

    if (n_items == 0)
        return false;
    first = mapfs_leaf_key(leaf, 0);
    last = mapfs_leaf_key(leaf, n_items - 1);
    return first.object == last.object && first.kind == MAPFS_KIND_DIRENT && last.kind == MAPFS_KIND_DIRENT;
}

unsigned mapfs_leaf_search(const void *leaf, unsigned n_items, MapfsKey key, bool *ret_equal) {
    const struct mapfs_disk_slot *slots = ((const struct mapfs_disk_leaf *)leaf)->slots;
    unsigned low = 0, high = n_items;
    bool equal = false;

    while (low < high) {
        unsigned middle = (low + high) / 2;
        int order = mapfs_node_key_compare(slots[middle].object, slots[middle].kind, slots[middle].offset, key);
        if (order == 0) {
            low = middle;
            equal = true;
            break;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_equal = equal;
    return low;
}

int mapfs_leaf_item(const void *leaf, unsigned index, MapfsItem *ret_item) {
    const struct mapfs_disk_slot *slot = &((const struct mapfs_disk_leaf *)leaf)->slots[index];
    unsigned offset = mapfs_node_load16(&slot->value_offset), len = mapfs_node_load16(&slot->value_len);

    if (offset < sizeof(struct mapfs_disk_header) || offset > MAPFS_BLOCK_SIZE || len > MAPFS_BLOCK_SIZE - offset)
        return leaf_damage(leaf, index);
    *ret_item = (MapfsItem){mapfs_leaf_key(leaf, index), (const uint8_t *)leaf + offset, len};
    return 0;
}

int mapfs_leaf_values_start(const void *leaf, unsigned n_items, unsigned *ret_start) {
    const struct mapfs_disk_leaf *node = leaf;
    unsigned start = n_items ? mapfs_node_load16(&node->slots[n_items - 1].value_offset) : MAPFS_BLOCK_SIZE;

    if (start < slots_end(n_items) || start > MAPFS_BLOCK_SIZE)
        return leaf_damage(leaf, n_items - 1);
    *ret_start = start;
    return 0;
}

/* Where a value lies or would lie; all of it within the block. */
typedef struct {
    unsigned start; /* of all values: where the last one begins */
    unsigned end;   /* of this value: where the one before begins */
    unsigned len;   /* of this value, 0 for one that is to come */
} LeafPlace;

/* The place of the item at `index`, or of a new one there. */
static int leaf_place(const void *leaf, unsigned n_items, unsigned index, bool is_new, LeafPlace *ret_place) {
    const struct mapfs_disk_leaf *node = leaf;
    LeafPlace place = {.end = index ? mapfs_node_load16(&node->slots[index - 1].value_offset) : MAPFS_BLOCK_SIZE,
                       .len = is_new ? 0 : mapfs_node_load16(&node->slots[index].value_len)};
    int r = mapfs_leaf_values_start(leaf, n_items, &place.start);
    if (r < 0)
        return r;

    if (place.end < place.start || place.end > MAPFS_BLOCK_SIZE || place.len > place.end - place.start)
        return leaf_damage(leaf, index);
    *ret_place = place;
    return 0;
}

int mapfs_leaf_has_room(const void *leaf, unsigned n_items, const MapfsLeafChange *change) {
    const struct mapfs_disk_leaf *node = leaf;
    unsigned start, needed = mapfs_leaf_item_bytes(change->value_len), given = 0;
    int r = mapfs_leaf_values_start(leaf, n_items, &start);
    if (r < 0)
        return r;

    if (change->replaces)
        given = mapfs_leaf_item_bytes(mapfs_node_load16(&node->slots[change->index].value_len));
    return needed <= start - slots_end(n_items) + given;
}

static void value_store(void *target, const void *value, size_t value_len) {
    if (value_len == 0)
        return;
    if (value)
        memcpy(target, value, value_len);
    else
        memset(target, 0, value_len);
}

/* Moves the values behind that of `place` by `distance` bytes towards the slots, and tells their slots, which begin at `first`. */
static void leaf_shift(struct mapfs_disk_leaf *leaf, unsigned first, unsigned n_items, const LeafPlace *place,
                       int distance) {
    uint8_t *bytes = (uint8_t *)leaf;

    memmove(bytes + ((int)place->start - distance), bytes + place->start, place->end - place->len - place->start);
    for (unsigned i = first; i < n_items; i++) {
        int offset = mapfs_le16_load(leaf->slots[i].value_offset) - distance;
        leaf->slots[i].value_offset = mapfs_le16_store((uint16_t)offset);
    }
}

/* Puts an item into the slot at `index`, with its value ending at `value_end`. Returns where the value begins. */
static unsigned leaf_put(struct mapfs_disk_leaf *leaf, unsigned index, unsigned value_end, const MapfsItem *item) {
    unsigned start = value_end - (unsigned)item->value_len;

    leaf->slots[index] = (struct mapfs_disk_slot){
        .object = mapfs_le64_store(item->key.object),
        .offset = mapfs_le64_store(item->key.offset),
        .kind = item->key.kind,
        .value_offset = mapfs_le16_store((uint16_t)start),
        .value_len = mapfs_le16_store((uint16_t)item->value_len),
    };
    value_store((uint8_t *)leaf + start, item->value, item->value_len);
    return start;
}

int mapfs_leaf_store(void *leaf, unsigned n_items, const MapfsLeafChange *change) {
    struct mapfs_disk_leaf *node = leaf;
    unsigned index = change->index, len = (unsigned)change->value_len;
    unsigned needed = change->replaces ? len : mapfs_leaf_item_bytes(len);
    LeafPlace place;
    int r = leaf_place(leaf, n_items, index, !change->replaces, &place);
    if (r < 0)
        return r;
    if (place.start - slots_end(n_items) + place.len < needed)
        return leaf_damage(leaf, index);

    if (len != place.len)
        leaf_shift(node, index, n_items, &place, (int)len - (int)place.len);
    if (!change->replaces) {
        memmove(&node->slots[index + 1], &node->slots[index], (n_items - index) * sizeof(node->slots[0]));
        n_items++;
    }
    (void)leaf_put(node, index, place.end, &(MapfsItem){change->key, change->value, len}); /* its start is known */
    mapfs_node_set_n_items(leaf, n_items);
    return 0;
}

int mapfs_leaf_remove(void *leaf, unsigned n_items, unsigned index) {
    struct mapfs_disk_leaf *node = leaf;
    LeafPlace place;
    int r = leaf_place(leaf, n_items, index, false, &place);
    if (r < 0)
        return r;

    leaf_shift(node, index + 1, n_items, &place, -(int)place.len);
    memmove(&node->slots[index], &node->slots[index + 1], (n_items - index - 1) * sizeof(node->slots[0]));
    mapfs_node_set_n_items(node, n_items - 1);
    return 0;
}

int mapfs_leaf_used_bytes(const void *leaf, unsigned n_items, unsigned *ret_used) {
    unsigned start;
    int r = mapfs_leaf_values_start(leaf, n_items, &start);
    if (r < 0)
        return r;

    *ret_used = slots_end(n_items) - (unsigned)sizeof(struct mapfs_disk_header) + MAPFS_BLOCK_SIZE - start;
    return 0;
}

/* Copies a leaf to memory of our own, where its bytes stand still, and checks that the values lie one below the other. What
 * passes can be taken apart without further tests. */
static int leaf_copy_checked(struct mapfs_disk_leaf *target, const void *source, unsigned n_items) {
    unsigned end = MAPFS_BLOCK_SIZE;

    mapfs_node_copy(target, source);
    for (unsigned i = 0; i < n_items; i++) {
        unsigned offset = mapfs_le16_load(target->slots[i].value_offset),
                 len = mapfs_le16_load(target->slots[i].value_len);
        if (len > MAPFS_VALUE_LEN_MAX || offset < slots_end(n_items) || offset + len != end)
            return leaf_damage(target, i);
        end = offset;
    }
    return 0;
}

/* An item of a checked leaf. */
static MapfsItem copy_item(const struct mapfs_disk_leaf *copy, unsigned index) {
    const struct mapfs_disk_slot *slot = &copy->slots[index];
    return (MapfsItem){mapfs_leaf_key(copy, index), (const uint8_t *)copy + mapfs_le16_load(slot->value_offset),
                       mapfs_le16_load(slot->value_len)};
}

/* The items of a checked leaf with a change made: item `index` of them. */
static MapfsItem changed_item(const MapfsLeafSplit *split, const MapfsLeafChange *change, unsigned index) {
    if (index == change->index)
        return (MapfsItem){change->key, change->value, change->value_len};
    return copy_item(&split->copy, index > change->index && !change->replaces ? index - 1 : index);
}

static unsigned changed_n_items(const MapfsLeafSplit *split, const MapfsLeafChange *change) {
    return split->n_items + !change->replaces;
}

/* True when the new item continues a rising row, so that what is before it should stay as full as it is. */
static bool change_rises(const MapfsLeafSplit *split, const MapfsLeafChange *change, unsigned left_bytes) {
    unsigned index = change->index;

    if (change->replaces || index == 0)
        return false;
    if (index == split->n_items)
        return true;
    MapfsKey left_key = mapfs_leaf_key(&split->copy, index - 1);
    return left_bytes >= MAPFS_NODE_SPACE / 2 &&
           mapfs_node_key_rises(left_key, change->key, mapfs_leaf_key(&split->copy, index));
}

/* Chooses how many items stay on the left, and returns the bytes of the larger half. That is the most even split, which fits
 * whenever one does; and one does, since no item takes more than half a leaf. In a rising row it is right after the new item, or
 * before it if it does not fit on the left. */
static unsigned split_choose(MapfsLeafSplit *split, const MapfsLeafChange *change) {
    unsigned n_changed = changed_n_items(split, change), total = 0, left = 0, best_bytes = MAPFS_BLOCK_SIZE;
    bool rises = false, is_chosen = false;

    for (unsigned i = 0; i < n_changed; i++)
        total += mapfs_leaf_item_bytes(changed_item(split, change, i).value_len);
    for (unsigned i = 1; i < n_changed; i++) {
        left += mapfs_leaf_item_bytes(changed_item(split, change, i - 1).value_len);
        unsigned larger = MAPFS_MAX(left, total - left);
        if (i == change->index)
            rises = change_rises(split, change, left);
        bool is_wanted = rises && i <= change->index + 1 && larger <= MAPFS_NODE_SPACE;
        if (is_wanted || (!is_chosen && larger < best_bytes)) {
            split->n_left = i;
            best_bytes = larger;
            is_chosen = is_wanted;
        }
    }
    return best_bytes;
}

int mapfs_leaf_split_plan(const void *leaf, unsigned n_items, const MapfsLeafChange *change,
                          MapfsLeafSplit *ret_split) {
    int r = leaf_copy_checked(&ret_split->copy, leaf, n_items);
    if (r < 0)
        return r;

    ret_split->n_items = n_items;
    /* With one item no split is possible; but one alone leaves room for another. */
    if (changed_n_items(ret_split, change) < 2 || split_choose(ret_split, change) > MAPFS_NODE_SPACE)
        return leaf_damage(leaf, n_items - 1);
    ret_split->separator = changed_item(ret_split, change, ret_split->n_left).key;
    return 0;
}

/* Fills a leaf with the changed items from `first` up to `end`. */
static void leaf_fill(struct mapfs_disk_leaf *leaf, const MapfsLeafSplit *split, const MapfsLeafChange *change,
                      unsigned first, unsigned end) {
    unsigned start = MAPFS_BLOCK_SIZE;

    for (unsigned i = first; i < end; i++) {
        MapfsItem item = changed_item(split, change, i);
        start = leaf_put(leaf, i - first, start, &item);
    }
    mapfs_node_set_n_items(leaf, end - first);
}

void mapfs_leaf_split(void *left, void *right, const MapfsLeafChange *change, const MapfsLeafSplit *split) {
    leaf_fill(right, split, change, split->n_left, changed_n_items(split, change));
    /* What goes in on the right leaves the items of the left where they are. */
    if (change->index >= split->n_left)
        mapfs_node_set_n_items(left, split->n_left);
    else
        leaf_fill(left, split, change, 0, split->n_left);
}

int mapfs_leaf_join(void *target, MapfsNodeItems left, MapfsNodeItems right) {
    struct mapfs_disk_leaf copies[2];
    const unsigned n_items[2] = {left.n_items, right.n_items};
    int r = leaf_copy_checked(&copies[0], left.node, left.n_items);
    if (r < 0)
        return r;
    r = leaf_copy_checked(&copies[1], right.node, right.n_items);
    if (r < 0)
        return r;
    if (left.n_items > 0 && right.n_items > 0 &&
        mapfs_key_compare(mapfs_leaf_key(&copies[0], left.n_items - 1), mapfs_leaf_key(&copies[1], 0)) >= 0)
        return mapfs_damage(mapfs_le64_load(copies[1].header.address), "tree node",
                            "first key is not above those of the node before");

    /* The caller has seen that they fit, before they were copied. */
    unsigned used = slots_end(left.n_items + right.n_items);
    for (unsigned side = 0; side < 2; side++)
        used += MAPFS_BLOCK_SIZE - (n_items[side] ? mapfs_le16_load(copies[side].slots[n_items[side] - 1].value_offset)
                                                  : MAPFS_BLOCK_SIZE);
    if (used > MAPFS_BLOCK_SIZE)
        return leaf_damage(right.node, 0);

    unsigned start = MAPFS_BLOCK_SIZE, n = 0;
    for (unsigned side = 0; side < 2; side++) {
        for (unsigned i = 0; i < n_items[side]; i++) {
            MapfsItem item = copy_item(&copies[side], i);
            start = leaf_put(target, n, start, &item);
            n++;
        }
    }
    mapfs_node_set_n_items(target, n);
    return 0;
}
