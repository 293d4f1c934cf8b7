/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include <glib.h>

#include "fuse/session-private.h"

/* The smallest entry of a READDIRPLUS reply is longer than this, which bounds how many inodes one reply can hold. */
#define PLUS_ENTRY_LEN_MIN 128u

/* Directories of up to so many entries are kept by the kernel. */
#define CACHED_ENTRIES 1024u

/* A reply that is being filled. */
typedef struct {
    fuse_req_t req;
    MapfsSession *session;
    char *buffer;
    size_t size, len;
    uint64_t *inos; /* plus: whose lookup this reply counts */
    unsigned n_inos;
} Listing;

static void listing_clear(Listing *listing) {
    g_free(listing->buffer);
    g_free(listing->inos);
}

static int listing_init(Listing *listing, fuse_req_t req, size_t size, bool plus) {
    *listing = (Listing){.req = req, .session = mapfs_request_session(req), .size = size};
    listing->buffer = g_try_malloc(MAPFS_MAX(size, (size_t)1));
    if (plus)
        listing->inos = g_try_new(uint64_t, size / PLUS_ENTRY_LEN_MIN + 1);
    if (!listing->buffer || (plus && !listing->inos)) {
        listing_clear(listing);
        return -ENOMEM;
    }
    return 0;
}

static bool name_is_dots(const MapfsDirEntry *entry) {
    return entry->name[0] == '.' && (entry->name_len == 1 || (entry->name_len == 2 && entry->name[1] == '.'));
}

/* libfuse wants the name with a NUL behind it. */
static void name_copy(const MapfsDirEntry *entry, char *ret_name) {
    const size_t len = MAPFS_MIN(entry->name_len, (size_t)MAPFS_NAME_LEN_MAX);

    memcpy(ret_name, entry->name, len);
    ret_name[len] = '\0';
}

static int listing_add(void *user, const MapfsDirEntry *entry) {
    Listing *listing = user;
    char name[MAPFS_NAME_LEN_MAX + 1];
    const struct stat stat = {.st_ino = entry->ino, .st_mode = mapfs_mode_from_dirent_type(entry->type)};
    size_t len;

    name_copy(entry, name);
    len = fuse_add_direntry(listing->req, listing->buffer + listing->len, listing->size - listing->len, name, &stat,
                            (off_t)entry->cookie);
    if (len > listing->size - listing->len)
        return 0;
    listing->len += len;
    return 1;
}

static int listing_add_plus(void *user, const MapfsDirEntry *entry) {
    Listing *listing = user;
    char name[MAPFS_NAME_LEN_MAX + 1];
    struct fuse_entry_param param;
    const bool is_dots = name_is_dots(entry);
    size_t len;

    name_copy(entry, name);
    if (is_dots || !entry->attr) {
        /* Node 0: the name alone, with no inode for the kernel to remember. */
        param = (struct fuse_entry_param){
            .attr = {.st_ino = entry->ino, .st_mode = mapfs_mode_from_dirent_type(entry->type)},
        };
    } else {
        mapfs_attr_to_entry(listing->session, entry->attr, &param);
    }
    len = fuse_add_direntry_plus(listing->req, listing->buffer + listing->len, listing->size - listing->len, name,
                                 &param, (off_t)entry->cookie);
    if (len > listing->size - listing->len)
        return 0;
    listing->len += len;
    if (param.ino != 0)
        listing->inos[listing->n_inos++] = param.ino;
    return 1;
}

/* Sends what was found, or takes the lookups back. */
static void listing_reply(Listing *listing, int r) {
    r = mapfs_request_result(listing->req, r);
    if (r < 0)
        (void)fuse_reply_err(listing->req, -r);
    else
        r = fuse_reply_buf(listing->req, listing->buffer, listing->len);
    for (unsigned i = 0; r < 0 && i < listing->n_inos; i++)
        mapfs_fs_forget(listing->session->fs, listing->inos[i], 1);
}

static void request_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool plus) {
    Listing listing;
    int r;

    r = listing_init(&listing, req, size, plus);
    if (r < 0) {
        mapfs_reply_status(req, r);
        return;
    }
    r = mapfs_fs_readdir(listing.session->fs, ino,
                         &(MapfsDirScan){(uint64_t)offset, plus, plus ? listing_add_plus : listing_add, &listing});
    listing_reply(&listing, r);
    listing_clear(&listing);
}

/* The kernel may keep the entries, since all changes go through it. To enter one costs it more than ours to list it, so it keeps those of
 * directories that are small. */
void mapfs_handle_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    MapfsSession *session = mapfs_request_session(req);
    MapfsAttr attr;
    int r;

    r = mapfs_fs_getattr(session->fs, ino, &attr);
    r = mapfs_request_result(req, r);
    if (r < 0 && ino != FUSE_ROOT_ID) {
        (void)fuse_reply_err(req, -r);
        return;
    }
    /* The root directory is opened whatever has failed, as mapfs_reply_root() says. */
    fi->keep_cache = r == 0;
    fi->cache_readdir = r == 0 && attr.size <= CACHED_ENTRIES;
    (void)fuse_reply_open(req, fi);
}

void mapfs_handle_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    (void)ino;
    (void)fi;
    (void)fuse_reply_err(req, 0);
}

void mapfs_handle_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
    (void)fi;
    request_readdir(req, ino, size, offset, false);
}

void mapfs_handle_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi) {
    (void)fi;
    request_readdir(req, ino, size, offset, true);
}
