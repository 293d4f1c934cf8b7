# SPDX-License-Identifier: MIT
"""A compiler and make at work on the mount."""

import os

from helpers.commands import run
from helpers.files import write_file

N = 12


def _make_project(directory):
    directory.mkdir()
    for i in range(N):
        write_file(directory / f"part{i}.c", f'#include "all.h"\nint part{i}(int x) {{ return x + {i}; }}\n'.encode())
    write_file(directory / "all.h", "".join(f"int part{i}(int x);\n" for i in range(N)).encode())
    calls = "".join(f"    n = part{i}(n);\n" for i in range(N))
    main = (
        f'#include <stdio.h>\n#include "all.h"\nint main(void) {{\n    int n = 0;\n{calls}    printf("%d\\n", n);\n}}\n'
    )
    write_file(directory / "main.c", main.encode())
    objects = " ".join([f"part{i}.o" for i in range(N)])
    makefile = (
        "program: main.o libparts.a\n\t$(CC) -o $@ main.o -L. -lparts\n"
        f"libparts.a: {objects}\n\t$(AR) rcs $@ $^\n"
        "%.o: %.c all.h\n\t$(CC) -g -O1 -c -o $@ $<\n"
        "clean:\n\trm -f program *.o *.a\n"
    )
    write_file(directory / "Makefile", makefile.encode())


def test_project_builds_runs_and_rebuilds_what_changed(mnt, remount):
    project = mnt / "project"
    _make_project(project)
    run(["make", "-s", "-j2"], cwd=project, timeout=120)
    assert run([project / "program"]).out == f"{sum(range(N))}\n"
    remount()
    assert run([project / "program"]).out == f"{sum(range(N))}\n"
    assert "up to date" in run(["make"], cwd=project).out
    # A time earlier than any other must not look newer, one that is later must.
    later = os.stat(project / "program").st_mtime_ns + 2_000_000_000
    write_file(project / "part3.c", b'#include "all.h"\nint part3(int x) { return x + 1003; }\n')
    os.utime(project / "part3.c", ns=(later, later))
    rebuilt = run(["make", "-n"], cwd=project).out
    assert "part3.c" in rebuilt and "part4.c" not in rebuilt
    run(["make", "-s"], cwd=project, timeout=120)
    assert run([project / "program"]).out == f"{sum(range(N)) + 1000}\n"
    run(["make", "-s", "clean"], cwd=project)
    assert sorted(os.listdir(project)) == sorted([*(f"part{i}.c" for i in range(N)), "main.c", "all.h", "Makefile"])
