#!/usr/bin/env python3
"""load.py - real servers bare and under sonde, in alternating slices of one run: throughput, p50, p99, CPU per request.

usage: load.py [--quick] [--json FILE] [CASE...]      cases: nginx half redis redis-P16 memcached connections processes off shipped idle replay

Both servers run for the whole time, each on its own port; only the one whose turn it is gets load. Ratios are medians over
the slices, the spread is the range of the middle half. CPU is read from /proc/PID/task/*/schedstat (ns), for the server's
processes and for the collector apart.
"""
import json, os, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD", os.path.join(ROOT, "build"))
SONDE = os.path.join(BUILD, "sonde")
scratch = tempfile.mkdtemp(prefix="sonde-bench-")
os.chmod(scratch, 0o755)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_port(port):
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nothing listens on port {port}")


def children(pid):
    out = []
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children") as f:
                out += [int(x) for x in f.read().split()]
        except OSError:
            pass
    return out


def family(pid):
    found = [pid]
    for p in found:
        found += [c for c in children(p) if c not in found]
    return found


def name_of(pid):
    with open(f"/proc/{pid}/comm") as f:
        return f.read().strip()


def cpu_ns(pids):
    total = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                    total += int(f.read().split()[0])
        except OSError:
            pass
    return total


class Server:
    """One server, bare or under sonde; knows its processes and the collector's."""

    def __init__(self, make, watched, extra=(), off=False):
        self.port = free_port()
        self.dir = tempfile.mkdtemp(dir=scratch)
        os.chmod(self.dir, 0o755)
        command = make(self.port, self.dir)
        self.store = os.path.join(self.dir, "s.db")
        if watched:
            command = [SONDE, "run", "-o", self.store, *extra] + command
        self.err = open(os.path.join(self.dir, "err"), "w")
        env = dict(os.environ, **({"SONDE_OFF": "1"} if off else {}))
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self.err, env=env)
        wait_port(self.port)
        time.sleep(0.5)
        pids = family(self.process.pid)
        self.collector = [p for p in pids if name_of(p) == "sonde-collector"]
        self.servers = [p for p in pids if p not in self.collector and name_of(p) != "sonde"]

    def stop(self):
        for p in self.servers[:1]:
            os.kill(p, signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.err.close()
        return open(os.path.join(self.dir, "err")).read()


# --- servers and loads: each load returns (requests, requests/s, p50 us, p99 us) ---------------------------------------

def nginx(workers=1):
    def make(port, folder):
        www = os.path.join(folder, "www")
        os.mkdir(www)
        with open(os.path.join(www, "small.html"), "w") as f:
            f.write("x" * 1024)
        conf = os.path.join(folder, "nginx.conf")
        temp = " ".join(f"{k}_temp_path {folder}/{k};" for k in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(conf, "w") as f:
            f.write(f"worker_processes {workers};\npid {folder}/pid;\nerror_log {folder}/error.log;\n"
                    "events { worker_connections 4096; }\n"
                    f"http {{ access_log off; {temp} sendfile on; keepalive_requests 1000000000;\n"
                    f"server {{ listen 127.0.0.1:{port} backlog=4096; root {www}; }} }}\n")
        return ["nginx", "-c", conf, "-g", "daemon off;"]
    return make


def to_us(text):
    found = re.match(r"([0-9.]+)(us|ms|s|m|h)$", text)
    if not found:
        sys.exit(f"wrk's latency {text!r} is none: did the server answer?")
    return float(found[1]) * {"us": 1, "ms": 1e3, "s": 1e6, "m": 6e7, "h": 3.6e9}[found[2]]


def wrk(connections=16, delay_ms=0):
    """delay_ms: each connection waits so long between requests, so that the cores have idle time."""
    slow = []
    if delay_ms:
        slow = ["-s", os.path.join(scratch, f"delay{delay_ms}.lua")]
        with open(slow[1], "w") as f:
            f.write(f"function delay() return {delay_ms} end\n")

    def load(port, seconds):
        out = subprocess.run(["wrk", "-t", "1", "-c", str(connections), "-d", str(seconds), "--latency", *slow,
                              f"http://127.0.0.1:{port}/small.html"], capture_output=True, text=True, check=True).stdout
        n = int(re.search(r"(\d+) requests in", out).group(1))
        return (n, float(re.search(r"Requests/sec:\s+([0-9.]+)", out).group(1)),
                to_us(re.search(r"^ +50% +(\S+)", out, re.M).group(1)), to_us(re.search(r"^ +99% +(\S+)", out, re.M).group(1)))
    return load


def redis(port, folder):
    return ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]


def redis_benchmark(pipeline):
    rate = {}

    def load(port, seconds):
        n = int(rate.get("n", 60000 * pipeline ** 0.5) * seconds)
        out = subprocess.run(["redis-benchmark", "-p", str(port), "-t", "get", "-c", "16", "-n", str(n), "-P", str(pipeline),
                              "--csv"], capture_output=True, text=True, check=True).stdout.strip().split("\n")[-1]
        f = [x.strip('"') for x in out.split(",")]
        rate["n"] = float(f[1])
        return n, float(f[1]), float(f[4]) * 1000, float(f[6]) * 1000
    return load


def memcached(port, folder):
    return ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "2"]


def memcached_load(port, seconds):
    out = subprocess.run([os.path.join(BUILD, "bench/bench_memcached_load"), str(port), "16", str(seconds)],
                         capture_output=True, text=True, check=True).stdout.split()
    return int(out[0]), float(out[1]), float(out[2]), float(out[3])


# --- measuring ----------------------------------------------------------------------------------------------------------

def middle(values):
    v = sorted(values)
    return statistics.median(v), v[len(v) // 4], v[-1 - len(v) // 4]


def compare(name, make, load, slices, seconds, extra=(), off=False):
    bare, watched = Server(make, False), Server(make, True, extra, off)
    rows = {"throughput": [], "p50": [], "p99": [], "cpu": [], "collector": [], "bare_rate": [], "bare_cpu_us": []}
    load(bare.port, 1)
    load(watched.port, 1)
    for i in range(slices):
        got = {}
        for server in ((bare, watched) if i % 2 else (watched, bare)):
            s0, c0 = cpu_ns(server.servers), cpu_ns(server.collector)
            n, rate, p50, p99 = load(server.port, seconds)
            if server is watched:
                time.sleep(0.15)  # what the collector does after the load is its cost too
            got[server] = (rate, p50, p99, (cpu_ns(server.servers) - s0) / n, (cpu_ns(server.collector) - c0) / n)
        b, w = got[bare], got[watched]
        for key, value in (("throughput", w[0] / b[0]), ("p50", w[1] / b[1] if b[1] else 1), ("p99", w[2] / b[2] if b[2] else 1),
                           ("cpu", w[3] / b[3]), ("collector", w[4] / b[3]), ("bare_rate", b[0]), ("bare_cpu_us", b[3] / 1000)):
            rows[key].append(value)
    bare.stop()
    said = watched.stop()
    lost = None
    if not off:
        report = json.loads(subprocess.run([SONDE, "report", watched.store, "--json"], capture_output=True, text=True).stdout or "{}")
        lost = sum(report.get("events", {}).get("lost", {}).values())
    result = {k: dict(zip(("median", "low", "high"), middle(v))) for k, v in rows.items()}
    result["lost"] = lost
    if lost is None and not off:
        result["said"] = said
    print(f"{name:<24} {result['bare_rate']['median']:>9.0f}/s  " + "  ".join(
        f"{k} {result[k]['median']:.3f} ({result[k]['low']:.3f}-{result[k]['high']:.3f})"
        for k in ("throughput", "p50", "p99", "cpu", "collector")) + f"  lost {lost}", flush=True)
    return result


def idle(seconds):
    """Voluntary switches of an idle nginx's processes: a wake-up caused by us would show."""
    out = {}
    for key in ("bare", "watched"):
        s = Server(nginx(), key == "watched")
        time.sleep(1)

        def switches():
            n = 0
            for p in s.servers:
                with open(f"/proc/{p}/status") as f:
                    n += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.M).group(1))
            return n
        a, c0 = switches(), cpu_ns(s.collector)
        time.sleep(seconds)
        out[key] = switches() - a
        if key == "watched":
            out["collector_core_percent"] = (cpu_ns(s.collector) - c0) / seconds / 1e7
        s.stop()
    print(f"idle nginx, {seconds} s: wake-ups bare {out['bare']}, watched {out['watched']}; "
          f"collector {out['collector_core_percent']:.3f} % of a core", flush=True)
    return out


def replay(seconds):
    """Events a second of the collector over a recorded nginx load."""
    port, folder = free_port(), tempfile.mkdtemp(dir=scratch)
    os.chmod(folder, 0o755)
    stream = os.path.join(folder, "stream")
    process = subprocess.Popen([SONDE, "record", "--quiet", stream] + nginx()(port, folder), stdout=subprocess.DEVNULL)
    wait_port(port)
    wrk(16)(port, seconds)
    with open(os.path.join(folder, "pid")) as f:
        os.kill(int(f.read()), signal.SIGTERM)
    process.wait(60)
    best, events = None, 0
    for i in range(3):
        store = os.path.join(folder, f"r{i}.db")
        before = os.times()
        subprocess.run([SONDE, "replay", stream, "-o", store, "--quiet"], check=True)
        after = os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        report = json.loads(subprocess.run([SONDE, "report", store, "--json"], capture_output=True, text=True, check=True).stdout)
        events = report["events"]["drained"]
        best = min(best or 1e9, cpu)
    out = {"events": events, "cpu_s": best, "events_per_cpu_second": events / best}
    print(f"replay: {events} events in {best:.2f} s of CPU: {events / best / 1e6:.2f} M events/s", flush=True)
    return out


def main():
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    target = arguments[arguments.index("--json") + 1] if "--json" in arguments else os.path.join(BUILD, "bench.json")
    wanted = [a for a in arguments if not a.startswith("--") and a != target]
    slices, seconds = (4, 1) if quick else (10, 2)
    results = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}

    def want(case):
        return not wanted or case in wanted
    print("ratios: watched / bare, median (middle half); collector: its CPU / the bare server's CPU, per request")
    if want("nginx"):
        results["nginx"] = compare("nginx", nginx(), wrk(16), slices, seconds)
    if want("half"):
        results["nginx-half"] = compare("nginx, half of its most", nginx(), wrk(128, 2), slices, seconds)
    if want("redis"):
        results["redis-P1"] = compare("redis -P 1", redis, redis_benchmark(1), slices, seconds)
    if want("redis-P16"):
        results["redis-P16"] = compare("redis -P 16", redis, redis_benchmark(16), slices, seconds)
    if want("memcached"):
        results["memcached"] = compare("memcached", memcached, memcached_load, slices, seconds)
    if want("off"):
        results["nginx-off"] = compare("nginx, recorder off", nginx(), wrk(16), slices, seconds, off=True)
    if want("parts"):
        # what each part costs: all of it (the row "nginx"), one left out, none of the three
        off = {"stacks": "memory.stacks", "cpu": "time.cpu", "waits": "time.waits"}
        for name in [*off, "all three"]:
            extra = [w for k in ([name] if name in off else off) for w in ("--set", f"{off[k]}=off")]
            for kind, make, load in (("nginx", nginx(), wrk(16)), ("redis -P 1", redis, redis_benchmark(1))):
                results[f"{kind} without {name}"] = compare(f"{kind} without {name}", make, load, slices, seconds, extra)
    if want("connections"):
        for n in (1, 4, 64, 1000):
            results[f"nginx-{n}-connections"] = compare(f"nginx, {n} connections", nginx(), wrk(n), max(4, slices // 2), seconds)
    if want("processes"):
        for n in (2, 4, 16):
            results[f"nginx-{n}-processes"] = compare(f"nginx, {n} processes", nginx(n), wrk(64), max(4, slices // 2), seconds)
    if want("idle"):
        results["idle"] = idle(5 if quick else 20)
    if want("replay"):
        results["replay"] = replay(2 if quick else 8)
    with open(target, "w") as f:
        json.dump(results, f, indent=1)
    print(f"as JSON: {target}")


try:
    main()
finally:
    shutil.rmtree(scratch, ignore_errors=True)
