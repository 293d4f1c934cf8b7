/* SPDX-License-Identifier: MIT */
#include "tools/facts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <glib.h>
#include <json-glib/json-glib.h>

#include "tools/messages.h"

typedef struct {
    char *label; /* or NULL */
    char *text;
} FactLine;

struct MapfsFacts {
    GPtrArray *lines; /* of FactLine */
    JsonObject *object;
};

static void line_free(void *data) {
    FactLine *line = data;

    g_free(line->label);
    g_free(line->text);
    g_free(line);
}

MapfsFacts *mapfs_facts_new(void) {
    MapfsFacts *facts = g_new(MapfsFacts, 1);

    facts->lines = g_ptr_array_new_with_free_func(line_free);
    facts->object = json_object_new();
    return facts;
}

void mapfs_facts_free(MapfsFacts *facts) {
    if (!facts)
        return;
    g_ptr_array_unref(facts->lines);
    json_object_unref(facts->object);
    g_free(facts);
}

static void facts_add_line(MapfsFacts *facts, const char *label, char *text) {
    FactLine *line = g_new(FactLine, 1);

    *line = (FactLine){.label = g_strdup(label), .text = text};
    g_ptr_array_add(facts->lines, line);
}

void mapfs_facts_text(MapfsFacts *facts, const char *key, const char *label, const char *text) {
    /* Labels and paths are bytes; JSON wants UTF-8. */
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    json_object_set_string_member(facts->object, key, valid);
    facts_add_line(facts, label, g_strdup(text));
}

void mapfs_facts_number(MapfsFacts *facts, const char *key, const char *label, uint64_t number) {
    json_object_set_int_member(facts->object, key, (gint64)number);
    facts_add_line(facts, label, g_strdup_printf("%" PRIu64, number));
}

void mapfs_facts_bool(MapfsFacts *facts, const char *key, const char *label, bool value) {
    json_object_set_boolean_member(facts->object, key, value);
    facts_add_line(facts, label, g_strdup(value ? "yes" : "no"));
}

void mapfs_facts_bytes(MapfsFacts *facts, const char *key, const char *label, uint64_t bytes) {
    json_object_set_int_member(facts->object, key, (gint64)bytes);
    facts_add_line(facts, label, mapfs_message_size(bytes));
}

void mapfs_facts_time(MapfsFacts *facts, const char *key, const char *label, int64_t seconds) {
    g_autoptr(GDateTime) date = g_date_time_new_from_unix_local(seconds);

    json_object_set_int_member(facts->object, key, seconds);
    facts_add_line(facts, label,
                   date ? g_date_time_format(date, "%Y-%m-%d %H:%M:%S %z") : g_strdup_printf("%" PRId64, seconds));
}

static void facts_print_json(const MapfsFacts *facts) {
    g_autoptr(JsonNode) root = json_node_alloc();
    g_autofree char *text = NULL;

    json_node_init_object(root, facts->object);
    text = json_to_string(root, TRUE);
    (void)printf("%s\n", text);
}

void mapfs_facts_print(const MapfsFacts *facts, bool as_json) {
    size_t width = 0;

    if (as_json) {
        facts_print_json(facts);
        return;
    }
    for (guint i = 0; i < facts->lines->len; i++) {
        const FactLine *line = facts->lines->pdata[i];
        width = MAPFS_MAX(width, line->label ? strlen(line->label) : 0);
    }
    for (guint i = 0; i < facts->lines->len; i++) {
        const FactLine *line = facts->lines->pdata[i];
        g_autofree char *text = mapfs_message_printable(line->text);
        if (line->label)
            (void)printf("%s:%*s %s\n", line->label, (int)(width - strlen(line->label)), "", text);
    }
}
