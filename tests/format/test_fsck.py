#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The command fsck.mapfs: exit statuses, text, JSON, options. Argument: the build directory."""

import json
import pathlib
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(sys.argv[1])
failures = 0


def fsck(*words):
    return subprocess.run([str(BUILD / 'fsck.mapfs'), *map(str, words)], capture_output=True, text=True, check=False,
                          timeout=60)


def expect(condition, what, result):
    global failures
    if not condition:
        failures += 1
        print(f'not so: {what}\nstatus {result.returncode}\n{result.stdout}{result.stderr}')


def make(image, *words):
    subprocess.run([str(BUILD / 'mkfs.mapfs'), '-s', '8M', *words, str(image)], check=True, capture_output=True, timeout=60)


def root_block(data):
    slots = [data[at:at + 4096] for at in (0, 4096)]
    newest = max(slots, key=lambda slot: int.from_bytes(slot[24:32], 'little'))
    return int.from_bytes(newest[144:152], 'little')


def test_clean(work):
    image = work / 'clean'
    make(image)
    before = image.read_bytes()
    for option in ('-n', '-y', '-f', '-v', '-V', '-C', '-C0'):
        result = fsck(option, image)
        expect(result.returncode == 0 and 'clean' in result.stdout and str(image) in result.stdout, f'{option}: clean', result)
    for option in ('-p', '-a'):
        result = fsck(option, image)
        expect(result.returncode == 0 and result.stdout + result.stderr == '', f'{option} is silent', result)
    result = fsck('--json', image)
    facts = json.loads(result.stdout)
    expect(facts['clean'] and facts['complete'] and facts['problems'] == [] and facts['inodes'] == 1, 'JSON: clean', result)
    expect(image.read_bytes() == before, 'the image is as it was', result)


def test_damaged(work):
    image = work / 'damaged'
    make(image)
    data = bytearray(image.read_bytes())
    root = root_block(data)
    data[root * 4096 + 4000] ^= 1
    image.write_bytes(data)
    for option in ('-n', '-p'):
        result = fsck(option, image)
        expect(result.returncode == 4 and 'problem 11:' in result.stdout and str(root) in result.stdout, 'problem 11', result)
        expect(('it takes -y' in result.stdout) == (option == '-p'), f'{option} and repair', result)
    result = fsck('--json', image)
    facts = json.loads(result.stdout)
    expect(result.returncode == 4 and not facts['clean'], 'JSON: not clean', result)
    expect(any(p['code'] == 11 and p['block'] == root and p['name'] == 'node-checksum' and p['message']
               for p in facts['problems']), 'JSON: problem 11', result)
    expect(image.read_bytes() == bytes(data), 'the image is as it was', result)


def test_repair(work):
    image = work / 'repaired'
    make(image)
    data = bytearray(image.read_bytes())
    data[root_block(data) * 4096 + 4000] ^= 1
    image.write_bytes(data)
    result = fsck('-y', image)
    expect(result.returncode == 1 and 'lost: ' in result.stdout and 'repaired' in result.stdout, '-y repairs', result)
    repaired = image.read_bytes()
    result = fsck('-y', image)
    expect(result.returncode == 0 and image.read_bytes() == repaired, 'a second run changes nothing', result)
    result = fsck('--json', image)
    expect(result.returncode == 0 and json.loads(result.stdout)['problems'] == [], 'JSON after a repair: clean', result)


def test_repair_refuses(work):
    image = work / 'without-superblock'
    make(image)
    data = bytearray(image.read_bytes())
    for slot in (0, 4096):
        data[slot + 144] ^= 1  # where the root lies
    image.write_bytes(data)
    result = fsck('-y', image)
    expect(result.returncode in (4, 8), 'without a superblock, and what names the tree, nothing is repaired', result)
    expect(image.read_bytes() == bytes(data), 'and nothing changed', result)


def test_torn_slot_is_a_note(work):
    image = work / 'torn'
    make(image)
    data = bytearray(image.read_bytes())
    other = 0 if int.from_bytes(data[24:32], 'little') < int.from_bytes(data[4096 + 24:4096 + 32], 'little') else 4096
    newest = 4096 - other
    data[other:other + 512] = data[newest:newest + 512]
    data[other + 300] ^= 1
    image.write_bytes(data)
    result = fsck('-n', image)
    expect(result.returncode == 0 and 'note 90:' in result.stdout, 'a torn slot is a note', result)
    result = fsck('--json', image)
    expect(json.loads(result.stdout)['notes'][0]['code'] == 90, 'JSON: a torn slot is a note', result)


def test_refused(work):
    foreign = work / 'foreign'
    foreign.write_bytes(b'x' * 100_000)
    zeros = work / 'zeros'
    zeros.write_bytes(bytes(100_000))
    for path in (foreign, zeros, work / 'missing', work):
        result = fsck('-n', path)
        expect(result.returncode == 8 and str(path) in result.stderr, f'{path.name} is refused', result)
    short = work / 'short'
    make(short)
    with open(short, 'r+b') as file:
        file.truncate(4 << 20)
    result = fsck('-n', short)
    expect(result.returncode == 4 and 'problem 3:' in result.stdout, 'a truncated image is problem 3', result)
    expect('the check is not complete' in result.stdout, 'past the superblock nothing is checked', result)
    result = fsck('--json', short)
    expect(json.loads(result.stdout)['complete'] is False, 'JSON: a truncated image is not checked completely', result)
    for words in ((), ('-Z', foreign), (foreign, zeros), ('--offset', '7', foreign), ('--offset', 'x', foreign)):
        result = fsck(*words)
        expect(result.returncode == 16 and result.stderr, f'{words} is wrong use', result)
    result = fsck('--help')
    expect(result.returncode == 0 and 'Usage' in result.stdout, '--help', result)


def test_offset(work):
    image = work / 'offset'
    make(image, '--offset', '1M')
    result = fsck('-n', '--offset', '1M', image)
    expect(result.returncode == 0, 'an image at an offset', result)
    result = fsck('-n', image)
    expect(result.returncode == 8, 'nothing at the start of the file', result)


def main():
    with tempfile.TemporaryDirectory(prefix='mapfs-fsck-') as directory:
        for test in (test_clean, test_damaged, test_repair, test_repair_refuses, test_torn_slot_is_a_note, test_refused, test_offset):
            test(pathlib.Path(directory))
    return 1 if failures else 0


sys.exit(main())
