"""The cold store, an S3 on the same machine: offload, retrieval of what has left the disk, and what both do to ingest, beside aws-sdk-s3 alone."""

import json
import shutil
import statistics
import subprocess
import sys
import time

from harness import cold
from harness.ports import free_port
from harness.s3 import KEY, SECRET, S3

from .figures import BENCH, bench, markdown, median, number, ratio, spread
from .processes import Meter
from .servers import Filmroom, chosen, is_ours

SLICES = 300
STUDIES = 4
INGEST = ("ingest alone", "ingest while offloading", "ingest while recalling", "ingest beside PUT alone", "ingest beside GET and flushed files")
RECALL = "C-MOVE of an evicted study"
LIMITS = (("offload", "PUT alone"), (RECALL, "GET alone"), (RECALL, "GET and flushed files"), (RECALL, "GET, flushed and sent files"))
DATABASES = {"filmroom, SQLite": "sqlite", "filmroom, PostgreSQL": "postgres"}


def study_uid(seed, study):
    """As `population` makes them."""
    return f"2.25.1{seed % 1_000_000:06}{study:010}{0:04}{0:06}"


def run(options, figures):
    store = S3(options.work / "s3")
    try:
        for turn in range(options.rounds):
            for name in filter(is_ours, chosen(options)):
                try:
                    measure(options, figures, name, store, turn + 1)
                except Exception as error:
                    print(f"{name}: {error}", file=sys.stderr)
                    figures.add(scenario="cold", server=name, round=turn + 1, error=str(error)[:300])
    finally:
        store.kill()


def measure(options, figures, name, store, turn):
    slices, studies = (20, 2) if options.quick else (SLICES, STUDIES)
    case = dict(scenario="cold", server=name, round=turn)
    bucket = cold.new_bucket(store.client())
    credentials = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    folder = options.work / "server"
    shutil.rmtree(folder, ignore_errors=True)
    sink = free_port()
    section = cold.section(bucket, store.endpoint, timeout="60s", interval="60s")
    server = Filmroom(folder, True, sink, database=DATABASES[name], sections=section, environment=credentials)
    try:
        server.start()
        bench("send", "--port", server.port, "--images", slices * studies, "--series", slices, "--associations", 2)
        size = sum(path.stat().st_size for path in server.node.hot_files())
        there = ["--endpoint", store.endpoint, "--bucket", bucket]
        put = ["put", *there, "--length", size // studies, "--parallel", 1]
        offload_in_turns(figures, case, server, put, size, studies)

        server.node.command("evict", study_uid(1, 0), timeout=600)
        with Meter(server.pids) as meter:
            moved = bench("move", "--port", server.port, "--receive", sink)[0]
        figures.add(**case, what=RECALL, **moved, lost=slices - moved["images"],
                    cpu_ms_per_mb=meter.cpu * 1e9 / max(moved["bytes"], 1), peak_mb=meter.peak / 1e6)
        fetch = ["fetch", *there, "--prefix", f"archive/{study_uid(1, 0)}/"]
        figures.add(**case, what="GET alone", **bench(*fetch)[0])
        kept, sent = folder / "kept", folder / "sent"
        kept.mkdir()
        sent.mkdir()
        keep = [*fetch, "--keep", kept]
        figures.add(**case, what="GET and flushed files", **bench(*keep)[0])
        figures.add(**case, what="GET, flushed and sent files", **bench(*fetch, "--keep", sent, "--receive", free_port())[0])

        ingest(figures, case, server, ([*put, "--prefix", "beside/"], keep), slices, studies)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def offload_in_turns(figures, case, server, put, size, studies):
    """Studies that have so many bytes in all go to S3, one after the other, and as much by aws-sdk-s3 alone: in turns, and neither always first."""
    seconds, cpu, peak, alone = 0, 0, 0, []
    for study in range(studies):
        for ours in (study % 2 == 0, study % 2 == 1):
            if not ours:
                alone.append(bench(*put, "--prefix", f"alone{study}/")[0])
                continue
            with Meter(server.pids) as meter:
                began = time.monotonic()
                server.node.command("offload", study_uid(1, study), timeout=600)
                seconds += time.monotonic() - began
            cpu, peak = cpu + meter.cpu, max(peak, meter.peak)
    figures.add(**case, what="offload", seconds=seconds, mb_per_second=size / 1e6 / seconds, cpu_ms_per_mb=cpu * 1e9 / size, peak_mb=peak / 1e6)
    alone = {key: sum(one[key] for one in alone) for key in ("objects", "bytes", "seconds")}
    figures.add(**case, what="PUT alone", **alone, mb_per_second=alone["bytes"] / 1e6 / alone["seconds"])


def ingest(figures, case, server, bare, slices, studies):
    """As many images come again and again: while nothing else happens, while those that came before are offloaded, while a study is recalled again and again,
    and while aws-sdk-s3 does the like of that alone."""
    def offload(sender):
        for study in range(studies):
            if sender.poll() is None:
                server.node.command("offload", study_uid(2, study), timeout=600)

    def recall(sender):
        moves = 0
        while sender.poll() is None:
            server.node.command("evict", study_uid(1, 0), timeout=600)
            moved = bench("move", "--port", server.port, "--receive", server.sink)[0]
            moves += 1
            if moved["images"] != slices:
                raise RuntimeError(f"{moved['images']} of {slices} images came")
        return dict(moves=moves)

    def repeated(command):
        def work(sender):
            moved = []
            while sender.poll() is None:
                moved.append(bench(*command)[0]["mb_per_second"])
            return dict(beside_mb_per_second=statistics.median(moved))
        return work

    for seed, (what, work) in enumerate(zip(INGEST, (None, offload, recall, *map(repeated, bare)), strict=True), start=2):
        sender = subprocess.Popen([BENCH, "send", "--port", str(server.port), "--images", str(slices * studies), "--series", str(slices),
                                   "--associations", "4", "--seed", str(seed)], stdout=subprocess.PIPE, text=True)
        more = (work and work(sender)) or {}
        output, _ = sender.communicate(timeout=600)
        figures.add(**case, what=what, **json.loads(output.splitlines()[0]), **more)


def table(figures):
    case = dict(scenario="cold")
    rows = []
    for name in dict.fromkeys(row["server"] for row in figures.of(**case)):
        of = lambda what: figures.of(**case, server=name, what=what)
        for what, limit in LIMITS:
            speed, bare = median(of(what), "mb_per_second"), median(of(limit), "mb_per_second")
            rows.append([what, name, spread(of(what), "mb_per_second"), f"{number(bare)} ({limit})", ratio(speed, bare),
                         number(median(of(what), "first_ms"), 0), number(median(of(what), "cpu_ms_per_mb"), 1), number(median(of(what), "peak_mb"))])
    heads = ["", "server", "MB/s", "aws-sdk-s3 alone", "ratio", "first image ms", "server CPU ms/MB", "peak RSS MB"]
    text = ["## The cold store\n", markdown(heads, rows)]
    rows = []
    for what in INGEST:
        for name in dict.fromkeys(row["server"] for row in figures.of(**case, what=what)):
            of = figures.of(**case, server=name, what=what)
            rows.append([what, name, spread(of, "images_per_second"), number(median(of, "p50_ms"), 1), number(median(of, "p99_ms"), 1),
                         ratio(median(of, "p99_ms"), median(figures.of(**case, server=name, what="ingest alone"), "p99_ms"))])
    text.append(markdown(["CT, 4 associations", "server", "images/s", "p50 ms", "p99 ms", "÷ alone"], rows))
    return "\n".join(text)
