#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compares the tables of docs/FORMAT.md with the program: every struct on disk, every field with its offset, size and type, the
constants, and the numbers of the checker's findings. What it finds out about the structs comes from the compiler.

    check_format_doc.py [--cc COMPILER] [TOP]"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

STRUCT_HEADING = re.compile(r'^### `struct (mapfs_disk_\w+)` \((\d+) bytes\)$')
HEADER_STRUCT = re.compile(r'^struct (mapfs_disk_\w+) \{(.*?)^\};', re.MULTILINE | re.DOTALL)
MEMBER = re.compile(r'^\s*(?:struct )?(\w+)\s+(\w+)(\[[^\]]*\])?;', re.MULTILINE)
TYPES = {'mapfs_le16': 'le16', 'mapfs_le32': 'le32', 'mapfs_le64': 'le64', 'uint8_t': 'u8', 'char': 'char'}

problems = []


def complain(text):
    problems.append(text)
    print(text)


def cells(line):
    return [cell.strip() for cell in re.split(r'(?<!\\)\|', line.strip())[1:-1]]


def read_document(path):
    """Structs: {name: (size, [row, ...])}; constants: {name: value}; findings: {number: (name, meaning)}."""
    structs, constants, findings = {}, {}, {}
    struct = None
    for line in path.read_text().split('\n'):
        heading = STRUCT_HEADING.match(line)
        if heading:
            struct = heading.group(1)
            structs[struct] = (int(heading.group(2)), [])
        elif line.startswith('#'):
            struct = None
        elif line.startswith('| '):
            row = cells(line)
            if struct and len(row) == 6 and row[0] != 'Offset':
                structs[struct][1].append(row)
            elif len(row) == 3 and re.fullmatch(r'`MAPFS_\w+`', row[0]):
                constants[row[0].strip('`')] = int(row[1])
            elif len(row) == 3 and row[0].isdigit():
                findings[int(row[0])] = (row[1], row[2])
    return structs, constants, findings


def read_headers(top):
    """{struct: [(type, field, brackets), ...]} as written in src/format."""
    structs = {}
    for path in sorted((top / 'src/format').glob('*.h')):
        text = re.sub(r'/\*.*?\*/', '', path.read_text(), flags=re.DOTALL)
        for found in HEADER_STRUCT.finditer(text):
            structs[found.group(1)] = [(kind, name, brackets or '') for kind, name, brackets in MEMBER.findall(found.group(2))]
    return structs


def compare_members(name, rows, members):
    documented = [row[3] for row in rows]
    declared = [field for _, field, _ in members]
    if documented != declared:
        complain(f'struct {name}: the document has the fields {documented}, the header {declared}')
        return
    for row, (kind, field, brackets) in zip(rows, members):
        base, _, dimension = row[2].partition('[')
        if base != TYPES.get(kind, kind):
            complain(f'struct {name}: {field} is of type {row[2]} in the document, {kind} in the header')
        if bool(dimension) != bool(brackets) or (dimension == ']') != (brackets == '[]'):
            complain(f'struct {name}: {field} is {row[2]} in the document, {kind}{brackets} in the header')


def assertions(structs, constants):
    """A C file that does not compile unless the numbers are right."""
    lines = ['#include <stddef.h>']
    lines += [f'#include "format/{header}.h"' for header in ('superblock', 'node', 'key', 'items', 'log')]

    def check(condition, text):
        lines.append(f'_Static_assert({condition}, "{text}");')

    for name, (size, rows) in structs.items():
        end = 0
        check(f'sizeof(struct {name}) == {size}', f'struct {name}: size')
        for row in rows:
            offset, field, is_rest = int(row[0]), row[3], row[2].endswith('[]')
            check(f'offsetof(struct {name}, {field}) == {offset}', f'struct {name}: offset of {field}')
            if offset != end:
                complain(f'struct {name}: {field} at {offset} does not follow the field before, which ends at {end}')
            if is_rest:
                continue
            end = offset + int(row[1])
            check(f'sizeof(((struct {name} *)0)->{field}) == {row[1]}', f'struct {name}: size of {field}')
            dimension = re.search(r'\[(\d+)\]', row[2])
            if dimension:
                check(f'sizeof(((struct {name} *)0)->{field}) / sizeof(((struct {name} *)0)->{field}[0]) == {dimension.group(1)}',
                      f'struct {name}: dimension of {field}')
        if end != size:
            complain(f'struct {name}: its fields end at {end}, its size is {size}')
    for name, value in constants.items():
        check(f'{name} == {value}ull', name)
    return '\n'.join(lines) + '\n'


def compile_assertions(top, compiler, text):
    with tempfile.TemporaryDirectory() as directory:
        source = pathlib.Path(directory) / 'format.c'
        source.write_text(text)
        result = subprocess.run([*compiler.split(), '-std=gnu11', '-fsyntax-only', f'-I{top / "src"}', str(source)],
                                capture_output=True, text=True, check=False)
    for line in result.stderr.split('\n'):
        failed = re.search(r'error: static.assert(?:ion)? failed(?: due to requirement [^"]*\')?:? "(.*)"', line)
        if failed:
            complain(f'{failed.group(1)}: not as in the program')
        elif 'error' in line and 'errors generated' not in line and 'error generated' not in line:
            complain(line)
    if result.returncode != 0 and not problems:
        complain(result.stderr)


def compare_findings(top, findings):
    numbers = dict(re.findall(r'(MAPFS_\w+) = (\d+)', (top / 'src/check/problem.h').read_text()))
    program = {}
    for name, short, meaning in re.findall(r'(?:PROBLEM|INFO)\((MAPFS_\w+),\s*"([^"]+)",\s*"([^"]+)"\)',
                                           (top / 'src/check/problem.c').read_text()):
        program[int(numbers[name])] = (short, meaning)
    if len(program) != len(numbers):
        complain(f'src/check/problem.c describes {len(program)} of {len(numbers)} findings')
    for number in sorted(set(findings) | set(program)):
        if findings.get(number) != program.get(number):
            complain(f'finding {number}: {findings.get(number)} in the document, {program.get(number)} in the program')


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--cc', default='cc')
    parser.add_argument('top', nargs='?', default=pathlib.Path(__file__).resolve().parents[2], type=pathlib.Path)
    arguments = parser.parse_args()

    structs, constants, findings = read_document(arguments.top / 'docs/FORMAT.md')
    headers = read_headers(arguments.top)
    for name in sorted(set(headers) ^ set(structs)):
        complain(f'struct {name} is only in {"src/format" if name in headers else "the document"}')
    for name in sorted(set(headers) & set(structs)):
        compare_members(name, structs[name][1], headers[name])
    compile_assertions(arguments.top, arguments.cc, assertions(structs, constants))
    compare_findings(arguments.top, findings)
    n_fields = sum(len(rows) for _, rows in structs.values())
    print(f'{len(structs)} structs with {n_fields} fields, {len(constants)} constants, {len(findings)} findings: '
          f'{len(problems)} differences')
    if min(len(structs), n_fields, len(constants), len(findings)) == 0:
        complain('the document has no tables')
    return 1 if problems else 0


sys.exit(main())
