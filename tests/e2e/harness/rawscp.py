"""A Storage SCP by hand: it accepts what it is told to, keeps data sets as they come, and remembers every PDU's length and every proposal."""

import socket
import struct
import threading

from . import raw


class RawScp:
    """`accepts` says for (abstract syntax, transfer syntax) whether a context is taken; `max_pdu` is announced; `answer` gives the status of each store."""

    def __init__(self, title="RAWSCP", accepts=lambda abstract, syntax: True, max_pdu=16384, answer=lambda store: 0x0000, max_associations=50, port=0):
        self.title, self.accepts, self.max_pdu, self.answer = title, accepts, max_pdu, answer
        self.port = port
        self.room = threading.Semaphore(max_associations)
        self.stored, self.commands, self.proposals, self.pdus, self.error = {}, [], [], [], None

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *exc):
        # Closed alone, it would still accept the one connection that its thread waits for.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _listen(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(Peer(connection),), daemon=True).start()

    def _serve(self, peer):
        with peer, self.room:
            try:
                if self._associate(peer):
                    self._messages(peer)
            except Exception as error:  # noqa: BLE001 what went wrong is the test's to see
                self.error = error
                raise

    def _associate(self, peer):
        kind, body = peer.receive()
        assert kind == raw.ASSOCIATE_RQ, kind
        called = body[4:20].decode().strip()
        if called != self.title:
            peer.send(raw.pdu(raw.ASSOCIATE_RJ, bytes([0, 1, 1, 7])))
            return False
        results = b""
        contexts, user = proposed(body)
        self.proposals.append((body[20:36].decode().strip(), contexts, user))
        peer.contexts = {}
        for number, (abstract, syntaxes) in contexts.items():
            taken = next((syntax for syntax in syntaxes if self.accepts(abstract, syntax)), None)
            # Of an abstract syntax that is taken in no syntax at all nobody can tell which of both it was: 3.
            result = 0 if taken else 3
            peer.contexts[number] = (abstract, taken)
            results += raw.item(0x21, bytes([number, 0, result, 0]) + raw.item(0x40, (taken or raw.IMPLICIT).encode()))
        information = raw.item(0x51, struct.pack(">I", self.max_pdu)) + raw.item(0x52, b"1.2.40.0.13.1.1") + raw.item(0x55, b"dcm4che-2.0")
        peer.send(raw.pdu(raw.ASSOCIATE_AC, body[:68] + raw.item(0x10, b"1.2.840.10008.3.1.1.1") + results + raw.item(0x50, information)))
        return True

    def _messages(self, peer):
        command, content = b"", b""
        while True:
            kind, body = peer.receive()
            if kind == raw.RELEASE_RQ:
                peer.send(raw.pdu(raw.RELEASE_RP, bytes(4)))
                return
            assert kind == raw.P_DATA, kind
            self.pdus.append(len(body))
            while body:
                (length,) = struct.unpack_from(">I", body)
                context, flags, piece, body = body[4], body[5], body[6 : 4 + length], body[4 + length :]
                if flags & 1:
                    command += piece
                else:
                    content += piece
                if flags == 2:
                    fields = raw.parse_command(command)
                    self._stored(peer, context, fields, content)
                    command, content = b"", b""

    def _stored(self, peer, context, fields, content):
        uid, sop_class = fields[0x1000].rstrip(b"\0").decode(), fields[0x0002].rstrip(b"\0").decode()
        (message,) = struct.unpack("<H", fields[0x0110])
        status = self.answer(fields)
        self.commands.append(fields)
        if status == 0x0000:
            self.stored[uid] = (*peer.contexts[context], content)
        peer.message(context, raw.command(x0002=sop_class, x0100=0x8001, x0120=message, x0800=0x0101, x0900=status, x1000=uid))


class Peer(raw.Raw):
    """A connection that was accepted."""

    def __init__(self, connection):
        self.socket = connection
        connection.settimeout(60)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def proposed(body):
    """What an A-ASSOCIATE-RQ proposes: context id → (abstract syntax, transfer syntaxes); the items of its user information, type → contents."""
    contexts, user = {}, {}
    for kind, content in raw.items(body[68:]):
        if kind == 0x20:
            parts = list(raw.items(content[4:]))
            (abstract,) = (value.decode() for one, value in parts if one == 0x30)
            contexts[content[0]] = (abstract, [value.decode() for one, value in parts if one == 0x40])
        elif kind == 0x50:
            for one, value in raw.items(content):
                user.setdefault(one, []).append(value)
    return contexts, user
