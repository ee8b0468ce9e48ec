"""A proxy in front of the S3 server. It passes everything on unchanged, counts, and for single objects says what Intelligent-Tiering says of an archived
one: no server that can be installed has those tiers."""

import http.client
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

ARCHIVED = """<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>InvalidObjectState</Code><Message>The operation is not valid for the object's access tier</Message>\
<StorageClass>INTELLIGENT_TIERING</StorageClass><AccessTier>{tier}</AccessTier><RequestId>0</RequestId></Error>"""


class S3Proxy:
    def __init__(self, endpoint):
        self.upstream = urlsplit(endpoint)
        self.archived = {}
        self.requests = Counter()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *arguments):
                pass

            def handle_any(self):
                key = unquote(urlsplit(self.path).path)
                proxy.requests[self.command, key.rsplit(".", 1)[-1]] += 1
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                tier = next((tier for name, tier in proxy.archived.items() if key.endswith(name)), None)
                if tier and self.command == "GET":
                    return self.answer(403, [("Content-Type", "application/xml")], ARCHIVED.format(tier=tier).encode())
                upstream = http.client.HTTPConnection(proxy.upstream.hostname, proxy.upstream.port, timeout=60)
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    upstream.putheader(name, value)
                upstream.endheaders(body)
                response = upstream.getresponse()
                content = response.read()
                headers = [(n, v) for n, v in response.getheaders() if n.lower() not in ("transfer-encoding", "connection", "content-length")]
                if tier and self.command == "HEAD":
                    headers.append(("x-amz-archive-status", tier))
                length = response.getheader("Content-Length") if self.command == "HEAD" else None
                upstream.close()
                self.answer(response.status, headers, content, length)

            def answer(self, status, headers, content, length=None):
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self):
        self.server.shutdown()
        self.server.server_close()
