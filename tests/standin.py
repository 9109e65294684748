#!/usr/bin/env python3
"""standin.py FOLDER FAULT... - answers _bulk like Elasticsearch, but for faults that no real server makes on demand.

Each _bulk request meets the next FAULT of the list, after the last one every answer is honest; "always:FAULT" meets
all that follow. Honest answers keep each _id once and say 409 to a repeat, as the real ones do. Writes FOLDER/url;
GET /_standin tells how many distinct documents are stored and what every request looked like.
"""
import gzip, http.server, json, sys, threading, time

folder, faults = sys.argv[1], sys.argv[2:]
lock = threading.Lock()
stored, requests, templates = {}, [], {}


def item(index, status, kind=None, reason="by the script"):
    body = {"_index": index, "status": status}
    if kind:
        body["error"] = {"type": kind, "reason": reason}
    return {"create": body}


def keep(index, name, document):
    with lock:
        if (index, name) in stored:
            return item(index, 409, "version_conflict_engine_exception", f"[{name}]: version conflict")
        stored[index, name] = document
        return item(index, 201)


def next_fault():
    with lock:
        if not faults:
            return ""
        if faults[0].startswith("always:"):
            return faults[0][7:]
        return faults.pop(0)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, text, headers=()):
        data = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def hang_up(self):
        self.close_connection = True

    def do_GET(self):
        if self.path == "/":
            self.answer(200, json.dumps({"version": {"number": "8.19.3", "build_flavor": "default"}}))
        elif self.path.startswith("/_standin"):
            self.answer(200, json.dumps({"documents": len(stored), "requests": requests}))
        elif self.path.startswith("/_index_template/"):
            known = [{"name": n, "index_template": {"version": t["version"]}} for n, t in templates.items()]
            self.answer(200 if known else 404, json.dumps({"index_templates": known}))
        else:
            self.answer(404, "{}")

    def do_PUT(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind, name = self.path.split("/")[1:3]
        if kind == "_index_template":
            templates[name] = body
        self.answer(200, '{"acknowledged":true}')

    def do_POST(self):
        wire = self.rfile.read(int(self.headers["Content-Length"]))
        packed = self.headers.get("Content-Encoding") == "gzip"
        text = gzip.decompress(wire) if packed else wire
        lines = text.decode().split("\n")
        assert lines.pop() == "" and len(lines) % 2 == 0, "NDJSON ends in a newline"
        actions = [json.loads(line)["create"] for line in lines[::2]]
        documents = [json.loads(line) for line in lines[1::2]]
        fault = next_fault()
        with lock:
            requests.append({"documents": len(actions), "gzip": packed, "fault": fault, "bytes": len(text),
                             "expect": self.headers.get("Expect"), "time": time.monotonic()})
        self.fail(fault, [(a["_index"], a["_id"], d) for a, d in zip(actions, documents)], packed)

    def fail(self, fault, rows, packed):
        name, _, value = fault.partition("=")
        if name == "close" or (name == "close-gzip" and packed):
            return self.hang_up()
        if name == "stall":
            time.sleep(float(value))
        if name in ("status", "retry-after"):
            headers = [("Retry-After", value)] if name == "retry-after" else []
            return self.answer(429 if headers else int(value), "" if value == "413" else
                               json.dumps({"error": {"type": "scripted", "reason": "by the script"}}), headers)
        if name == "html":
            return self.answer(int(value), "<html><body>Bad Gateway</body></html>")
        if name == "larger-than":
            size = sum(len(json.dumps(d)) for _, _, d in rows)
            if size > int(value):
                return self.answer(413, "")
        if name == "poison" and any(value in json.dumps(d) for _, _, d in rows):
            return self.answer(400, json.dumps({"error": {"type": "illegal_argument_exception", "reason": value}}))
        half = name == "empty-part"
        items = [keep(*row) for row in (rows[:len(rows) // 2] if half else rows)
                 if name not in ("items", "items-half")]
        if name == "items":  # status=type
            status, _, kind = value.partition(",")
            items = [item(i, int(status), kind or "scripted") for i, _, _ in rows]
        if name == "items-half":
            status, _, kind = value.partition(",")
            items = [keep(*row) if n % 2 else item(row[0], int(status), kind or "scripted") for n, row in enumerate(rows)]
        if name in ("empty", "empty-part"):
            return self.answer(200, "")
        if name == "close-stored":
            return self.hang_up()
        if name == "short":
            items.pop()
        if name == "long":
            items.append(items[0])
        text = json.dumps({"took": 1, "errors": any("error" in i["create"] for i in items), "items": items})
        if name == "errors-lie":
            text = text.replace('"errors": true', '"errors": false')
        if name == "cut":
            text = text[:len(text) // 2]
        if name == "length-lie":
            self.send_response(200)
            self.send_header("Content-Length", str(len(text) + 100))
            self.end_headers()
            self.wfile.write(text.encode())
            return self.hang_up()
        if name == "not-json":
            text = "OK"
        self.answer(200, text)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (BrokenPipeError, ConnectionResetError)):
            super().handle_error(request, client_address)


server = Server(("127.0.0.1", 0), Handler)
with open(folder + "/url", "w") as f:
    f.write(f"http://127.0.0.1:{server.server_port}\n")
server.serve_forever()
