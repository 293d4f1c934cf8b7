/* SPDX-License-Identifier: MIT */

#include "fs-checked.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <glib.h>

MapfsCheckReport fs_check_image(MapfsImage *image) {
    const MapfsCheckOptions options = {0};
    MapfsCheckReport report;

    assert_int_equal(mapfs_check_run(image, &options, &report), 0);
    if (report.n_problems > 0)
        fail_msg("the checker found: %s", report.first);
    return report;
}

int fs_checked_teardown(void **state) {
    FsFixture *fixture = *state;

    assert_int_equal(mapfs_fs_close(fixture->fs), 0);
    (void)fs_check_image(fixture->image); /* it ends the test itself */
    mapfs_image_close(fixture->image);
    g_free(fixture);
    return 0;
}
