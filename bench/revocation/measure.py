#!/usr/bin/env python3
"""From a revocation's 204 to its refusal by each of three gateways, and a million revocations in memory; see ../README.md. Called by
./run, which builds what is started here.

Everything is on loopback, in a temporary folder that is removed, and ends by itself: every loop and every wait has a bound, and
only processes that were started here are ever signalled, by their process ID.
"""
import argparse, concurrent.futures, datetime, http.client, json, os, pathlib, shutil, signal, sqlite3, subprocess, sys, tempfile, time, uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "load"))
from measure import CORES, ROOT, SUBJECT, JOIN_CODE, call, expect, free_ports, is_ready, listens, program, rss_mb, start, started, stop

GATEWAYS = 3
TENANT = "bench-revoked"


class Parts:
    def __init__(self, folder):
        self.folder = folder
        redis, self.issuance_port, ledger, fleet = free_ports(4)
        start("redis", ["redis-server", "--bind", "127.0.0.1", "--port", redis, "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"], folder, ready=lambda: listens(redis))
        self.settings = {"FOUNDRY_CONFIG": str(ROOT / "config"), "FOUNDRY_DATA": str(folder / "data"), "FOUNDRY_Trust__JoinCode": JOIN_CODE, "FOUNDRY_Gateway__Redis": f"127.0.0.1:{redis}",
                         "FOUNDRY_Log__Level": "Warning"}
        for part, port in {"Issuance": self.issuance_port, "Ledger": ledger, "Fleet": fleet}.items():
            self.settings |= {f"FOUNDRY_{part}__Listen": f"http://127.0.0.1:{port}", f"FOUNDRY_{part}__Url": f"http://127.0.0.1:{port}"}
        self.start_issuance()
        self.settings["FOUNDRY_Trust__RootThumbprint"] = self.issuance.log.read_text().split("Trust:RootThumbprint=", 1)[1].split()[0]
        start("ledger", program("Foundry.Ledger"), folder, self.settings, lambda: is_ready(ledger))
        start("fleet", program("Foundry.Fleet"), folder, self.settings, lambda: is_ready(fleet))
        self.ports = [free_ports(2) for _ in range(GATEWAYS)]
        self.gateways = [self.start_gateway(number) for number in range(GATEWAYS)]
        self.admin = next((folder / "data").rglob("admin.token")).read_text().strip()

    def start_issuance(self):
        self.issuance = start("issuance", program("Foundry.Issuance"), self.folder, self.settings, lambda: is_ready(self.issuance_port))

    def start_gateway(self, number):
        port, ops = self.ports[number]
        name = f"gateway-{number + 1}"
        return start(name, program("Foundry.Gateway"), self.folder, {**self.settings, "FOUNDRY_Gateway__Name": name, "FOUNDRY_Gateway__Data": str(self.folder / "data" / name),
                     "FOUNDRY_Gateway__Listen": f"http://127.0.0.1:{port}", "FOUNDRY_Gateway__OpsListen": f"http://127.0.0.1:{ops}"}, lambda: is_ready(ops))

    def revocations(self, number):
        text = call(self.ports[number][1], "GET", "/metrics")[1].decode()
        return next((int(float(line.split("}")[-1].split()[0])) for line in text.splitlines() if line.startswith("foundry_revocations")), 0)

    def issue(self, count):
        tokens = []
        for _ in range(count):
            for _ in range(100):
                status, body = call(self.ports[0][0], "POST", f"/v1/tenants/{TENANT}/tokens", {"subject_pubkey": SUBJECT, "scope": "read", "expires_in_seconds": 86400}, self.admin)
                if status != 429:
                    break
                time.sleep(0.1)     # An administrator's token has a rate of its own.
            expect("issuing a token", status, 201)
            issued = json.loads(body)
            tokens.append((issued["token_id"], issued["token"]))
        return tokens


class Caller:
    """A kept connection to one gateway."""
    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def status(self, token, method="GET", path="/v1/status"):
        self.connection.request(method, path, headers={"Authorization": f"Bearer {token}"})
        response = self.connection.getresponse()
        response.read()
        return response.status


def refused_after(caller, token, since):
    end = since + 10
    while (status := caller.status(token)) == 200 and time.monotonic() < end:
        pass
    expect("a revoked token within 10 s", status, 401)
    return time.monotonic() - since

def revoke_one_by_one(parts, count, interval):
    """Milliseconds from the 204 until each gateway refuses; a list for each gateway."""
    tokens = parts.issue(count)
    callers = [Caller(port) for port, _ in parts.ports]
    administrator = Caller(parts.ports[0][0])
    for caller in callers:
        for _, token in tokens:
            expect("a token before its revocation", caller.status(token), 200)
    times = [[] for _ in callers]
    with concurrent.futures.ThreadPoolExecutor(GATEWAYS) as pool:
        due = time.monotonic()
        for token_id, token in tokens:
            time.sleep(max(0, due - time.monotonic()))
            due += interval
            while (status := administrator.status(parts.admin, "DELETE", f"/v1/tokens/{token_id}")) == 429 and time.monotonic() < due + 10:
                time.sleep(0.1)
            expect("revoking", status, 204)
            since = time.monotonic()
            for number, ended in enumerate([pool.submit(refused_after, caller, token, since) for caller in callers]):
                times[number].append(ended.result() * 1e3)
    return times

def request_times(parts, token, count):
    caller = Caller(parts.ports[0][0])
    times = []
    for _ in range(count):
        before = time.perf_counter()
        expect("a request", caller.status(token), 200)
        times.append((time.perf_counter() - before) * 1e3)
    return times

def seed(parts, count):
    """A million revoked tokens straight into the store of the stopped issuance; with another hash in the chain, so that gateways take a snapshot."""
    stop(parts.issuance)
    with sqlite3.connect(next((parts.folder / "data").rglob("issuance.db"))) as store:
        kid, = store.execute("SELECT kid FROM signing_keys WHERE status = 'active'").fetchone()
        now = int(time.time())
        store.executemany("INSERT INTO tokens (token_id, tenant_id, scope, subject_pubkey, issued_at, expires_at, kid, revoked_at, in_admin_file) VALUES (?, ?, 'read', ?, ?, ?, ?, ?, 0)",
                          ((str(uuid.uuid4()), TENANT, "k", now, now + 86400 + n % 3600, kid, now) for n in range(count)))
        store.execute("UPDATE platform SET feed_hash = 'seeded'")
    before = time.monotonic()
    parts.start_issuance()
    while any(parts.revocations(number) < count for number in range(GATEWAYS)):
        if time.monotonic() - before > 180:
            raise SystemExit("bench: the gateways did not take the snapshot in 180 s")
        time.sleep(0.05)
    return time.monotonic() - before

def of(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]

def row(name, times):
    return f"| {name} | {len(times)} | {of(times, 0.5):.2f} | {of(times, 0.99):.2f} | {max(times):.2f} |"

def peak_mb(process):
    return int(next(line for line in open(f"/proc/{process.pid}/status") if line.startswith("VmHWM")).split()[1]) / 1024

def main():
    parser = argparse.ArgumentParser(prog="bench/revocation/run", description="From a revocation to its refusal, and a million revocations in memory, on loopback.")
    parser.add_argument("--tokens", type=int, default=1000, choices=range(1, 10_001), metavar="1..10000", help="revoked one by one")
    parser.add_argument("--interval", type=float, default=0.05, help="seconds from one to the next")
    parser.add_argument("--live", type=int, default=1_000_000, choices=range(1, 4_000_001), metavar="1..4000000", help="live revocations")
    parser.add_argument("--no-save", action="store_true", help="prints the table only")
    options = parser.parse_args()

    load = os.getloadavg()[0]
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True).stdout.strip()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="foundry-bench-"))
    try:
        parts = Parts(folder)
        status, body = call(parts.ports[0][0], "POST", "/v1/tenants", {"tenant_id": TENANT, "display_name": "Bench", "max_vms": 1, "storage_quota_gb": 1, "api_rate_limit_rpm": 10_000_000}, parts.admin)
        expect(f"creating a tenant ({body.decode()})", status, 201)
        (_, live), = parts.issue(1)
        for port, _ in parts.ports:
            end = time.monotonic() + 10
            while call(port, "GET", "/v1/status", token=live)[0] != 200 and time.monotonic() < end:
                time.sleep(0.1)
        request_times(parts, live, 3000)    # Tiered compilation has to have seen the path.
        revoke_one_by_one(parts, 50, options.interval)
        refusals = revoke_one_by_one(parts, options.tokens, options.interval)
        few = (request_times(parts, live, 5000), [rss_mb(gateway) for gateway in parts.gateways], [peak_mb(gateway) for gateway in parts.gateways])
        seconds = seed(parts, options.live)
        request_times(parts, live, 3000)
        many = (request_times(parts, live, 5000), [rss_mb(gateway) for gateway in parts.gateways], [peak_mb(gateway) for gateway in parts.gateways])
        later = revoke_one_by_one(parts, min(options.tokens, 300), options.interval)
        stop(parts.gateways[0])
        state = folder / "data" / "gateway-1" / "feed.state"
        before = time.monotonic()
        parts.gateways[0] = parts.start_gateway(0)
        restart = time.monotonic() - before
        expect("revocations after the restart", parts.revocations(0) >= options.live, True)
        table = "| what | n | p50 ms | p99 ms | max ms |\n|---|---:|---:|---:|---:|"
        lines = [f"# Revocation, measured {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC", "",
                 f"- Machine: {CORES} cores, shared by all of it and by whatever else runs; commit {commit}.",
                 f"- Command: `bench/revocation/run{''.join(' ' + word for word in sys.argv[1:])}`; load average {load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end.",
                 f"- Issuance (SQLite), ledger, fleet, Redis and {GATEWAYS} gateways, a process each, Release; one token revoked every {options.interval * 1e3:.0f} ms.", "",
                 "## From the `204` until the gateway refuses the token over HTTP", "", table,
                 *(row(f"gateway {number + 1}", times) for number, times in enumerate(refusals)),
                 row("the last of the three", [max(times) for times in zip(*refusals)]),
                 row(f"the last of the three, with {options.live:,} live revocations", [max(times) for times in zip(*later)]), "",
                 "## A request (`GET /v1/status`), one connection", "", table,
                 row(f"with {options.tokens + 50:,} revocations", few[0]), row(f"with {options.live:,} more", many[0]), "",
                 f"## {options.live:,} live revocations", "", "| what | gateway 1 | gateway 2 | gateway 3 |", "|---|---:|---:|---:|"]
        for name, figures in (("RSS before, MB", few[1]), ("RSS after, MB", many[1]), ("most RSS ever before, MB", few[2]), ("most RSS ever after, MB", many[2])):
            lines.append(f"| {name} | {' | '.join(f'{figure:.0f}' for figure in figures)} |")
        lines += ["", f"- Issuance started, and all three had the snapshot, after {seconds:.1f} s; `feed.state` is {state.stat().st_size / 1e6:.1f} MB; a gateway starts from it in {restart:.1f} s."]
        text = "\n".join(lines) + "\n"
    finally:
        for process in reversed(list(started)):
            stop(process)
        shutil.rmtree(folder, ignore_errors=True)
    print(text)
    if not options.no_save:
        file = ROOT / "bench" / "results" / f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d-%H%M}-revocation.md"
        file.write_text(text)
        print(f"saved as {file.relative_to(ROOT)}", file=sys.stderr)

if __name__ == "__main__":
    # SIGTERM ends it like Ctrl-C does: through the finally above.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
