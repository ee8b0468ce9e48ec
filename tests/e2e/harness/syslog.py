"""Syslog servers: UDP (RFC 5426) and TLS with octet counting (RFC 5425), and what a message has to be."""

import re
import socket
import ssl
import subprocess
import threading
import xml.etree.ElementTree as ElementTree

HEADER = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) (\[meta sequenceId=\"\d+\"\]) ", re.S)


class Message:
    """A message of RFC 5424 that carries an audit message of PS3.15 A.5."""

    def __init__(self, raw):
        found = HEADER.match(raw)
        assert found, raw[:200]
        self.priority = int(found[1])
        self.message_id = found[6].decode()
        body = raw[found.end():]
        assert body.startswith(b"\xef\xbb\xbf"), "UTF-8 begins with a byte order mark (RFC 5424 6.4)"
        self.xml = body[3:].decode("utf-8")
        self.audit = Audit(self.xml)


class Audit:
    """An audit message, checked: the elements and attributes that the schema of A.5.1 requires."""

    def __init__(self, xml):
        assert "\n" not in xml
        self.root = ElementTree.fromstring(xml.encode())
        assert self.root.tag == "AuditMessage"
        order = [child.tag for child in self.root]
        ranks = ["EventIdentification", "ActiveParticipant", "AuditSourceIdentification", "ParticipantObjectIdentification"]
        assert order == sorted(order, key=ranks.index), order
        event = self.root.find("EventIdentification")
        assert event.get("EventActionCode") in "CRUDE" and event.get("EventOutcomeIndicator") in ("0", "4", "8", "12")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", event.get("EventDateTime"))
        self.event = event.find("EventID").get("csd-code")
        self.type = event.find("EventTypeCode").get("csd-code") if event.find("EventTypeCode") is not None else None
        self.action = event.get("EventActionCode")
        self.outcome = event.get("EventOutcomeIndicator")
        self.detail = event.findtext("EventOutcomeDescription")
        self.users = []
        for participant in self.root.findall("ActiveParticipant"):
            assert participant.get("UserID") and participant.get("UserIsRequestor") in ("true", "false")
            self.users.append(participant.get("UserID"))
        assert self.users
        assert self.root.find("AuditSourceIdentification").get("AuditSourceID")
        self.objects = {}
        for found in self.root.findall("ParticipantObjectIdentification"):
            assert found.get("ParticipantObjectTypeCode") in ("1", "2") and found.get("ParticipantObjectTypeCodeRole")
            assert (found.find("ParticipantObjectName") is None) != (found.find("ParticipantObjectQuery") is None)
            self.objects[found.find("ParticipantObjectIDTypeCode").get("csd-code")] = found.get("ParticipantObjectID")
        for code in self.root.iter():
            if code.get("csd-code"):
                assert code.get("codeSystemName") and code.get("originalText"), code.tag
        # One patient a message, and a study, where the tables of A.5.3 require them.
        if self.event in ("110102", "110103", "110104", "110107"):
            assert self.objects.get("110180") and self.objects.get("2")
            count = self.root.find(".//SOPClass")
            self.instances = int(count.get("NumberOfInstances")) if count is not None else 0


class Udp:
    """A UDP listener that keeps what comes."""

    def __init__(self, port=0):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", port))
        self.socket.settimeout(0.2)
        self.port = self.socket.getsockname()[1]
        self.messages, self.open = [], True
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self):
        while self.open:
            try:
                self.messages.append(Message(self.socket.recv(65536)))
            except TimeoutError:
                pass

    def stop(self):
        self.open = False
        self.thread.join()
        self.socket.close()


def certificates(folder):
    """An authority and a server's certificate for localhost: (ca, certificate, key)."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, ca_key, certificate, key, request, extension = (folder / name for name in ("ca.pem", "ca.key", "cert.pem", "key.pem", "req.pem", "ext"))

    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", ca_key, "-out", ca, "-days", "30",
            "-subj", "/CN=Test Authority", "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    extension.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", certificate, "-days", "30", "-extfile", extension)
    return ca, certificate, key


class Tls:
    """A TLS listener that takes frames with octet counting."""

    def __init__(self, certificate, key, port=0):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, key)
        self.listener = socket.create_server(("127.0.0.1", port))
        self.listener.settimeout(0.2)
        self.port = self.listener.getsockname()[1]
        self.messages, self.connections, self.open = [], [], True
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while self.open:
            try:
                plain, _ = self.listener.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self.serve, args=(plain,), daemon=True)
            self.connections.append((plain, thread))
            thread.start()

    def serve(self, plain):
        buffer = b""
        try:
            with self.context.wrap_socket(plain, server_side=True) as stream:
                stream.settimeout(0.2)
                while self.open:
                    try:
                        data = stream.recv(65536)
                    except TimeoutError:
                        continue
                    if not data:
                        return
                    buffer += data
                    while b" " in buffer[:8]:
                        length, rest = buffer.split(b" ", 1)
                        if len(rest) < int(length):
                            break
                        self.messages.append(Message(rest[:int(length)]))
                        buffer = rest[int(length):]
        except OSError:
            pass

    def stop(self):
        """Everything that has been received was read: what the node sends later finds nobody."""
        self.open = False
        self.thread.join()
        self.listener.close()
        for _, thread in self.connections:
            thread.join()
