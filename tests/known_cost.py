"""known_cost.py SHAPE TOLD REPORT - compares what live_known_cost tells of itself with what the report says of it.

Heap is exact. CPU within 2 us a request, mean over the routes. Waits: what the server measured around the call is the upper bound; a
wait that a route does not have must not appear there. Wall time = CPU + waits + unknown, exactly.
"""
import json, math, sys

shape, told_file, report_file = sys.argv[1:4]
SAMPLE_BYTES = 16384  # as live_known_cost.sh sets it
report = json.load(open(report_file))
server = {e["endpoint"]: e for e in report["endpoints"] if e["side"] == "server"}
clients = [e for e in report["endpoints"] if e["side"] == "client"]
NAMES = ("count", "allocated", "freed", "allocations", "cpu", "lock", "sleep", "disk", "downstream", "leaked", "hidden")
WAITS = ("lock", "disk", "downstream", "sleep", "runqueue", "unknown")
bad, errors = 0, []


def fail(text):
    global bad
    bad += 1
    print(f"FAILED: {shape}: {text}")


def near(what, got, low, high):
    if not low <= got <= high:
        fail(f"{what} is {got:.0f}, should be in {low:.0f}..{high:.0f}")


def check_heap(path, e, t):
    got = (e["count"], e["heap"]["allocated_bytes"], e["heap"]["freed_bytes"], e["heap"]["allocations"])
    want = (t["count"], t["allocated"], t["freed"], t["allocations"])
    if got != want:
        fail(f"{path}: count, allocated, freed, allocations are {got}, should be {want}")


def check_cpu(path, e, t):
    """What a call of its own cost, between its writing and its answer, stands in the call's row."""
    e = dict(e)
    e["cpu_ns"] += sum(c["cpu_ns"] or 0 for c in clients if path == "/backend")
    errors.append((abs(e["cpu_ns"] - t["cpu"]), t["count"]))
    # what a thread does between an answer and its next wait may count for the request before or behind it
    # (more of it on a full machine; the bar is the mean over all, below)
    room = max(0.02 * t["cpu"], 15000 * t["count"])
    near(f"{path}: CPU of {t['count']} requests", e["cpu_ns"], t["cpu"] - room, t["cpu"] + room)


def check_waits(path, e, t):
    got, n = e["waits_ns"], t["count"]
    for kind in ("lock", "sleep", "disk", "downstream"):
        if got[kind] is None:
            missing.add(kind)
        else:
            # whom a thread wakes may take its processor at once: then it waits for that, not in the call that follows
            high, low = 1.02 * t[kind] + 20e3 * n, 0.8 * t[kind] - 100e3 * n - (got["runqueue"] or 0)
            near(f"{path}: {kind} of {n} requests", got[kind], low, high)
    if any(got[k] is None for k in WAITS) or e.get("cpu_wall_ns") is None:
        return
    wall, latency = e["cpu_wall_ns"] + sum(got[k] for k in WAITS), e["latency_ns"]
    total = latency.get("sum")
    if total is not None and wall != total:
        fail(f"{path}: CPU + waits + unknown is {wall}, latency {total}")
    if total is None and abs(wall - latency["mean"] * n) > n:
        fail(f"{path}: CPU + waits + unknown is {wall}, latency about {latency['mean'] * n}")


def check_retained(path, e, t):
    got, leaks = e["heap"]["retained_bytes"], {"/keep": 1, "/leak": 4}.get(path)
    if not t["leaked"]:
        if got:
            fail(f"{path}: retains {got} bytes, should be none")
        return
    count = t["count"] / leaks  # of blocks; each is sampled with this chance and then counted by its inverse
    chance = 1 - math.exp(-t["leaked"] / count / SAMPLE_BYTES)
    error = 4 * math.sqrt((1 - chance) / (count * chance)) + 3 / count  # rare misses are not normally distributed
    near(f"{path}: retained", got, (1 - error) * t["leaked"], (1 + error) * t["leaked"])


CHECKS = (("heap", check_heap, lambda e: e["heap"]["allocated_bytes"]), ("CPU", check_cpu, lambda e: e["cpu_ns"]),
          ("waits", check_waits, lambda e: e["waits_ns"]), ("retained", check_retained, lambda e: e["heap"]["retained_bytes"]))
hidden, total, done, missing = 0, 0, set(), set()
for line in open(told_file):
    path, *numbers = line.split()
    if path == "cpu":
        total = int(numbers[0])
        continue
    t = dict(zip(NAMES, map(int, numbers)))
    hidden += t["hidden"]
    if not t["count"]:
        continue
    e = server.get(f"GET {path}")
    if not e:
        fail(f"GET {path} is missing")
        continue
    for name, check, key in CHECKS:
        if key(e) is None:
            missing.add(name)
        else:
            check(path, e, t)
            done.add(name)
if errors:
    mean = sum(e for e, n in errors) / sum(n for e, n in errors)
    print(f"{shape}: mean error of CPU: {mean:.0f} ns a request")
    if mean > 2000:
        fail(f"CPU is wrong by {mean:.0f} ns a request")
if report["outside"]["allocated_bytes"] < hidden:
    fail(f"the helper's {hidden} bytes are not outside: {report['outside']['allocated_bytes']}")
charged = sum(e["cpu_ns"] or 0 for e in report["endpoints"]) + (report["outside"]["cpu_ns"] or 0)
print(f"{shape}: CPU of requests + outside is {charged / total:.4f} of the system's count ({total / 1e6:.1f} ms)")
near("CPU of requests + outside", charged, 0.98 * total - 2e6, 1.02 * total + 2e6)
for name in sorted(missing):
    fail(f"{name} is not measured")
print(f"{shape}: {'ok' if not bad else 'not ok'}: {', '.join(sorted(done))}")
sys.exit(bad != 0)
