/* SPDX-License-Identifier: MIT */
#pragma once

/* What the filesystem must show: a simple tree in memory, and a hash of everything visible in it that is kept up to date with each
 * change. The hash is a sum over inodes and names, so a change costs what it touches, and a walk of a mounted image may add them in any order. Number of blocks is
 * left out: it follows in steps that nobody asked for. */

#include <glib.h>

#include "fs/fs.h"

#define MODEL_PAGE 4096u

/* A page of a file that is not all zeros. */
typedef struct {
    uint64_t index;
    uint64_t hash;
    uint8_t bytes[MODEL_PAGE];
} ModelPage;

typedef struct {
    char *name;
    uint8_t *value;
    size_t len;
    uint64_t hash;
} ModelXattr;

typedef struct {
    MapfsAttr attr; /* n_blocks unused */
    char *target;   /* of a symlink */
    GHashTable *pages;
    GPtrArray *xattrs;
    uint64_t content_sum, xattr_sum;
    uint64_t n_lookups; /* that the filesystem counts */
    guint index;        /* in the model's inodes */
    uint64_t hash;      /* what the model's sum holds of it: 0 without names */
} ModelInode;

typedef struct {
    uint64_t parent, ino;
    guint index; /* in the model's entries */
    uint64_t hash;
    size_t name_len;
    char name[256];
} ModelEntry;

/* One change of the sum, to go back to earlier states. */
typedef struct {
    uint64_t key;
    uint64_t before, after;
} ModelDelta;

typedef struct {
    GPtrArray *inodes;  /* ModelInode */
    GPtrArray *entries; /* ModelEntry */
    GHashTable *by_ino, *by_name;
    GArray *deltas; /* ModelDelta */
    uint64_t sum;
} Model;

Model *model_new(void);
void model_free(Model *model);

/* Hashes of the parts, none of which is 0; of a page of zeros it is. */
uint64_t model_hash_page(uint64_t index, const uint8_t *bytes);
uint64_t model_hash_xattr(const char *name, const void *value, size_t len);
uint64_t model_hash_entry(uint64_t parent, const char *name, size_t name_len, uint64_t ino);
uint64_t model_hash_inode(const MapfsAttr *attr, const char *target, uint64_t content_sum, uint64_t xattr_sum);
/* What a name's change is noted under; an inode's is its number. */
uint64_t model_entry_key(uint64_t parent, const char *name, size_t name_len);

/* Inodes. Changes to one show in the sum after model_update(). */
ModelInode *model_inode(const Model *model, uint64_t ino);
ModelInode *model_inode_add(Model *model, const MapfsAttr *attr);
void model_inode_remove(Model *model, ModelInode *inode);
void model_update(Model *model, ModelInode *inode);

ModelEntry *model_entry(const Model *model, uint64_t parent, const char *name, size_t name_len);
void model_entry_add(Model *model, const MapfsName *name, uint64_t ino);
void model_entry_set(Model *model, ModelEntry *entry, uint64_t ino);
void model_entry_remove(Model *model, ModelEntry *entry);

/* True when `ancestor` is the directory or above it. */
bool model_is_within(const Model *model, uint64_t dir, uint64_t ancestor);

/* File content. */
void model_page_put(ModelInode *inode, uint64_t index, const uint8_t *bytes);
void model_write(ModelInode *inode, uint64_t offset, const uint8_t *bytes, size_t len);
void model_truncate(ModelInode *inode, uint64_t size);
void model_read(const ModelInode *inode, uint64_t offset, uint8_t *buffer, size_t len);

ModelXattr *model_xattr(const ModelInode *inode, const char *name);
void model_xattr_set(ModelInode *inode, const char *name, const void *value, size_t len);
void model_xattr_remove(ModelInode *inode, ModelXattr *xattr);

/* Drops the inodes without names and all lookups, as an unmount does. */
void model_unmount(Model *model);

/* Appends what differs, inode by inode and name by name, up to `n_max` lines. */
void model_compare(const Model *expected, const Model *found, unsigned n_max, GString *text);

/* The path of an inode, or what is known of it. */
void model_path(const Model *model, uint64_t ino, GString *text);

/* The earlier state of `model` that is nearest to `found`: an index of `marks` from `first` on, which tell how many deltas there were
 * at each state. Appends in which inodes and names the two differ. */
guint model_nearest(const Model *model, const GArray *marks, guint first, const Model *found, GString *text);
