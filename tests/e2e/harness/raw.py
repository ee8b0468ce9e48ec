"""DICOM by hand: PDUs and command sets from bytes, for what a toolkit is too polite to send (PS3.8 9.3, PS3.7 E)."""

import socket
import struct

VERIFICATION = "1.2.840.10008.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
STUDY_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)


def item(kind, body):
    return struct.pack(">BBH", kind, 0, len(body)) + body


def title(text):
    """An AE title as it stands in a PDU: text is padded with spaces, bytes go as they are."""
    return text.encode().ljust(16)[:16] if isinstance(text, str) else text


def associate_rq(contexts, calling="RAW", called="FILMROOM", max_pdu=16384, version=1, application="1.2.840.10008.3.1.1.1", implementation=b"1.2.3.4", more=b"", user=b""):
    """`contexts` are (id, abstract syntax, transfer syntaxes); `more` are more items of the PDU, `user` of its user information."""
    body = struct.pack(">HH", version, 0) + title(called) + title(calling) + bytes(32)
    if application:
        body += item(0x10, application.encode())
    for number, abstract, syntaxes in contexts:
        syntax_items = b"".join(item(0x40, s.encode()) for s in syntaxes)
        body += item(0x20, struct.pack(">BBBB", number, 0, 0, 0) + item(0x30, abstract.encode()) + syntax_items)
    body += more + item(0x50, item(0x51, struct.pack(">I", max_pdu)) + item(0x52, implementation) + user)
    return pdu(ASSOCIATE_RQ, body)


def role(sop_class, scu, scp):
    """SCP/SCU Role Selection Sub-item (PS3.7 D.3.3.4.1)."""
    return item(0x54, struct.pack(">H", len(sop_class)) + sop_class.encode() + bytes([scu, scp]))


def items(body):
    """Items of a PDU or of an item: (type, content)."""
    while body:
        kind, _, length = struct.unpack_from(">BBH", body)
        yield kind, body[4 : 4 + length]
        body = body[4 + length :]


def accepted(body):
    """What an A-ASSOCIATE-AC says: context id → (result, transfer syntax), and the items of its user information, type → contents."""
    contexts, user = {}, {}
    for kind, content in items(body[68:]):
        if kind == 0x21:
            syntaxes = [syntax.decode() for kind, syntax in items(content[4:]) if kind == 0x40]
            contexts[content[0]] = (content[2], syntaxes[0] if content[2] == 0 else None)
        elif kind == 0x50:
            for one, value in items(content):
                user.setdefault(one, []).append(value)
    return contexts, user


def pdu(kind, body):
    return struct.pack(">BBI", kind, 0, len(body)) + body


def pdv(context, body, command=False, last=True):
    return struct.pack(">IBB", len(body) + 2, context, (1 if command else 0) | (2 if last else 0)) + body


def element(group, number, value):
    """Implicit VR Little Endian."""
    if len(value) % 2:
        value += b"\0"
    return struct.pack("<HHI", group, number, len(value)) + value


def explicit(group, number, vr, value):
    """Explicit VR Little Endian, short form."""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return struct.pack("<HH", group, number) + vr.encode() + struct.pack("<H", len(value)) + value


def command(**fields):
    """A command set from (element number → value); integers are US, text is UI or AE."""
    body = b""
    for name in sorted(fields, key=lambda n: int(n[1:], 16)):
        value = fields[name]
        body += element(0, int(name[1:], 16), struct.pack("<H", value) if isinstance(value, int) else value.encode())
    return element(0, 0, struct.pack("<I", len(body))) + body


def c_echo(message=1):
    return command(x0002=VERIFICATION, x0100=0x0030, x0110=message, x0800=0x0101)


def c_store(sop_instance, sop_class=CT, message=1):
    return command(x0002=sop_class, x0100=0x0001, x0110=message, x0700=0, x0800=0x0001, x1000=sop_instance)


def c_find(message=1, model=STUDY_FIND):
    return command(x0002=model, x0100=0x0020, x0110=message, x0700=0, x0800=0x0001)


def data_set(sop_instance, study="1.2.3.1", series="1.2.3.2", sop_class=CT, patient="RAW1", extra=b""):
    """A minimal object in Explicit VR Little Endian; `extra` is appended."""
    return (
        explicit(0x0008, 0x0016, "UI", sop_class.encode()) + explicit(0x0008, 0x0018, "UI", sop_instance.encode())
        + explicit(0x0008, 0x0060, "CS", b"CT") + explicit(0x0010, 0x0010, "PN", b"Raw^Peer") + explicit(0x0010, 0x0020, "LO", patient.encode())
        + explicit(0x0020, 0x000D, "UI", study.encode()) + explicit(0x0020, 0x000E, "UI", series.encode()) + extra
    )


class Raw:
    """A TCP connection that speaks PDUs."""

    def __init__(self, node, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", node.port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.socket.close()

    def send(self, content):
        self.socket.sendall(content)

    def _exactly(self, count):
        content = b""
        while len(content) < count:
            chunk = self.socket.recv(count - len(content))
            if not chunk:
                raise EOFError(f"closed after {len(content)} of {count} bytes")
            content += chunk
        return content

    def receive(self):
        """The next PDU: (type, body)."""
        kind, _, length = struct.unpack(">BBI", self._exactly(6))
        return kind, self._exactly(length)

    def associate(self, contexts=((1, VERIFICATION, (IMPLICIT,)), (3, CT, (EXPLICIT,)), (5, STUDY_FIND, (EXPLICIT,))), **options):
        self.send(associate_rq(contexts, **options))
        kind, body = self.receive()
        assert kind == ASSOCIATE_AC, (kind, body)
        return body

    def message(self, context, command_set, content=None, fragment=16000):
        """A command and its data set, one PDV a PDU."""
        self.send(pdu(P_DATA, pdv(context, command_set, command=True)))
        if content is not None:
            pieces = [content[i : i + fragment] for i in range(0, len(content), fragment)] or [b""]
            for n, piece in enumerate(pieces):
                self.send(pdu(P_DATA, pdv(context, piece, last=n == len(pieces) - 1)))

    def response(self):
        """The next command set as element number → value bytes, and the data set behind it."""
        fields, content = None, b""
        while True:
            kind, body = self.receive()
            assert kind == P_DATA, (kind, body)
            while body:
                (length,) = struct.unpack_from(">I", body)
                flags, piece, body = body[5], body[6 : 4 + length], body[4 + length :]
                if flags & 1:
                    fields = parse_command(piece)
                else:
                    content += piece
                if flags & 2 and not (flags & 1 and fields[0x0800] != b"\x01\x01"):
                    return fields, content

    def status(self):
        fields, _ = self.response()
        return struct.unpack("<H", fields[0x0900])[0], fields.get(0x0902, b"").decode("latin-1").strip()

    def echo_works(self, context=1):
        self.message(context, c_echo(99))
        return self.status()[0] == 0x0000


def parse_command(body):
    fields = {}
    while body:
        group, number, length = struct.unpack_from("<HHI", body)
        assert group == 0
        fields[number] = body[8 : 8 + length]
        body = body[8 + length :]
    return fields
