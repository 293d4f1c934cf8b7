/* SPDX-License-Identifier: MIT */
#include "fuse/complaints-private.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <glib.h>

/* More than libfuse and fusermount3 ever say. */
#define COLLECTED_MAX 4096u

/* Parts of the lines of libfuse and fusermount3, in the order in which they are looked for. */
static const struct {
    const char *part;
    const char *remedy;
} remedies[] = {
    {"fusermount3' ", "ordinary users need fusermount3, set-user-ID root (Debian: apt-get install fuse3)"},
    {"fusermount3':", "ordinary users need fusermount3, set-user-ID root (Debian: apt-get install fuse3)"},
    {"no write access to mountpoint", "take a directory that is yours"},
    {"not owned by user", "take a directory that is yours"},
    {"Operation not permitted",
     "it takes root, or fusermount3 that is set-user-ID root; in a container also --device /dev/fuse --cap-add "
     "SYS_ADMIN"},
    {"Too many open files", "see ulimit -n"},
};

void mapfs_complaints_begin(MapfsComplaints *complaints) {
    *complaints = (MapfsComplaints){.stderr_fd = -1, .collected_fd = memfd_create("messages", MFD_CLOEXEC)};
    if (complaints->collected_fd < 0)
        return;
    complaints->stderr_fd = dup(STDERR_FILENO);
    if (complaints->stderr_fd >= 0 && dup2(complaints->collected_fd, STDERR_FILENO) >= 0)
        return;
    if (complaints->stderr_fd >= 0)
        (void)close(complaints->stderr_fd);
    (void)close(complaints->collected_fd);
    complaints->stderr_fd = -1;
}

/* "fusermount3: mount failed" -> "mount failed" */
static const char *line_without_program(const char *line) {
    static const char *const programs[] = {"fusermount3: ", "fusermount: ", "fuse: "};

    for (unsigned i = 0; i < G_N_ELEMENTS(programs); i++)
        if (g_str_has_prefix(line, programs[i]))
            return line + strlen(programs[i]);
    return line;
}

char **mapfs_complaints_end(MapfsComplaints *complaints) {
    g_autoptr(GPtrArray) lines = g_ptr_array_new();
    g_auto(GStrv) raw = NULL;
    char text[COLLECTED_MAX] = "";
    ssize_t n;

    if (complaints->stderr_fd >= 0) {
        (void)dup2(complaints->stderr_fd, STDERR_FILENO); /* both are open: it cannot fail */
        (void)close(complaints->stderr_fd);
        n = lseek(complaints->collected_fd, 0, SEEK_SET) == 0 ? read(complaints->collected_fd, text, sizeof text - 1)
                                                              : 0;
        text[n > 0 ? n : 0] = '\0';
        (void)close(complaints->collected_fd);
    }
    raw = g_strsplit(text, "\n", -1);
    for (char **line = raw; *line; line++)
        if (**line)
            g_ptr_array_add(lines, g_strdup(line_without_program(*line)));
    g_ptr_array_add(lines, NULL);
    return (char **)g_ptr_array_steal(lines, NULL);
}

const char *mapfs_complaint_remedy(const char *line) {
    for (unsigned i = 0; i < G_N_ELEMENTS(remedies); i++)
        if (strstr(line, remedies[i].part))
            return remedies[i].remedy;
    return NULL;
}
