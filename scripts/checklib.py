# SPDX-License-Identifier: MIT
"""What the style checks share: which files there are, C text without comments, and how a finding is told."""

import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

findings = 0


def files(*patterns):
    """The project's files that match, those not yet committed too, as paths from the top."""
    command = ['git', '-C', TOP, 'ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', *patterns]
    names = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().split('\0')
    return sorted({name for name in names if name and os.path.isfile(os.path.join(TOP, name))})


def read(path):
    with open(os.path.join(TOP, path), encoding='utf-8') as file:
        return file.read()


def report(path, line, message):
    global findings
    findings += 1
    print(f'{path}:{line}: {message}')


def finish():
    sys.exit(1 if findings else 0)


_COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def strip_c(text, strings=True):
    """The text with comments blanked out (and what is between quotes), line numbers kept."""

    def blank(match):
        found = match.group(0)
        if found[0] in '"\'':
            return found[0] * 2 if strings else found
        return re.sub(r'[^\n]', ' ', found)

    return _COMMENT_OR_STRING.sub(blank, text)


def line_of(text, offset):
    return text.count('\n', 0, offset) + 1


def layers():
    """Name -> the set of layers that it may include, itself among them: read from src/meson.build."""
    table = re.findall(r"^    \['(\w+)',\s*\[([^\]]*)\]", read('src/meson.build'), re.MULTILINE)
    allowed = {}
    for name, below in table:
        allowed[name] = {name}
        for other in re.findall(r"'(\w+)'", below):
            allowed[name] |= allowed[other]
    return allowed
