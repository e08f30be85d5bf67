"""`stock`, in Python: asks `payment` by its name before it answers, and tells what it said. It
knows of no mesh.

python3 stock.py PORT INSTANCE VERSION
"""

import http.client
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT, INSTANCE, VERSION = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def handed_on(headers):
    """What belongs to the request as a whole goes with the calls that are made for it."""
    other = ("x-forwarded-", "x-envoy-")
    fields = ((name.lower(), value) for name, value in headers.items())
    return {name: value for name, value in fields
            if name.startswith("x-") and not name.startswith(other)}


def call(headers):
    url = "http://payment:7070/"
    connection = http.client.HTTPConnection("payment", 7070, timeout=15)
    try:
        connection.request("GET", "/", headers=headers)
        response = connection.getresponse()
        text = response.read().decode()
        is_json = response.getheader("content-type") == "application/json"
        answer = json.loads(text) if is_json else text
        return {"url": url, "status": response.status, "answer": answer}
    except (OSError, http.client.HTTPException) as error:
        return {"url": url, "status": 0, "error": repr(error)}
    finally:
        connection.close()


class Stock(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # Head and body of an answer leave together.

    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        result = call(handed_on(self.headers))
        failed = result["status"] == 0 or result["status"] >= 500
        answer = {"service": "stock", "version": VERSION, "instance": INSTANCE, "calls": [result]}
        body = json.dumps(answer).encode()
        self.send_response(502 if failed else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        line = {"instance": INSTANCE, "request": self.requestline, "headers": dict(self.headers)}
        print(json.dumps(line), flush=True)


class Server(ThreadingHTTPServer):
    request_queue_size = 128


Server(("0.0.0.0", PORT), Stock).serve_forever()
