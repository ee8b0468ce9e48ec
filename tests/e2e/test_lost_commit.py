"""The database's answer to COMMIT is lost: a proxy cuts the connection when the server has committed and before the node hears of it. The image is there
once, whether the node asked again or the sender sent again."""

import socket
import struct
import threading

import pytest
from conftest import drop_database, new_database
from harness import stream
from harness.node import Node


class Proxy:
    """Between the node and PostgreSQL. `arm` makes the next COMMIT's answer the last thing that this connection would have heard."""

    def __init__(self, server_port):
        self.server_port = server_port
        self.armed = False
        self.cut = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.server_port))
            for s in (client, server):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            state = {"committing": False}
            threading.Thread(target=self._to_server, args=(client, server, state), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client, state), daemon=True).start()

    def _to_server(self, client, server, state):
        while content := self._read(client):
            if self.armed and b"COMMIT" in content:
                self.armed = False
                state["committing"] = True
            self._write(server, content)
        self._close(client, server)

    def _to_client(self, server, client, state):
        while content := self._read(server):
            # CommandComplete 'C' with the tag COMMIT: the server has committed and flushed.
            if state["committing"] and b"COMMIT\0" in content:
                self.cut += 1
                break
            self._write(client, content)
        self._close(server, client)

    @staticmethod
    def _read(source):
        try:
            return source.recv(65536)
        except OSError:
            return b""

    @staticmethod
    def _write(target, content):
        try:
            target.sendall(content)
        except OSError:
            pass

    @staticmethod
    def _close(*sockets):
        for s in sockets:
            try:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                s.close()
            except OSError:
                pass

    def close(self):
        self.listener.close()


@pytest.fixture
def proxied(tmp_path):
    url, name = new_database()
    before, rest = url.rsplit("@", 1)
    port = int(rest.split("/")[0].rsplit(":", 1)[1])
    proxy = Proxy(port)
    node = Node(tmp_path / "node", f"{before}@127.0.0.1:{proxy.port}/{name}")
    with node:
        yield proxy, node
    proxy.close()
    drop_database(name)


def test_the_answer_to_commit_is_lost(proxied):
    proxy, node = proxied
    objects = list(stream.images(6))
    warm = stream.Sender(node, objects[:1])
    stream.send_all([warm])
    assert len(warm.acknowledged) == 1
    for one in objects[1:]:
        proxy.armed = True
        first = stream.Sender(node, [one])
        stream.send_all([first])
        # The sender does what modalities do when they hear no Success: it sends again.
        again = stream.Sender(node, [one])
        stream.send_all([again])
        assert again.acknowledged.keys() == {one[0]}
    assert proxy.cut == len(objects) - 1, "the proxy cut no COMMIT"
    assert node.status()["instances"] == len(objects)
    assert node.quarantine() == []
    node.kill()
    node.start()
    assert node.status()["instances"] == len(objects)
