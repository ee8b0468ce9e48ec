"""A site with an archive: the emulator of S3 Intelligent-Tiering with a bucket, one clock for it and for the nodes, destinations, and the nodes themselves."""

import json
import sqlite3

from . import cold, sample, scu
from .emulator import Emulator
from .node import Node
from .ports import wait_until
from .steered import Clock

ACCESS_DAYS, DEEP_DAYS = 90, 180

# Tests count what a node asks of the store while they turn the clock by months.
NO_SCRUB = '\n[scrub]\nhot_every = "never"\ncold_every = "never"\n'


def ae(title, port=None, **settings):
    """An [[ae]] section."""
    text = f'\n[[ae]]\ntitle = "{title}"\n'
    if port:
        text += f'address = "127.0.0.1:{port}"\n'
    return text + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())


class Site:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = Clock(folder / "clock")
        self.emulator = Emulator(folder / "s3", clock=self.clock.path)

    def __enter__(self):
        self.emulator.start()
        self.emulator.tier_by_age(ACCESS_DAYS, DEEP_DAYS)
        return self

    def __exit__(self, *exc):
        self.emulator.kill()

    def node(self, name="node", catalogue_url=None, offload_after="1h", evict_after="30d", retrieve='wait = "10m"\npending_interval = "1s"',
             cold_more="", sections="", peers=(), title="FILMROOM", environment=None, timeout="5s", scrub=NO_SCRUB):
        """A node that uses the bucket and goes by the site's clock; not started."""
        text = cold.section(self.emulator.bucket, self.emulator.endpoint, offload_after=offload_after, timeout=timeout, more=cold_more)
        text += f'\n[cold.archive]\naccess_days = {ACCESS_DAYS}\ndeep_days = {DEEP_DAYS}\n\n[hot]\nevict_after = "{evict_after}"\n\n[retrieve]\n{retrieve}\n'
        return Node(self.folder / name, catalogue_url, sections=text + scrub + sections + "".join(peers), title=title,
                    environment={**self.emulator.environment, "FILMROOM_CLOCK": str(self.clock.path), **(environment or {})})

    def pack(self, node, paths):
        """Stores files, and has them in verified packs and off the disk: every study of theirs is cold."""
        assert set(scu.store(node, paths).values()) == {0x0000}
        for study in dict.fromkeys(str(sample.read(path).StudyInstanceUID) for path in paths):
            node.command("offload", study)
            node.command("evict", study)

    def packs(self, study=""):
        """What the store knows of each pack, by key."""
        return {key: found for key, found in self.emulator.objects().items() if key.endswith(".zip") and study in key}

    def requests(self, operation=None):
        """How often the store was asked, by operation or for one."""
        counted = self.emulator.counters()["requests"]
        return counted if operation is None else counted.get(operation, 0)

    def asked(self, study=""):
        """Requests for a restore, the oldest first, whatever became of them."""
        return [asked for asked in self.emulator.counters()["restores"] if study in asked["key"]]

    def restores(self, study=""):
        """Those that the store accepted."""
        return [asked for asked in self.asked(study) if asked["outcome"] in ("accepted", "upgraded")]

    def messages(self):
        """Events that nobody has read and deleted yet."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = self.emulator.client("sqs").get_queue_attributes(QueueUrl=self.emulator.queue_url(), AttributeNames=names)["Attributes"]
        return sum(int(counts[name]) for name in names)

    def archived(self, study=""):
        """Whether every pack is in an archive tier."""
        return all(found["tier"] for found in self.packs(study).values())


def rows(node, sql):
    """What the catalogue has, asked behind the node's back."""
    if node.catalogue_url.startswith("sqlite:"):
        connection = sqlite3.connect(f"file:{node.catalogue_url.removeprefix('sqlite:')}?mode=ro", uri=True, timeout=20)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()
    import psycopg

    with psycopg.connect(node.catalogue_url, autocommit=True) as connection:
        return connection.execute(sql).fetchall()


def under_way(node, study):
    """Restores of a study that the store has accepted and the catalogue has on record as accepted. Before, a test had better not turn the clock: the node
    would believe that they were accepted after that."""
    sql = f"SELECT p.cold_key FROM restores r JOIN packs p ON p.id = r.pack WHERE r.state = 'restoring' AND p.cold_key LIKE '%{study}%'"
    return len(rows(node, sql))


def let_leases_run_out(node):
    """What some minutes of the database's clock, which no test can turn, do to what a dead node held."""
    import psycopg

    assert node.process.poll() is not None
    with psycopg.connect(node.catalogue_url, autocommit=True) as connection:
        identity = (node.data / "node-id").read_text().strip()
        (key,) = connection.execute("SELECT id FROM nodes WHERE node_id = %s", (identity,)).fetchone()
        for table in ("packs", "restores", "deliveries", "delivery_items"):
            connection.execute(f"UPDATE {table} SET lease_until = 0 WHERE node = %s", (key,))


def deliveries(node):
    """Open and ended ones, the newest first."""
    return [json.loads(line) for line in node.command("deliveries", "--json").stdout.splitlines()]


def availability(node, study):
    """Instance Availability (0008,0056) of a study, and of its series by UID."""
    of_study, _ = scu.find(node, "STUDY", StudyInstanceUID=study, InstanceAvailability="")
    of_series, _ = scu.find(node, "SERIES", StudyInstanceUID=study, SeriesInstanceUID="", InstanceAvailability="")
    return of_study[0].InstanceAvailability, {str(answer.SeriesInstanceUID): answer.InstanceAvailability for answer in of_series}


def wait_available(node, study, value, timeout=30):
    wait_until(lambda: availability(node, study)[0] == value, f"{study} to be {value}", timeout=timeout)
