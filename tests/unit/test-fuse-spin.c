/* SPDX-License-Identifier: MIT */

/* Looking for the next request: it pays where requests follow each other, and is rare where it does not. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "fuse/spin.h"

/* Requests that come `gap_us` after the last one was served, and are met by who still looks. Returns how many microseconds were looked in vain. */
static uint64_t serve(MapfsSpin *spin, unsigned n_requests, uint64_t gap_us, bool is_busy, unsigned *ret_n_met) {
    uint64_t wasted_us = 0;

    *ret_n_met = 0;
    for (unsigned i = 0; i < n_requests; i++) {
        const unsigned len_us = mapfs_spin_begin(spin);
        /* Where no processor is free the client runs when the look is over. */
        const bool has_met = !is_busy && len_us >= gap_us;

        *ret_n_met += has_met;
        wasted_us += has_met ? 0 : len_us;
        mapfs_spin_end(spin, len_us, has_met, is_busy ? len_us + gap_us : gap_us);
    }
    return wasted_us;
}

static void test_requests_that_follow_closely_are_met(void **state) {
    MapfsSpin spin = {0};
    unsigned n_met;

    (void)state;
    (void)serve(&spin, 1000, 150, false, &n_met);
    assert_in_range(n_met, 950, 1000);
}

static void test_requests_far_apart_are_slept_for(void **state) {
    MapfsSpin spin = {0};
    unsigned n_met;

    (void)state;
    (void)serve(&spin, 100, 20, false, &n_met);
    assert_true(serve(&spin, 1000, 5000, false, &n_met) < 1000);
    assert_int_equal(n_met, 0);
}

static void test_without_a_free_processor_looks_are_rare(void **state) {
    MapfsSpin spin = {0};
    unsigned n_met;

    (void)state;
    assert_true(serve(&spin, 10000, 30, true, &n_met) < 10000 / 2);
    assert_int_equal(n_met, 0);
}

static void test_looks_that_end_far_too_late_are_rare(void **state) {
    MapfsSpin spin = {0};
    unsigned n_looks = 0;

    (void)state;
    for (unsigned i = 0; i < 10000; i++) {
        const unsigned len_us = mapfs_spin_begin(&spin);

        n_looks += len_us > 0;
        /* Scheduled again after 3 ms: the request is there. Who sleeps gets it soon. */
        mapfs_spin_end(&spin, len_us, len_us > 0, len_us > 0 ? 3000 : 20);
    }
    assert_in_range(n_looks, 1, 40);
}

static void test_looks_come_back_with_a_free_processor(void **state) {
    MapfsSpin spin = {0};
    unsigned n_met;

    (void)state;
    (void)serve(&spin, 10000, 30, true, &n_met);
    (void)serve(&spin, 2000, 30, false, &n_met);
    assert_in_range(n_met, 900, 2000);
    (void)serve(&spin, 1000, 30, false, &n_met);
    assert_int_equal(n_met, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests_that_follow_closely_are_met),
        cmocka_unit_test(test_requests_far_apart_are_slept_for),
        cmocka_unit_test(test_without_a_free_processor_looks_are_rare),
        cmocka_unit_test(test_looks_that_end_far_too_late_are_rare),
        cmocka_unit_test(test_looks_come_back_with_a_free_processor),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
