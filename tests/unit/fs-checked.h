/* SPDX-License-Identifier: MIT */
#pragma once

/* The fixture of tests whose image goes through the checker at the end. */

#include "check/check.h"
#include "fs-fixture.h"

/* Checks the image, in which nothing may be wrong; what the checker counted. */
MapfsCheckReport fs_check_image(MapfsImage *image);

/* cmocka teardown for fs_fixture_setup(). */
int fs_checked_teardown(void **state);
