"""What the kernel sees of one C-STORE: fdatasync of the file < rename < fsync of its directory < the catalogue's flush < the response."""

import re

from harness import dcmtk, sample
from harness.node import Node


def test_flush_rename_flush_commit_answer(tmp_path):
    trace = tmp_path / "trace"
    node = Node(tmp_path / "node")
    calls = "fsync,fdatasync,rename,renameat,renameat2,write,writev,sendto,sendmsg"
    # -D: strace runs beside the node, which stays our child; -yy names files and sockets.
    node.start(wrapper=["strace", "-D", "-f", "-ttt", "-yy", "-s", "16", "-o", str(trace), "-e", f"trace={calls}"])
    # The first image makes directories; the second one is the steady state.
    _, paths = sample.make_study(tmp_path / "study", images=2)
    dcmtk.dcmsend(node, paths[0])
    before = trace.stat().st_size
    dcmtk.dcmsend(node, paths[1])
    node.stop()
    lines = completed(trace.read_text(errors="replace")[before:])

    flushed = first(lines, r"f(data)?sync\(\d+<.*/incoming/[^>]*\.part")
    renamed = first(lines, r"rename(at2?)?\(.*incoming/.*\.dcm")
    directory = first(lines, r"f(data)?sync\(\d+<.*/hot/\d{4}-\d\d-\d\d/\d\d>")
    # What the node does beside it commits when it likes: only a flush after the directory's can hold this image's row.
    committed = first([line for line in lines if line > directory], r"f(data)?sync\(\d+<.*catalogue\.db")
    # The C-STORE-RSP: the first P-DATA-TF (04H) that leaves after the file was flushed.
    answered = first([line for line in lines if line > flushed], rf"(write|writev|sendto|sendmsg)\(\d+<TCP:\[127\.0\.0\.1:{node.port}->.*\\4\\0")
    assert flushed < renamed < directory < committed < answered


def completed(text):
    """(time of return, call) of each system call, `<unfinished ...>` joined with its end, in order of return."""
    pending, calls = {}, []
    for line in text.splitlines():
        found = re.match(r"(\d+) +(\d+\.\d+) (.*)", line)
        if not found:
            continue
        thread, at, call = found[1], float(found[2]), found[3]
        if call.endswith("<unfinished ...>"):
            pending[thread] = (at, call)
        elif call.startswith("<..."):
            if thread in pending:
                calls.append((at, pending.pop(thread)[1]))
        else:
            calls.append((at, call))
    return sorted(calls)


def first(lines, pattern):
    for line in lines:
        if re.match(pattern, line[1]):
            return line
    raise AssertionError(f"no call matches {pattern}:\n" + "\n".join(call for _, call in lines[:200]))
