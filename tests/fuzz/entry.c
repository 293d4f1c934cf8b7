/* SPDX-License-Identifier: MIT */

/* A target under libFuzzer. */

#include "entry.h"

#include <string.h>

#include "mutate.h"
#include "target.h"

/* Inputs are large: these two are kept for the process's life. */
static FuzzInput *input_at(unsigned index) {
    static FuzzInput *inputs[2];

    if (!inputs[index])
        inputs[index] = fuzz_input_new();
    return inputs[index];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    FuzzInput *input = input_at(0);

    if (!fuzz_input_unpack(input, data, size))
        return -1; /* not for the corpus */
    fuzz_target_run(input);
    return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    static unsigned turn;
    FuzzInput *input = input_at(turn % 2), *before = input_at((turn + 1) % 2);
    FuzzMutation mutation = {.input = input,
                             .random = {.state = (seed * UINT64_C(0x9e3779b97f4a7c15)) | 1},
                             .bytes_mutate = LLVMFuzzerMutate};
    size_t len;

    if (!fuzz_input_unpack(input, data, size))
        return LLVMFuzzerMutate(data, size, max_size);
    for (unsigned i = 0; i < 4; i++)
        (void)fuzz_random_next(&mutation.random); /* seeds differ by few bits */
    /* Crossed with what was mutated before, which mostly comes from another file of the corpus. */
    if (turn > 0 && fuzz_below(&mutation, 1, 8))
        fuzz_mutate_cross(&mutation, before);
    turn++;
    for (uint64_t n = 1 + fuzz_random_below(&mutation.random, 4); n > 0; n--)
        fuzz_mutate(&mutation);
    len = fuzz_input_pack(input, data, max_size);
    return len > 0 ? len : size;
}
