# SPDX-License-Identifier: MIT
"""fio with verification of every block."""

import json

import pytest
from helpers.commands import run

CASES = {
    "sequential": ["--rw=write", "--bs=128k"],
    "sequential, small pieces": ["--rw=write", "--bs=4k", "--size=8m"],
    "random": ["--rw=randwrite", "--bs=4k"],
    "random, odd sizes": ["--rw=randwrite", "--bsrange=512-70k", "--bs_unaligned=1"],
    "random with fsync": ["--rw=randwrite", "--bs=4k", "--fsync=32", "--size=8m"],
    "mixed": ["--rw=randrw", "--bs=8k"],
    "synchronous": ["--rw=randwrite", "--bs=4k", "--sync=1", "--size=2m"],
    "direct": ["--rw=randwrite", "--bs=4k", "--direct=1", "--ioengine=libaio", "--iodepth=8"],
    "mapped": ["--rw=randwrite", "--bs=4k", "--ioengine=mmap", "--size=4m"],
    "two jobs": ["--rw=randwrite", "--bs=16k", "--numjobs=2", "--size=8m"],
}


@pytest.mark.heavy
@pytest.mark.parametrize("case", CASES)
def test_fio_reads_back_every_block_it_wrote(mnt, work, case):
    given = ["--size=16m", *CASES[case]]
    result = run(
        ["fio", "--name=job", f"--directory={mnt}", "--ioengine=psync", "--verify=crc32c", "--verify_fatal=1",
         "--do_verify=1", "--randseed=7", "--output-format=json", *given],
        timeout=120, cwd=work,
    )  # fmt: skip
    jobs = json.loads(result.out[result.out.index("{") :])["jobs"]
    assert all(job["error"] == 0 for job in jobs)
    assert all(job["read"]["total_ios"] > 0 for job in jobs), "nothing was verified"
