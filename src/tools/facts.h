/* SPDX-License-Identifier: MIT */
#pragma once

/* A list of facts, printed as text for people or as one JSON object for programs. */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

typedef struct MapfsFacts MapfsFacts;

MapfsFacts *mapfs_facts_new(void);
void mapfs_facts_free(MapfsFacts *facts);

/* `key` is the JSON member, `label` what people read (NULL: only in JSON). */
void mapfs_facts_text(MapfsFacts *facts, const char *key, const char *label, const char *text);
void mapfs_facts_number(MapfsFacts *facts, const char *key, const char *label, uint64_t number);
void mapfs_facts_bool(MapfsFacts *facts, const char *key, const char *label, bool value);
/* Bytes: a number in JSON, "1.5 GiB" in text. */
void mapfs_facts_bytes(MapfsFacts *facts, const char *key, const char *label, uint64_t bytes);
/* Seconds since 1970 in JSON, a date in text. */
void mapfs_facts_time(MapfsFacts *facts, const char *key, const char *label, int64_t seconds);

void mapfs_facts_print(const MapfsFacts *facts, bool as_json);
