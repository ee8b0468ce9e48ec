"""C-FIND on one open association, and what a large catalogue costs otherwise: bytes an instance, memory, time to start, also after a kill, and the rate of ingest.

The node's catalogues are generated: as many instances a study as a study has. A peer has to be sent to; it gets the first instance of each study, which
is less work for it, and no million of them, which would take it hours.
"""

import shutil
import subprocess
import sys
import time
import uuid

import psycopg
from harness.ports import is_open

from .figures import BENCH, bench, markdown, median, number, ratio, spread
from .processes import Meter, resident
from .servers import SERVERS, Filmroom, chosen, is_ours
from .store import started

NODE = uuid.UUID("019a0000-0000-7000-8000-000000000001")
SMALL = 20_000
# Kind and number of the images that arrive beside so many studies.
ARRIVING = [("small", 2000), ("ct", 400)]


def run(options, figures):
    small = 300 if options.quick else SMALL
    large = min(options.million, 1_000) if options.quick else options.million
    sizes = sorted({small, max(small, large // 5), large})
    names = chosen(options, "find")
    for name in filter(is_ours, names):
        ours(options, figures, name, sizes)
    for name in names:
        if not is_ours(name):
            theirs(options, figures, name, small)


def generate(options, figures, studies):
    """A catalogue of so many studies in a file of SQLite; one that was kept is taken as it is."""
    folder = options.catalogues or options.work / "catalogues"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{studies}.db"
    if not path.exists():
        part = folder / f"{studies}.part.db"
        for left in folder.glob(f"{part.name}*"):
            left.unlink()
        result = bench("catalogue", "--url", f"sqlite:{part}", "--studies", studies, "--node", NODE, timeout=4 * 3600)[0]
        figures.add(scenario="catalogue", **result, size=part.stat().st_size, database="sqlite")
        part.rename(path)
    return path


def ours(options, figures, name, sizes):
    """Catalogues of all sizes, and an empty one beside them: they are compared in turns."""
    make, _ = SERVERS[name]
    folder = options.work / "servers"
    shutil.rmtree(folder, ignore_errors=True)
    servers = {studies: make(folder / str(studies), True, 1) for studies in [0, *sizes]}
    try:
        for studies, server in list(servers.items())[1:]:
            server.node.data.mkdir()
            (server.node.data / "node-id").write_text(f"{NODE}\n")
            shutil.copy(generate(options, figures, studies), server.node.data / "catalogue.db")
            if server.database:
                copy(figures, server, studies)
            questions(options, figures, dict(server=name, studies=studies), server)
        for turn in range(options.rounds):
            for studies, server in servers.items():
                arrivals(options, figures, dict(server=name, studies=studies, round=turn + 1), server)
    except Exception as error:
        print(f"{name}: {error}", file=sys.stderr)
        figures.add(scenario="find", server=name, error=str(error)[:300])
    finally:
        for server in servers.values():
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def questions(options, figures, case, server):
    figures.add(scenario="start", **case, after="clean stop", seconds=start_seconds(server.node))
    server.pids = [server.node.process.pid]
    idle = resident(server.pids)
    ask(options, figures, server, server.node.port, case)
    figures.add(scenario="memory", **case, idle_mb=idle / 1e6, peak_mb=server.node.memory_peak() / 1e6)
    killed(server.node)
    figures.add(scenario="start", **case, after="kill -9", seconds=start_seconds(server.node))
    server.node.stop()


def arrivals(options, figures, case, server):
    """What comes in beside what is there, over four associations."""
    server.start()
    for kind, images in ARRIVING:
        images = images // 20 if options.quick else images
        result = bench("send", "--port", server.port, "--called", server.title, "--kind", kind, "--images", images, "--associations", 4,
                       "--seed", 100 + case["round"])[0]
        figures.add(scenario="ingest", **case, kind=kind, **result)
    server.node.stop()


def copy(figures, server, studies):
    """The embedded catalogue brought over by the command that is there for it."""
    began = time.monotonic()
    embedded = Filmroom(server.node.folder / "embedded", True, 1)
    embedded.node.data.mkdir()
    shutil.move(server.node.data / "catalogue.db", embedded.node.data / "catalogue.db")
    embedded.node.command("catalogue", "copy", server.database.url, timeout=4 * 3600)
    with psycopg.connect(server.database.url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        size = connection.execute("SELECT pg_database_size(current_database())").fetchone()[0]
        instances = connection.execute("SELECT sum(instances) FROM patients").fetchone()[0]
    figures.add(scenario="catalogue", database="postgres", studies=studies, instances=int(instances), seconds=time.monotonic() - began, size=size)


def start_seconds(node):
    """Until the DICOM port takes connections."""
    began = time.monotonic()
    node.spawn()
    while not is_open(node.port):
        if node.process.poll() is not None or time.monotonic() > began + 600:
            raise RuntimeError(f"the node did not start: {node.log()[-2000:]}")
        time.sleep(0.002)
    return time.monotonic() - began


def killed(node):
    """kill -9 while images arrive."""
    sender = subprocess.Popen([BENCH, "send", "--port", str(node.port), "--kind", "mr", "--images", "20000", "--associations", "2", "--seed", "9"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while len(node.hot_files()) < 50 and time.monotonic() < deadline:
        time.sleep(0.05)
    node.kill()
    sender.wait()


def theirs(options, figures, name, studies):
    server = started(options, name, True)
    case = dict(server=name, studies=studies)
    try:
        server.start()
        loaded = bench("send", "--port", server.port, "--called", server.title, "--kind", "header", "--series", 0, "--images", studies,
                       "--studies", studies, "--associations", 4, timeout=3600)[0]
        figures.add(scenario="load", **case, **loaded)
        ask(options, figures, server, server.port, case)
    except Exception as error:
        print(f"{name}: {error}", file=sys.stderr)
        figures.add(scenario="find", **case, error=str(error)[:300])
    finally:
        server.stop()


def ask(options, figures, server, port, case):
    count = 10 if options.quick else 200
    with Meter(server.pids):
        for row in bench("find", "--port", port, "--called", server.title, "--studies", case["studies"], "--count", count):
            figures.add(scenario="find", **case, **row)


def table(figures):
    questions = list(dict.fromkeys(row["question"] for row in figures.of(scenario="find") if "question" in row))
    columns = list(dict.fromkeys((row["server"], row["studies"]) for row in figures.of(scenario="find") if "question" in row))
    rows = []
    for question in questions:
        cells = []
        for server, studies in columns:
            found = figures.of(scenario="find", server=server, studies=studies, question=question)
            cells.append(f"{number(found[0]['p50_ms'], 1)} / {number(found[0]['p99_ms'], 1)} ({number(found[0]['answers'], 0)})" if found else "–")
            if found and found[0]["status"] != "0000":
                cells[-1] += f" {found[0]['status']}"
        rows.append([question, *cells])
    heads = ["p50 / p99 ms (answers)", *(f"{server}, {number(studies)} studies" for server, studies in columns)]
    text = ["## C-FIND on one open association\n", markdown(heads, rows)]
    starts = [[row["server"], number(row["studies"]), row["after"], number(row["seconds"], 2)] for row in figures.of(scenario="start")]
    text.append(markdown(["start to listening", "studies", "after", "s"], starts))
    memory = [[row["server"], number(row["studies"]), number(row["idle_mb"]), number(row["peak_mb"])] for row in figures.of(scenario="memory")]
    text.append(markdown(["memory of the node", "studies", "idle MB", "peak MB"], memory))
    made = [[row["database"], number(row["studies"]), number(row["instances"]), number(row["seconds"]), number(row["size"] / 1e6),
             number(row["size"] / max(row["instances"], 1))] for row in figures.of(scenario="catalogue")]
    text.append(markdown(["catalogue", "studies", "instances", "made in s", "MB", "bytes an instance"], made))
    rows = [[server, number(studies), *(ingest_cell(figures, server, studies, kind) for kind, _ in ARRIVING)]
            for server, studies in dict.fromkeys((row["server"], row["studies"]) for row in figures.of(scenario="ingest"))]
    text.append(markdown(["images/s that arrive beside", "studies", *(f"{kind} (÷ empty)" for kind, _ in ARRIVING)], rows))
    return "\n".join(text)


def ingest_cell(figures, server, studies, kind):
    rows = figures.of(scenario="ingest", server=server, studies=studies, kind=kind)
    empty = figures.of(scenario="ingest", server=server, studies=0, kind=kind)
    rate = "images_per_second"
    return f"{spread(rows, rate)} ({ratio(median(rows, rate), median(empty, rate))})"
