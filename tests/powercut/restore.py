#!/usr/bin/env python3
"""Rebuilds what a disk would hold after a power cut, from what forget.c remembered.

Usage: restore.py SHADOW TARGET

TARGET is made and must not exist. Names come from the directories that were flushed, contents from the files that were; a file that has a durable name and
was never flushed is empty. SQLite's shared memory (*-shm) is dropped: it is no file of record.
"""

import pathlib
import shutil
import sys


def entries(shadow, key):
    """The entries of a directory as it was flushed last; none if it never was."""
    listing = shadow / f"dir.{key}"
    if not listing.exists():
        return
    for record in listing.read_bytes().split(b"\0"):
        if record:
            kind, entry, name = record.split(b" ", 2)
            yield kind.decode(), entry.decode(), name.decode(errors="surrogateescape")


def restore(shadow, key, target):
    target.mkdir()
    for kind, entry, name in entries(shadow, key):
        place = target / name
        if kind == "d":
            restore(shadow, entry, place)
        elif not name.endswith("-shm"):
            content = shadow / f"inode.{entry}"
            if content.exists():
                shutil.copyfile(content, place)
            else:
                place.touch()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    shadow, target = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    root = shadow / "root"
    if not root.exists():
        sys.exit(f"{root} is missing: the program was killed before it had started, or ran without forget.c")
    restore(shadow, root.read_text(), target)


if __name__ == "__main__":
    main()
