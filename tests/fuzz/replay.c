/* SPDX-License-Identifier: MIT */

/* A target without libFuzzer: runs the files and the files of the directories it is given, each once. Any compiler, any build.
 *
 *     replay-TARGET FILE|DIRECTORY...
 *
 * Ends with the line "N inputs, 0 failures"; a failure aborts, and the last file named is the one. */

#include <stdio.h>
#include <stdlib.h>

#include <glib.h>

#include "base/macros.h"
#include "target.h"

static unsigned replay_file(FuzzInput *input, const char *path) {
    g_autofree char *bytes = NULL;
    g_autoptr(GError) error = NULL;
    gsize len;

    if (!g_file_get_contents(path, &bytes, &len, &error)) {
        (void)fprintf(stderr, "%s\n", error->message);
        exit(2);
    }
    if (!fuzz_input_unpack(input, (const uint8_t *)bytes, len)) {
        (void)fprintf(stderr, "%s: this is no input\n", path);
        exit(2);
    }
    (void)printf("%s\n", path);
    (void)fflush(stdout);
    fuzz_target_run(input);
    return 1;
}

static unsigned replay_directory(FuzzInput *input, const char *path) {
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;
    unsigned n = 0;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *file = g_build_filename(path, name, NULL);

        n += replay_file(input, file);
    }
    return n;
}

int main(int argc, char **argv) {
    FuzzInput *input = fuzz_input_new();
    unsigned n = 0;

    for (int i = 1; i < argc; i++)
        n += g_file_test(argv[i], G_FILE_TEST_IS_DIR) ? replay_directory(input, argv[i]) : replay_file(input, argv[i]);
    fuzz_input_free(input);
    (void)printf("%u inputs, 0 failures\n", n);
    return n > 0 ? 0 : 2;
}
