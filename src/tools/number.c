/* SPDX-License-Identifier: MIT */
#include "tools/number.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <glib.h>

bool mapfs_number_parse(const char *text, uint64_t max, uint64_t *ret_number) {
    guint64 number;

    if (!g_ascii_string_to_unsigned(text, 10, 0, max, &number, NULL))
        return false;
    *ret_number = number;
    return true;
}

bool mapfs_size_parse(const char *text, uint64_t *ret_bytes) {
    static const char units[] = "KMGTP";
    const size_t n_digits = strspn(text, "0123456789");
    g_autofree char *digits = g_strndup(text, n_digits);
    const char *suffix = text + n_digits;
    const char *unit;
    uint64_t number;
    unsigned shift;

    if (!mapfs_number_parse(digits, UINT64_MAX, &number))
        return false;
    if (*suffix == '\0' || strcmp(suffix, "B") == 0) {
        *ret_bytes = number;
        return true;
    }
    unit = strchr(units, g_ascii_toupper(*suffix));
    if (!unit || (suffix[1] != '\0' && strcmp(suffix + 1, "iB") != 0 && strcmp(suffix + 1, "B") != 0))
        return false;
    shift = 10 * ((unsigned)(unit - units) + 1);
    if (number > UINT64_MAX >> shift)
        return false;
    *ret_bytes = number << shift;
    return true;
}

bool mapfs_uuid_parse(const char *text, uint8_t ret_uuid[16]) {
    uint8_t uuid[16];
    const char *at = text;

    if (strlen(text) != 36)
        return false;
    for (unsigned i = 0; i < 16; i++) {
        const bool dash = i == 4 || i == 6 || i == 8 || i == 10;
        if (dash && *at++ != '-')
            return false;
        if (!g_ascii_isxdigit(at[0]) || !g_ascii_isxdigit(at[1]))
            return false;
        uuid[i] = (uint8_t)(g_ascii_xdigit_value(at[0]) << 4 | g_ascii_xdigit_value(at[1]));
        at += 2;
    }
    memcpy(ret_uuid, uuid, sizeof uuid);
    return true;
}

void mapfs_uuid_print(const uint8_t uuid[16], char ret_text[37]) {
    char *at = ret_text;

    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        (void)snprintf(at, 3, "%02x", uuid[i]);
        at += 2;
    }
}
