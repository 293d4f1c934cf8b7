/* SPDX-License-Identifier: MIT */

#include "check/problem.h"

#include <stddef.h>

#include "base/macros.h"

#define PROBLEM(number_, name_, meaning_) \
    [number_] = {.number = (number_), .severity = MAPFS_SEVERITY_PROBLEM, .name = (name_), .meaning = (meaning_)}
#define INFO(number_, name_, meaning_) \
    [number_] = {.number = (number_), .severity = MAPFS_SEVERITY_INFO, .name = (name_), .meaning = (meaning_)}

static const MapfsProblemKind kinds[MAPFS_PROBLEM_KINDS_MAX] = {
    PROBLEM(MAPFS_PROBLEM_NO_SUPERBLOCK, "no-superblock", "neither slot holds a valid superblock of this version"),
    PROBLEM(MAPFS_PROBLEM_SUPERBLOCK_SLOT, "superblock-slot", "a superblock lies in the slot of the other parity"),
    PROBLEM(MAPFS_PROBLEM_IMAGE_SHORT, "image-short", "the image is shorter than its superblock says"),
    PROBLEM(MAPFS_PROBLEM_LOG_PLACE, "log-place", "the log region does not start right after the superblocks"),
    PROBLEM(MAPFS_PROBLEM_SUPERBLOCK_UNKNOWN, "superblock-unknown",
            "a slot holds a superblock of another version, or with features unknown to this one"),
    PROBLEM(MAPFS_PROBLEM_NODE_OUTSIDE, "node-outside", "a pointer leads out of the image"),
    PROBLEM(MAPFS_PROBLEM_NODE_CHECKSUM, "node-checksum", "a tree node's checksum does not match its bytes"),
    PROBLEM(MAPFS_PROBLEM_NODE_LAYOUT, "node-layout", "a tree node is not the one pointed to, or not well formed"),
    PROBLEM(MAPFS_PROBLEM_NODE_ORDER, "node-order", "a tree node holds keys outside the range of its place"),
    PROBLEM(MAPFS_PROBLEM_ITEM, "item", "an item by itself is not well formed"),
    PROBLEM(MAPFS_PROBLEM_ITEM_UNUSED, "item-unused", "an item of a kind that this version does not use"),
    PROBLEM(MAPFS_PROBLEM_ITEM_STRAY, "item-stray", "items of an inode that does not exist"),
    PROBLEM(MAPFS_PROBLEM_ITEM_MISPLACED, "item-misplaced", "an item that an inode of this type cannot have"),
    PROBLEM(MAPFS_PROBLEM_XATTR_HASH, "xattr-hash", "an extended attribute lies at another hash than its name's"),
    PROBLEM(MAPFS_PROBLEM_XATTR_CHUNKS, "xattr-chunks", "chunks of an extended attribute are missing or too many"),
    PROBLEM(MAPFS_PROBLEM_XATTR_COUNT, "xattr-count", "an inode counts its extended attributes wrongly"),
    PROBLEM(MAPFS_PROBLEM_XATTR_TWICE, "xattr-twice", "an inode has an extended attribute twice"),
    PROBLEM(MAPFS_PROBLEM_INLINE, "inline", "inline data do not fit the file's size, or stand beside extents"),
    PROBLEM(MAPFS_PROBLEM_SYMLINK, "symlink", "the target of a symlink is not as long as its size, or holds a NUL"),
    PROBLEM(MAPFS_PROBLEM_EXTENT_OVERLAP, "extent-overlap", "extents of a file overlap"),
    PROBLEM(MAPFS_PROBLEM_EXTENT_BEYOND, "extent-beyond", "a written extent lies past the end of the file"),
    PROBLEM(MAPFS_PROBLEM_EXTENT_YOUNG, "extent-young", "an extent was born after the superblock"),
    PROBLEM(MAPFS_PROBLEM_INODE_BLOCKS, "inode-blocks", "an inode counts its blocks wrongly"),
    PROBLEM(MAPFS_PROBLEM_INODE_NUMBER, "inode-number", "an inode's number has not been given out yet"),
    PROBLEM(MAPFS_PROBLEM_ACL, "acl", "an access control list is not valid, or the inode cannot have one"),
    PROBLEM(MAPFS_PROBLEM_ACL_MODE, "acl-mode", "an inode's mode is not what its access control list says"),
    PROBLEM(MAPFS_PROBLEM_DIRENT_HASH, "dirent-hash", "a directory entry lies at another hash than its name's"),
    PROBLEM(MAPFS_PROBLEM_DIRENT_TWICE, "dirent-twice", "a directory has a name twice"),
    PROBLEM(MAPFS_PROBLEM_DIRENT_TARGET, "dirent-target", "a directory entry names an inode that does not exist"),
    PROBLEM(MAPFS_PROBLEM_DIRENT_TYPE, "dirent-type", "a directory entry's type is not its inode's"),
    PROBLEM(MAPFS_PROBLEM_DIRECTORY_SIZE, "directory-size", "a directory counts its entries wrongly"),
    PROBLEM(MAPFS_PROBLEM_DIRECTORY_PARENT, "directory-parent", "a directory's parent is not the one that names it"),
    PROBLEM(MAPFS_PROBLEM_DIRECTORY_NAMES, "directory-names", "a directory has more than one name, or none"),
    PROBLEM(MAPFS_PROBLEM_DIRECTORY_UNREACHABLE, "directory-unreachable", "a directory is not reached from the root"),
    PROBLEM(MAPFS_PROBLEM_LINK_COUNT, "link-count", "an inode's link count is not what was counted"),
    PROBLEM(MAPFS_PROBLEM_ROOT, "root", "the root directory is missing or wrong"),
    PROBLEM(MAPFS_PROBLEM_UNLINKED, "unlinked", "an inode without names has no orphan item, or one with names has"),
    PROBLEM(MAPFS_PROBLEM_ORPHAN, "orphan", "an orphan item belongs to no inode that can be one"),
    PROBLEM(MAPFS_PROBLEM_BLOCK_OUTSIDE, "block-outside", "blocks past the end of the image are referred to"),
    PROBLEM(MAPFS_PROBLEM_BLOCK_TWICE, "block-twice", "blocks are in use twice"),
    PROBLEM(MAPFS_PROBLEM_BLOCK_UNMARKED, "block-unmarked", "blocks in use are marked as free"),
    PROBLEM(MAPFS_PROBLEM_BLOCK_LEAKED, "block-leaked", "blocks marked as in use belong to nothing"),
    PROBLEM(MAPFS_PROBLEM_BITMAP, "bitmap", "a bitmap is damaged"),
    PROBLEM(MAPFS_PROBLEM_GROUP_OUTSIDE, "group-outside", "a block group lies past the end of the image"),
    PROBLEM(MAPFS_PROBLEM_GROUP_FREE, "group-free", "a block group counts its free blocks wrongly"),
    PROBLEM(MAPFS_PROBLEM_SHARED_COUNT, "shared-count", "shared blocks are counted wrongly"),
    PROBLEM(MAPFS_PROBLEM_SHARED_FEATURE, "shared-feature", "blocks are shared, but the superblock does not say so"),
    PROBLEM(MAPFS_PROBLEM_PENDING_YOUNG, "pending-young", "a pending free is of a generation after the superblock's"),
    PROBLEM(MAPFS_PROBLEM_COUNT_FREE, "count-free", "the superblock counts the free blocks wrongly"),
    PROBLEM(MAPFS_PROBLEM_COUNT_PENDING, "count-pending", "the superblock counts the pending blocks wrongly"),
    PROBLEM(MAPFS_PROBLEM_COUNT_INODES, "count-inodes", "the superblock counts the inodes wrongly"),
    INFO(MAPFS_INFO_SLOT_DAMAGED, "slot-damaged", "one superblock slot is not valid; the other one is used"),
    INFO(MAPFS_INFO_LOG, "log", "the log holds batches that the superblock does not"),
    INFO(MAPFS_INFO_INCOMPLETE, "incomplete", "damage kept the later passes from comparing"),
};

const MapfsProblemKind *mapfs_problem_kind(unsigned number) {
    if (number >= MAPFS_N_ELEMENTS(kinds) || !kinds[number].name)
        return NULL;
    return &kinds[number];
}
