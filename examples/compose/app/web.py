"""The web server: lists jobs, and takes new ones."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import store


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlparse(self.path)
        if url.path == "/add":
            result = store.ask(do="add", value=int(parse_qs(url.query)["value"][0]))
        elif url.path == "/list":
            result = store.ask(do="list")
        else:
            result = store.ask(do="ping")
        body = json.dumps(result).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        print(format % args)


print("the web server is up")
ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
