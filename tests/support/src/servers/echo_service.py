"""A service without checks of its own: it answers each request with what it got.

`GET /count` answers with the number of all other requests, and is not one itself. A path that ends in `/status/500` is
answered with this status.
"""
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

count = 0
lock = threading.Lock()


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        global count
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with lock:
            count += self.path != "/count"
            number = count
        got = {
            "method": self.command,
            "path": self.path,
            "headers": [[name.lower(), value] for name, value in self.headers.items()],
            "body": body.decode(),
            "count": number,
        }
        text = json.dumps(got).encode()
        before, _, status = self.path.rpartition("/status/")
        self.send_response(int(status) if before else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
print(server.server_port, flush=True)
server.serve_forever()
