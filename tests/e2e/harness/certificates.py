"""Certificates: those that the node's own commands make, and those that they would never make (of another CA, expired)."""

import hashlib
import os
import ssl
import subprocess
from pathlib import Path

from .node import BINARY

DATABASE = """
[ca]
default_ca = d
[d]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = p
unique_subject = no
copy_extensions = copy
[p]
commonName = supplied
"""


def tool(*arguments):
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Authority:
    """A CA in a folder, made by `filmroom tls init`, with the node's certificate in it."""

    def __init__(self, folder, *options):
        self.folder = Path(folder)
        self._filmroom("init", *options)

    def _filmroom(self, command, *arguments):
        config = self.folder.parent / f"{self.folder.name}.toml"
        config.touch()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FILMROOM_DICOM")}
        done = subprocess.run([str(BINARY), "--config", str(config), "tls", command, *map(str, arguments), "--out", str(self.folder)],
                              capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def ca(self):
        return self.folder / "ca.pem"

    def pair(self, name):
        """Certificate and key."""
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def issue(self, name, *options):
        self._filmroom("issue", name, *options)
        return self.pair(name)

    def issue_expired(self, name, common_name):
        """A certificate of this CA for localhost that ended years ago."""
        request, certificate, key = (self.folder / f"{name}.{kind}" for kind in ("csr", "pem", "key"))
        config = self.folder / "openssl.cnf"
        config.write_text(DATABASE.format(folder=self.folder))
        (self.folder / "index.txt").touch()
        tool("openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={common_name}",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        tool("openssl", "ca", "-batch", "-notext", "-config", config, "-cert", self.ca, "-keyfile", self.folder / "ca.key",
             "-startdate", "20200101000000Z", "-enddate", "20210101000000Z", "-in", request, "-out", certificate)
        return certificate, key


def fingerprint(certificate):
    der = ssl.PEM_cert_to_DER_cert(Path(certificate).read_text())
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def shown_by(port, ca, pair):
    """Fingerprint of the certificate that a port shows."""
    import socket

    context = client(ca, pair)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain, context.wrap_socket(plain, server_hostname="localhost") as tls:
        return f"sha256:{hashlib.sha256(tls.getpeercert(binary_form=True)).hexdigest()}"


def client(ca=None, pair=None, name=True, old=False):
    """An ssl context of a client. `ca` None: it trusts anybody. `name` False: it does not look at names. `old`: TLS 1.1 at most."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = bool(ca) and name
    context.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE
    if ca:
        context.load_verify_locations(ca)
    if pair:
        context.load_cert_chain(*pair)
    if old:
        make_old(context)
    return context


def server(pair, ca=None, old=False):
    """An ssl context of a server; with `ca` it demands a certificate of its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    if ca:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if old:
        make_old(context)
    return context


def make_old(context):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
