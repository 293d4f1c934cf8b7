/* SPDX-License-Identifier: MIT */

/* The checker on trees and images of every shape, right and wrong ones. */

#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#include "test-check-image.h"

static void test_trees_of_every_shape_are_clean(void **state) {
    Build *build = *state;

    for (unsigned per_leaf = 2; per_leaf < 60; per_leaf += 3) {
        for (unsigned per_node = 2; per_node < 20; per_node += 4) {
            MapfsImage *image;
            MapfsCheckReport report;

            build->items_per_leaf = per_leaf;
            build->pointers_per_node = per_node;
            image = build_image(build);
            report = image_check(image);
            image_report_assert_clean(&report);
            mapfs_image_close(image);
        }
    }
}

/* What a node's first pointer says of its key is not looked at: the tree leaves there what it was when it drops the node before. */
static void test_first_pointers_may_have_any_key(void **state) {
    Build *build = *state;

    for (unsigned byte = 0; byte < 256; byte += 255) {
        MapfsImage *image = build_image(build);
        MapfsCheckReport report;

        for (uint64_t block = BUILD_FIRST_NODE; block < BUILD_FIRST_DATA; block++) {
            struct mapfs_disk_index *node = image_block(image, block);

            if (mapfs_le32_load(node->header.magic) != MAPFS_NODE_MAGIC || node->header.level == 0)
                continue;
            memset(&node->pointers[0].object, (int)byte, sizeof(node->pointers[0].object));
            memset(&node->pointers[0].offset, (int)byte, sizeof(node->pointers[0].offset));
            node->pointers[0].kind = (uint8_t)byte;
            mapfs_header_seal(node, BUILD_CHECKSUM_SEED);
        }
        report = image_check(image);
        image_report_assert_clean(&report);
        mapfs_image_close(image);
    }
}

static void test_group_without_bitmap_is_all_free(void **state) {
    Build *build = *state;
    MapfsCheckReport report;
    MapfsImage *image;

    build->without_bitmap = true;
    build_remove(build, (MapfsKey){.object = MAPFS_OBJECT_GROUPS, .kind = MAPFS_KIND_GROUP});
    image = build_image(build);
    report = image_check(image);
    assert_true(report.n_of_kind[MAPFS_PROBLEM_BLOCK_UNMARKED] > 0);
    assert_int_equal(report.n_free, BUILD_BLOCKS);
    mapfs_image_close(image);
}

static void poke(MapfsImage *image, uint64_t *random) {
    uint64_t r = *random;

    r ^= r << 13;
    r ^= r >> 7;
    r ^= r << 17;
    *random = r;
    if (r >> 40 & 1) {
        ((uint8_t *)image_superblock(image))[r % 400] ^= (uint8_t)(1u << (r >> 32) % 8);
        image_reseal_superblock(image);
    } else {
        void *bytes = image_block(image, BUILD_BITMAP + (r >> 12) % 30);

        ((uint8_t *)bytes)[r % MAPFS_BLOCK_SIZE] = (uint8_t)(r >> 48);
        mapfs_header_seal(bytes, BUILD_CHECKSUM_SEED);
    }
}

/* Random bytes behind right checksums: the walk ends, and nothing is touched outside the image. */
static void test_random_bytes_behind_right_checksums_do_no_harm(void **state) {
    Build *build = *state;
    uint64_t random = UINT64_C(88172645463325252);

    for (unsigned round = 0; round < 3000; round++) {
        MapfsImage *image;

        build_init(build);
        image = build_image(build);
        for (unsigned i = 0; i < 1 + round % 4; i++)
            poke(image, &random);
        (void)image_check(image);
        mapfs_image_close(image);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, build_setup, build_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_trees_of_every_shape_are_clean),
        TEST(test_first_pointers_may_have_any_key),
        TEST(test_group_without_bitmap_is_all_free),
        TEST(test_random_bytes_behind_right_checksums_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
