/* SPDX-License-Identifier: MIT */
#pragma once

/* Little-endian integers as they lie in the image. Each is a one-member struct, so that a value from disk cannot be
 * used without loading it. */

#include <endian.h>
#include <stdint.h>

struct mapfs_le16 {
    uint16_t raw;
};
struct mapfs_le32 {
    uint32_t raw;
};
struct mapfs_le64 {
    uint64_t raw;
};

static inline uint16_t mapfs_le16_load(struct mapfs_le16 value) {
    return le16toh(value.raw);
}
static inline uint32_t mapfs_le32_load(struct mapfs_le32 value) {
    return le32toh(value.raw);
}
static inline uint64_t mapfs_le64_load(struct mapfs_le64 value) {
    return le64toh(value.raw);
}
static inline struct mapfs_le16 mapfs_le16_store(uint16_t value) {
    return (struct mapfs_le16){htole16(value)};
}
static inline struct mapfs_le32 mapfs_le32_store(uint32_t value) {
    return (struct mapfs_le32){htole32(value)};
}
static inline struct mapfs_le64 mapfs_le64_store(uint64_t value) {
    return (struct mapfs_le64){htole64(value)};
}
