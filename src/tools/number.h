/* SPDX-License-Identifier: MIT */
#pragma once

/* Numbers as users write them. */

#include <stdbool.h>
#include <stdint.h>

/* A size: digits and perhaps K, M, G, T or P (powers of 1024, also as KiB and the like). False when it is none, or does not fit. */
bool mapfs_size_parse(const char *text, uint64_t *ret_bytes);

/* Digits alone, up to `max`. */
bool mapfs_number_parse(const char *text, uint64_t max, uint64_t *ret_number);

/* A uuid in its usual form of 36 characters. */
bool mapfs_uuid_parse(const char *text, uint8_t ret_uuid[16]);

/* The usual form, 36 characters and a zero. */
void mapfs_uuid_print(const uint8_t uuid[16], char ret_text[37]);
