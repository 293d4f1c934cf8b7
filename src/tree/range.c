/* SPDX-License-Identifier: MIT */

/* How many blocks neighbouring changes can take. One change is charged for its whole way down; of many at neighbouring keys nearly all
 * ways are the same. */

#include <errno.h>

#include "tree/index-private.h"

/* Index nodes that a walk along one level keeps. Keys that lie in more nodes than that of one level are not neighbours. */
#define LEVEL_NODES_MAX 64u

typedef struct {
    MapfsNodeRef nodes[LEVEL_NODES_MAX];
    unsigned n_nodes;
} Level;

/* Adds the children of an index node that can hold keys of the range. */
static int level_add_children(const MapfsTree *tree, MapfsNodeRef ref, const MapfsKey keys[2], Level *below) {
    const void *node;
    unsigned n_items, first, last;
    int r = mapfs_node_open(tree, ref, &node, &n_items);

    if (r < 0)
        return r;
    first = mapfs_index_search(node, n_items, keys[0]);
    last = mapfs_index_search(node, n_items, keys[1]);
    for (unsigned i = first; i <= last; i++) {
        if (below->n_nodes == LEVEL_NODES_MAX)
            return mapfs_damage(ref.address.n, "tree node", "neighbouring keys lie in more than %u nodes",
                                LEVEL_NODES_MAX);
        below->nodes[below->n_nodes++] = mapfs_index_child(node, i, ref.level - 1u);
    }
    return 0;
}

int mapfs_tree_range_blocks_max(const MapfsTree *tree, MapfsKey first, MapfsKey last, unsigned n_puts,
                                unsigned *ret_n_blocks) {
    const MapfsKey keys[2] = {first, last};
    unsigned n_index = 0;
    Level levels[2];
    Level *level = &levels[0], *below = &levels[1];

    if (n_puts > MAPFS_TREE_PUTS_MAX)
        return -EINVAL;
    if (tree->root.level >= MAPFS_TREE_LEVELS_MAX)
        return mapfs_damage(tree->root.address.n, "tree root", "level is %u, at most %u expected", tree->root.level,
                            MAPFS_TREE_LEVELS_MAX - 1);
    level->nodes[0] = tree->root;
    level->n_nodes = 1;
    for (unsigned at = tree->root.level; at > 0; at--) {
        Level *swap = level;

        n_index += level->n_nodes;
        below->n_nodes = 0;
        for (unsigned i = 0; i < level->n_nodes; i++) {
            int r = level_add_children(tree, level->nodes[i], keys, below);

            if (r < 0)
                return r;
        }
        level = below;
        below = swap;
    }
    /* Each node is copied once. Each put splits at most one leaf. An index node is split at most twice: the keys rise, and the first split
     * leaves room for half a node of pointers where the next ones go, unless it is full up to there; then the second leaves a
     * nearly empty node. And the root may get another one above it. */
    *ret_n_blocks = n_index + level->n_nodes + (n_puts > 0 ? n_puts + 2 * n_index + 1 : 0);
    return 0;
}
