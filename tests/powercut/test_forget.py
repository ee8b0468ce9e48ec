#!/usr/bin/env python3
"""Shows that forget.c forgets what was not flushed, and nothing else. Needs a C compiler."""

import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent


class Forget(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.built = tempfile.TemporaryDirectory()
        cls.library = pathlib.Path(cls.built.name) / "libforget.so"
        subprocess.run(
            ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", cls.library, HERE / "forget.c", "-ldl", "-lpthread"], check=True
        )

    @classmethod
    def tearDownClass(cls):
        cls.built.cleanup()

    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)
        self.base = pathlib.Path(self.scratch.name)
        (self.base / "root").mkdir()

    def cut(self, program, root="root", cut="after"):
        """Runs a program that kills itself, and restores what was durable into a new directory."""
        shadow, after = self.base / f"shadow-{cut}", self.base / cut
        shadow.mkdir()
        environment = dict(os.environ, LD_PRELOAD=str(self.library), FORGET_ROOT=str(self.base / root), FORGET_SHADOW=str(shadow))
        prelude = "import os, signal, sqlite3\n"
        script = prelude + program + "\nos.kill(os.getpid(), signal.SIGKILL)\n"
        done = subprocess.run([sys.executable, "-c", script], cwd=self.base / root, env=environment, timeout=60)
        self.assertEqual(done.returncode, -signal.SIGKILL)
        subprocess.run([sys.executable, HERE / "restore.py", shadow, after], check=True)
        return after

    WRITE = """
def flush(path, flags=os.O_RDONLY):
    fd = os.open(path, flags); os.fsync(fd); os.close(fd)
def write(path, content, durable):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644); os.write(fd, content)
    if durable: os.fdatasync(fd)
    os.close(fd)
"""

    def test_a_file_whose_directory_was_not_flushed_has_no_name(self):
        after = self.cut(self.WRITE + "write('named', b'x', True); flush('.'); write('unnamed', b'y', True)")
        self.assertEqual(sorted(p.name for p in after.iterdir()), ["named"])

    def test_bytes_that_were_not_flushed_are_gone(self):
        after = self.cut(self.WRITE + "write('a', b'one', True); write('a', b'two!', False); write('b', b'never', False); flush('.')")
        self.assertEqual((after / "a").read_bytes(), b"one")
        self.assertEqual((after / "b").read_bytes(), b"")

    def test_a_rename_counts_once_the_directory_is_flushed(self):
        setup = "write('part', b'x', True); os.mkdir('hot'); flush('.'); os.rename('part', 'hot/whole')"
        after = self.cut(self.WRITE + setup, cut="unflushed")
        self.assertEqual(sorted(str(p.relative_to(after)) for p in after.rglob("*")), ["hot", "part"])
        (self.base / "second").mkdir()
        after = self.cut(self.WRITE + setup + "; flush('hot'); flush('.')", root="second", cut="flushed")
        self.assertEqual(sorted(str(p.relative_to(after)) for p in after.rglob("*")), ["hot", "hot/whole"])
        self.assertEqual((after / "hot/whole").read_bytes(), b"x")

    def test_what_was_there_before_the_program_started_is_durable(self):
        (self.base / "root/old").mkdir()
        (self.base / "root/old/file").write_bytes(b"kept")
        after = self.cut("open('new', 'w').close()")
        self.assertEqual(sorted(str(p.relative_to(after)) for p in after.rglob("*")), ["old", "old/file"])
        self.assertEqual((after / "old/file").read_bytes(), b"kept")

    def test_an_inode_that_is_used_again_does_not_bring_back_old_bytes(self):
        program = "write('old', b'old', True); flush('.'); os.unlink('old'); write('new', b'new', False); flush('.')"
        after = self.cut(self.WRITE + program)
        self.assertEqual([(p.name, p.read_bytes()) for p in after.iterdir()], [("new", b"")])

    def test_a_commit_of_sqlite_survives_and_an_open_transaction_does_not(self):
        program = """
db = sqlite3.connect('catalogue.db', isolation_level=None)
db.execute('PRAGMA journal_mode=WAL'); db.execute('PRAGMA synchronous=FULL')
db.execute('CREATE TABLE t (n INTEGER)')
for n in range(300):
    db.execute('INSERT INTO t VALUES (?)', (n,))
db.execute('BEGIN'); db.execute('INSERT INTO t VALUES (-1)')
"""
        after = self.cut(program)
        self.assertEqual(sorted(p.name for p in after.iterdir()), ["catalogue.db", "catalogue.db-wal"])
        with sqlite3.connect(after / "catalogue.db") as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            self.assertEqual([n for (n,) in db.execute("SELECT n FROM t ORDER BY n")], list(range(300)))


if __name__ == "__main__":
    unittest.main()
