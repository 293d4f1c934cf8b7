/* SPDX-License-Identifier: MIT */
#pragma once

/* A mounted filesystem and the model beside it: random operations on both, whose results must agree. What differs ends the
 * stage with a failure. */

#include "base/macros.h"
#include "model.h"
#include "random.h"

#define STAGE_BUFFER 65536u

/* What a world likes to do. */
typedef struct {
    const char *name;
    unsigned n_names;      /* of a directory */
    unsigned n_inodes;     /* more are removed soon */
    unsigned weights[5];   /* of the classes of operations: names, removal, data, attributes, extended ones */
    unsigned large_one_in; /* writes of up to 64 KiB */
    unsigned sync_one_in;
    unsigned stripe_one_in; /* data operations that begin to fill a file in stripes; 0: none */
} StageProfile;

/* A read that has begun and not ended: its bytes must stay what they were. */
typedef struct {
    bool active;
    uint64_t ino;
    uint8_t *expected;
    MapfsRead read;
} StageHeld;

/* A file that gets a block here and there, until it has more extents than one step of a truncate or of reclaim takes. */
typedef struct {
    uint64_t ino, offset, stride;
    unsigned n_left;
} StageStripe;

/* Blocks that a file was given before it has data for them. */
typedef struct {
    uint64_t ino, offset, end;
} StageSpare;

typedef struct {
    MapfsFs *fs;
    Model *model;
    Random random;
    const StageProfile *profile;
    bool trouble;           /* the host is made to fail: any change may meet -ENOSPC or -EIO */
    bool broken;            /* -EIO was met: the image takes no more changes */
    bool nested;            /* in the midst of a checkpoint: there is no room to be made */
    uint64_t protected_ino; /* a power cut left it so, with flags that forbid changes; 0: none */
    unsigned n_draining;
    unsigned n_full; /* operations that met a full image */
    StageHeld held;
    StageStripe stripe;
    StageSpare spare;
    GString *note; /* the operation at hand */
    GArray *
        between; /* sums of the states that a power cut within it may leave, besides the one before and the one after */
    GString *failure; /* empty while all is well */
    /* Called between the stores of a write and its commit; NULL for nothing. */
    void (*midway)(void *user);
    void *user;
    uint8_t buffer[STAGE_BUFFER];
    uint8_t other[STAGE_BUFFER];
} Stage;

typedef struct {
    size_t len;
    char bytes[260];
} StageName;

Stage *stage_new(uint64_t seed, const StageProfile *profile);
void stage_free(Stage *stage);

/* Looks at a model that was made of what is mounted now. */
void stage_adopt(Stage *stage);
/* Takes the flags away that forbid changes; false when there are none. */
bool stage_unprotect(Stage *stage);

/* One operation, also when it turns out as none. */
void stage_step(Stage *stage);

/* Compares all that the filesystem shows with the model. */
void stage_compare(Stage *stage);

/* Begins a read of some file, all of whose blocks must be sealed; ends it, and compares. */
void stage_hold(Stage *stage);
void stage_release(Stage *stage);

static inline bool stage_failed(const Stage *stage) {
    return stage->failure->len > 0;
}
/* The first failure is kept. */
void stage_fail(Stage *stage, const char *format, ...) MAPFS_PRINTF(2, 3);
/* Says what the operation at hand is. */
void stage_note(Stage *stage, const char *format, ...) MAPFS_PRINTF(2, 3);

/* Whether a result lets the operation meet a full image. */
typedef enum { STAGE_GROWS, STAGE_FREES } StageKind;

/* Judges the result of an operation: true when it has taken place, and is now done to the model. */
bool stage_result(Stage *stage, StageKind kind, int expected, int result);

/* Compares an inode that an operation touched with the filesystem's, and counts it anew. */
void stage_settle(Stage *stage, ModelInode *inode);

/* Sets the times that a change sets, with `data` mtime too. */
void stage_touch(ModelInode *inode, bool data);

/* What to work on. NULL when there is none to be found. */
ModelInode *stage_pick_dir(Stage *stage);
ModelInode *stage_pick_file(Stage *stage);
ModelInode *stage_pick_inode(Stage *stage);
ModelEntry *stage_pick_entry(Stage *stage);
void stage_pick_name(Stage *stage, StageName *ret_name);
/* A place in or after a file, often beside an edge of something. */
uint64_t stage_pick_offset(Stage *stage, uint64_t size);

/* The operations. */
void stage_create(Stage *stage);
void stage_mkdir(Stage *stage);
void stage_symlink(Stage *stage);
void stage_mknod(Stage *stage);
void stage_tmpfile(Stage *stage);
void stage_link(Stage *stage);
void stage_unlink(Stage *stage);
void stage_rename(Stage *stage);
void stage_lookup(Stage *stage);
void stage_forget(Stage *stage);
void stage_write(Stage *stage);
void stage_append(Stage *stage);
void stage_stripe(Stage *stage);
void stage_fill(Stage *stage);
void stage_copy(Stage *stage);
void stage_truncate(Stage *stage);
void stage_empty(Stage *stage);
void stage_read(Stage *stage);
void stage_allocate(Stage *stage);
void stage_seek(Stage *stage);
void stage_setattr(Stage *stage);
void stage_setxattr(Stage *stage);
void stage_removexattr(Stage *stage);
void stage_setacl(Stage *stage);
void stage_protect(Stage *stage);
void stage_trim(Stage *stage);
void stage_reclaim(Stage *stage);

/* Takes suid, sgid and security.capability from the model's file, as a change by another user does. */
void stage_strip(ModelInode *inode);
