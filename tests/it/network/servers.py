"""Servers of a small internet at the addresses given: HTTP on 80, echo on 7 (TCP and UDP), and, but for `--without-names` in front,
DNS on 53 (both), which knows every name."""

import socket
import socketserver
import struct
import sys
import threading

ADDRESS = "93.184.216.34"


def dns(question):
    end = question.index(b"\0", 12) + 5
    kind = struct.unpack(">H", question[end - 4 : end - 2])[0]
    answers = b""
    if kind == 1:
        answers = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(ADDRESS)
    header = question[:2] + b"\x81\x80" + struct.pack(">HHHH", 1, 1 if answers else 0, 0, 0)
    return header + question[12:end] + answers


class Http(socketserver.StreamRequestHandler):
    def handle(self):
        path = self.rfile.readline().split()[1].decode()
        while self.rfile.readline().strip():
            pass
        if path.startswith("/bytes/"):
            body = b"x" * int(path[7:])
        else:
            body = f"hello from {self.connection.getsockname()[0]}\n".encode()
        self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class EchoDatagrams(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(self.request[0], self.client_address)


class Dns(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(dns(self.request[0]), self.client_address)


class DnsStream(socketserver.StreamRequestHandler):
    def handle(self):
        while length := self.rfile.read(2):
            answer = dns(self.rfile.read(struct.unpack(">H", length)[0]))
            self.wfile.write(struct.pack(">H", len(answer)) + answer)


def serve(kind, port, handler):
    class Server(kind):
        address_family = socket.AF_INET6
        allow_reuse_address = True
        daemon_threads = True

    threading.Thread(target=Server(("::", port), handler).serve_forever).start()


STREAM, DATAGRAM = socketserver.ThreadingTCPServer, socketserver.ThreadingUDPServer
serve(STREAM, 80, Http)
serve(STREAM, 7, Echo)
datagrams = [(7, EchoDatagrams)]
if sys.argv[1] == "--without-names":
    del sys.argv[1]
else:
    serve(STREAM, 53, DnsStream)
    datagrams.append((53, Dns))
# Of several addresses, the answer must come from the one that was asked.
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port, handler in datagrams:
        bound = type("Bound", (DATAGRAM,), {"address_family": family, "daemon_threads": True, "max_packet_size": 65536})
        threading.Thread(target=bound((address, port), handler).serve_forever).start()
print("ready", flush=True)
