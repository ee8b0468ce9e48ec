"""C-MOVE and C-GET of one study of 300 CT slices that lies on the disk, warm: how fast all of it comes, and its first image."""

import sys

from .figures import bench, markdown, median, number, ratio, spread
from .processes import Meter
from .servers import chosen, is_ours
from .store import started

IMAGES = 300
SERVICES = ["move", "get"]


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
        for service in SERVICES:
            more = ["--receive", server.sink] if service == "move" else []
            try:
                with Meter(server.pids) as meter:
                    result = bench(service, "--port", server.port, "--called", server.title, *more)[0]
                lost = images - result["images"]
                figures.add(scenario="retrieve", service=service, server=name, best=best, round=turn, **result, lost=lost,
                            server_cpu_ms=meter.cpu * 1000 / max(result["images"], 1), peak_mb=meter.peak / 1e6)
            except RuntimeError as error:
                figures.add(scenario="retrieve", service=service, server=name, best=best, round=turn, error=str(error)[:300])
    except Exception as error:
        print(f"{name}: {error}", file=sys.stderr)
        figures.add(scenario="retrieve", server=name, best=best, round=turn, error=str(error)[:300])
    finally:
        server.stop()


def table(figures):
    rows, summary = [], []
    for service in SERVICES:
        case = dict(scenario="retrieve", service=service)
        speeds = {}
        for name in dict.fromkeys(row["server"] for row in figures.of(**case)):
            best, shipped = (figures.of(**case, server=name, best=which) for which in (True, False))
            speeds[name] = median(best, "images_per_second")
            rows.append([
                f"C-{service.upper()}", name, spread(best, "images_per_second"), number(median(shipped, "images_per_second")),
                number(median(best, "mb_per_second")), number(median(best, "first_ms"), 1), number(median(best, "server_cpu_ms"), 2),
                number(median(best, "peak_mb")), number(median(best, "lost")),
            ])
        peers = {name: speed for name, speed in speeds.items() if speed and not is_ours(name)}
        fastest = max(peers, key=peers.get, default=None)
        for name in filter(is_ours, speeds):
            summary.append([f"C-{service.upper()}", name, number(speeds[name]), f"{ratio(speeds[name], peers.get(fastest))} ({fastest or '–'})"])
    heads = ["", "server", "images/s", "as shipped", "MB/s", "first image ms", "server CPU ms/image", "peak RSS MB", "missing"]
    return "\n".join(["## C-MOVE and C-GET of a study on the disk\n", markdown(heads, rows), markdown(["", "", "images/s", "÷ best peer"], summary)])
