"""C-STORE: how many images a second a server takes from some associations, what that costs it, and what it has flushed when it says so."""

import os
import shutil
import sys
import time

from harness.ports import free_port

from .figures import bench, markdown, median, number, ratio, spread
from .processes import Meter, flushes
from .servers import SERVERS, Least, chosen, is_ours

# Kind, associations, images; with --quick a twentieth of them.
CASES = [("ct", 1, 1000), ("ct", 4, 1000), ("ct", 8, 1000), ("mr", 4, 2000), ("cr", 4, 60), ("small", 4, 2000)]
KINDS = {"ct": "CT 527 KB", "mr": "MR 133 KB", "cr": "CR 10 MB", "small": "SR 3 KB"}
LIMIT = "bare limit"
JOURNAL = "bare journal"
DIRECT = "bare limit past the cache"
LEAST = "the least node"
LIMITS = (LIMIT, DIRECT, JOURNAL, LEAST)
TRACED = 20
# ext4 does not use the inode of a file again that was deleted a minute ago, and looks at each of these whenever it makes a file.
RECENTLY_DELETED = 70


def label(kind, associations):
    return f"{KINDS[kind]}, {associations} association{'s' if associations > 1 else ''}"


def run(options, figures):
    names = chosen(options)
    for name in names:
        trace(options, figures, name)
    for turn in range(options.rounds):
        for kind, associations, images in CASES:
            images = max(images // 20, associations) if options.quick else images
            case = dict(scenario="store", kind=kind, associations=associations, round=turn + 1)
            # Nobody is always the first after a pause, or always behind the same other.
            order = names[turn % max(len(names), 1):] + names[:turn % max(len(names), 1)]
            for name in order:
                measure(options, figures, name, case, images, best=True)
                if not is_ours(name):
                    # Some wait 40 ms with each answer as shipped; five seconds of that tell as much as a thousand images.
                    measure(options, figures, name, case, images, best=False)
            limit(options, figures, case, images, LIMIT)
            limit(options, figures, case, images, DIRECT, "--direct")
            limit(options, figures, case, images, JOURNAL, "--journal")
            measure(options, figures, LEAST, case, images, best=True)
            tidy(options, case)


def tidy(options, case):
    """Removes what was stored, and waits until the file system has forgotten it: nobody pays for those before."""
    if case["kind"] == "small" or shutil.disk_usage(options.work).free < 20e9:
        for old in options.work.glob("stored-*"):
            shutil.rmtree(old)
        os.sync()
        if not options.quick:
            time.sleep(RECENTLY_DELETED)


def fresh(options):
    """A folder that is not there yet; `tidy` removes it."""
    return options.work / f"stored-{time.monotonic_ns()}"


def started(options, name, best):
    make = Least if name == LEAST else SERVERS[name][0]
    return make(fresh(options), best, free_port())


def measure(options, figures, name, case, images, best):
    server = started(options, name, best)
    try:
        server.start()
        os.sync()
        with Meter(server.pids) as meter:
            result = bench("send", "--port", server.port, "--called", server.title, "--kind", case["kind"], "--images", images,
                           "--associations", case["associations"], *([] if best else ["--seconds", 5]))[0]
        done = max(result["images"], 1)
        figures.add(**case, server=name, best=best, **result, server_cpu_ms=meter.cpu * 1000 / done, peak_mb=meter.peak / 1e6)
    except Exception as error:
        figures.add(**case, server=name, best=best, error=str(error)[:300])
        print(f"{name}: {error}", file=sys.stderr)
    finally:
        server.stop()


def limit(options, figures, case, images, name, *more):
    folder = fresh(options)
    folder.mkdir()
    os.sync()
    result = bench("limit", "--directory", folder, "--kind", case["kind"], "--images", images, "--associations", case["associations"], *more)[0]
    figures.add(**case, server=name, best=True, **result)


def trace(options, figures, name):
    """What is flushed for an image, on one association; outside of the measured runs, for strace slows everything down."""
    server = started(options, name, True)
    try:
        server.start()
        send = lambda: bench("send", "--port", server.port, "--called", server.title, "--kind", "ct", "--images", TRACED)
        counts = flushes(server.pids, options.work, send)
        figures.add(scenario="flushes", server=name, counts=counts)
    except Exception as error:
        figures.add(scenario="flushes", server=name, error=str(error)[:300])
    finally:
        server.stop()


def flushed(figures, name):
    """In words, what one image costs in flushes."""
    rows = figures.of(scenario="flushes", server=name)
    counts = rows[0].get("counts") if rows else None
    if counts is None:
        return "not traced"
    parts = [f"{kind} {count / TRACED:.1f}" for kind, count in sorted(counts.items()) if count >= TRACED / 4]
    return ", ".join(parts) or "nothing"


def table(figures):
    heads = ["", "server", "images/s", "as shipped", "MB/s", "p50 ms", "p99 ms", "server CPU ms/image", "peak RSS MB", "refused", "flushes an image"]
    rows, summary = [], []
    for kind, associations, _ in CASES:
        case = dict(scenario="store", kind=kind, associations=associations)
        names = dict.fromkeys(row["server"] for row in figures.of(**case))
        speeds = {}
        for name in names:
            best = figures.of(**case, server=name, best=True)
            shipped = figures.of(**case, server=name, best=False)
            speeds[name] = median(best, "images_per_second")
            rows.append([
                label(kind, associations), name, spread(best, "images_per_second"), number(median(shipped, "images_per_second")),
                number(median(best, "mb_per_second")), number(median(best, "p50_ms"), 1), number(median(best, "p99_ms"), 1),
                number(median(best, "server_cpu_ms"), 2), number(median(best, "peak_mb")), number(median(best, "failed")),
                "everything" if name in LIMITS else flushed(figures, name),
            ])
        archives = {name: speed for name, speed in speeds.items() if speed and not is_ours(name) and name not in LIMITS and "no index" not in name}
        anybody = {name: speed for name, speed in speeds.items() if speed and not is_ours(name) and name not in LIMITS}
        for name in filter(is_ours, names):
            peer = max(archives, key=archives.get, default=None)
            fastest = max(anybody, key=anybody.get, default=None)
            summary.append([
                label(kind, associations), name, number(speeds[name]), f"{ratio(speeds[name], archives.get(peer))} ({peer or '–'})",
                f"{ratio(speeds[name], anybody.get(fastest))} ({fastest or '–'})", *(ratio(speeds[name], speeds.get(limit)) for limit in LIMITS),
            ])
    heads_of_summary = ["", "", "images/s", "÷ best archive", "÷ fastest of all peers", *(f"÷ {limit}" for limit in LIMITS)]
    return "\n".join(["## C-STORE\n", markdown(heads, rows), markdown(heads_of_summary, summary)])
