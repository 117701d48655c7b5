#!/usr/bin/env python3
"""Servers of a test that speak TLS, each on a port of its own, with certificates made for this run by `openssl`
(a Debian that has ca-certificates has it).

    tls_servers.py FOLDER

Prints {"ca_file": PATH, "ports": {NAME: PORT}} when all of them listen. The names:

    good         127.0.0.1 by the CA; /to?URL redirects there, any other path is answered with the request's headers
                 and the ALPN protocol; it would rather speak h2, and cannot. /ended and /cut have no length: their end is that of
                 the connection, which TLS tells (close_notify) for /ended only
    other_host   the CA's, for another host
    expired      the CA's, for 127.0.0.1, over since yesterday
    unknown_ca   for 127.0.0.1, signed by itself
    old          good, but TLS 1.1 at most
    plain        no TLS at all: answers anything with a 400
"""
import json
import socket
import ssl
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class Certificates:
    def __init__(self, folder):
        self.folder = folder
        self.ca = self.by_itself("ca", "DNS:ca.example")

    def new_key(self, name):
        return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                self.folder / f"{name}.key", "-subj", f"/CN={name}"]

    def by_itself(self, name, alternative):
        path = self.folder / f"{name}.pem"
        openssl("req", "-x509", *self.new_key(name), "-days", 2, "-addext", f"subjectAltName={alternative}",
                "-out", path)
        return path

    def by_ca(self, name, alternative, days=2):
        request, path = self.folder / f"{name}.csr", self.folder / f"{name}.pem"
        openssl("req", "-new", *self.new_key(name), "-addext", f"subjectAltName={alternative}", "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key",
                "-CAcreateserial", "-days", days, "-copy_extensions", "copy", "-out", path)
        return path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path in ("/ended", "/cut"):
            self.answer_without_length(is_ended=path == "/ended")
            return
        body = f"{self.headers}ALPN: {self.connection.selected_alpn_protocol()}\n".encode()
        self.send_response(302 if path == "/to" else 200)
        if path == "/to":
            self.send_header("Location", query)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_without_length(self, is_ended):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"half an answer")
        self.close_connection = True
        if is_ended:
            self.connection.unwrap()  # sends the close_notify, which a close alone does not


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, name, certificate):
        super().__init__(("127.0.0.1", 0), Handler)
        self.name = name
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self.context.set_alpn_protocols(["h2", "http/1.1"])
        if name == "old":
            self.context.set_ciphers("ALL:@SECLEVEL=0")
            self.context.minimum_version = ssl.TLSVersion.TLSv1
            self.context.maximum_version = ssl.TLSVersion.TLSv1_1

    def finish_request(self, request, client_address):
        try:
            with self.context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:
            pass  # the client has had enough


def serve_plain(listener):
    while True:
        peer, _ = listener.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def main():
    warnings.simplefilter("ignore", DeprecationWarning)  # that TLS 1.1 is old is the point
    folder = Path(sys.argv[1])
    certificates = Certificates(folder)
    good = certificates.by_ca("good", "IP:127.0.0.1")
    servers = [Server("good", good), Server("old", good),
               Server("other_host", certificates.by_ca("other_host", "DNS:elsewhere.example")),
               Server("expired", certificates.by_ca("expired", "IP:127.0.0.1", days=-1)),
               Server("unknown_ca", certificates.by_itself("unknown_ca", "IP:127.0.0.1"))]
    plain = socket.create_server(("127.0.0.1", 0))
    ports = {server.name: server.server_port for server in servers}
    threads = [threading.Thread(target=server.serve_forever, args=(60,)) for server in servers]
    threads.append(threading.Thread(target=serve_plain, args=(plain,)))
    for thread in threads:
        thread.start()
    print(json.dumps({"ca_file": str(certificates.ca),
                      "ports": {**ports, "plain": plain.getsockname()[1]}}), flush=True)


if __name__ == "__main__":
    main()
