"""C-MOVE and C-GET of one study of 300 CT slices that lies on the disk: how fast all of it comes, and its first image.

Right after it was stored, what a server wrote is in memory still, or is not; the second time it is in memory everywhere. A prior that somebody opens is in memory
nowhere: where the system lets us, its page cache is emptied for that.
"""

import os
import sys
from pathlib import Path

from .figures import bench, markdown, median, number, ratio, spread
from .processes import Meter
from .servers import chosen, is_ours
from .store import started

IMAGES = 300
DROP_CACHES = Path("/proc/sys/vm/drop_caches")
# Service, its name here, whether it is of a prior.
RETRIEVALS = [("move", "C-MOVE, just stored", False), ("move", "C-MOVE, again", False), ("get", "C-GET, again", False), ("move", "C-MOVE, a prior", True)]


def run(options, figures):
    names = chosen(options, "retrieve")
    for turn in range(options.rounds):
        for name in names:
            measure(options, figures, name, turn + 1, best=True)
            if not is_ours(name):
                measure(options, figures, name, turn + 1, best=False)


def measure(options, figures, name, turn, best):
    images = 30 if options.quick or not best else IMAGES
    server = started(options, name, best)
    try:
        server.start()
        bench("send", "--port", server.port, "--called", server.title, "--images", images, "--series", IMAGES)
        for service, retrieval, prior in RETRIEVALS:
            more = ["--receive", server.sink] if service == "move" else []
            if prior and not empty_page_cache():
                continue
            try:
                with Meter(server.pids) as meter:
                    result = bench(service, "--port", server.port, "--called", server.title, *more)[0]
                lost = images - result["images"]
                figures.add(scenario="retrieve", retrieval=retrieval, server=name, best=best, round=turn, **result, lost=lost,
                            server_cpu_ms=meter.cpu * 1000 / max(result["images"], 1), peak_mb=meter.peak / 1e6)
            except RuntimeError as error:
                figures.add(scenario="retrieve", retrieval=retrieval, server=name, best=best, round=turn, error=str(error)[:300])
    except Exception as error:
        print(f"{name}: {error}", file=sys.stderr)
        figures.add(scenario="retrieve", server=name, best=best, round=turn, error=str(error)[:300])
    finally:
        server.stop()


def empty_page_cache():
    """Whether the system let us."""
    os.sync()
    try:
        DROP_CACHES.write_text("1")
    except OSError:
        return False
    return True


def table(figures):
    rows, summary = [], []
    for _, retrieval, _ in RETRIEVALS:
        case = dict(scenario="retrieve", retrieval=retrieval)
        speeds = {}
        for name in dict.fromkeys(row["server"] for row in figures.of(**case)):
            best, shipped = (figures.of(**case, server=name, best=which) for which in (True, False))
            speeds[name] = median(best, "images_per_second")
            rows.append([
                retrieval, name, spread(best, "images_per_second"), number(median(shipped, "images_per_second")),
                number(median(best, "mb_per_second")), number(median(best, "first_ms"), 1), number(median(best, "server_cpu_ms"), 2),
                number(median(best, "peak_mb")), number(median(best, "lost")),
            ])
        peers = {name: speed for name, speed in speeds.items() if speed and not is_ours(name)}
        fastest = max(peers, key=peers.get, default=None)
        for name in filter(is_ours, speeds):
            summary.append([retrieval, name, number(speeds[name]), f"{ratio(speeds[name], peers.get(fastest))} ({fastest or '–'})"])
    heads = ["", "server", "images/s", "as shipped", "MB/s", "first image ms", "server CPU ms/image", "peak RSS MB", "missing"]
    return "\n".join(["## C-MOVE and C-GET of a study on the disk\n", markdown(heads, rows), markdown(["", "", "images/s", "÷ best peer"], summary)])
