#!/usr/bin/env python3
"""CPU per request of the gateway beside a bare YARP passthrough; see ../README.md. Called by ../run, which builds what is started here.

Everything is on loopback, in a temporary folder that is removed, and ends by itself: every loop and every wait has a bound, and
only processes that were started here are ever signalled, by their process ID.
"""
import argparse, datetime, grp, http.client, json, os, pathlib, pwd, resource, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BIN = ROOT / "artifacts" / "bin"
TICK = os.sysconf("SC_CLK_TCK")
CORES = os.cpu_count()

TENANTS, TOKENS_EACH = 16, 4
PING = '{"status":"ok","pad":"' + "x" * 176 + '"}'      # 200 bytes
LIST_RECORDS = 10_000
LIST_CONNECTIONS = 4
# Every token is for this subject: the public key of RFC 8032, section 7.1, test 1. Nobody here proves to have it.
SUBJECT = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
JOIN_CODE = "only-for-this-run-and-on-loopback"


# ---- processes

started = []

def start(name, command, folder, env=None, ready=None, seconds=60):
    """Starts a program, its output in a file, and waits until ready() says so."""
    # Appended to, so that the file can be emptied between rounds.
    output = open(folder / f"{name}.log", "ab")
    process = subprocess.Popen([str(part) for part in command], cwd=folder, stdout=output, stderr=output,
                               env={**os.environ, "DOTNET_NOLOGO": "1", **(env or {})})
    process.name = name
    process.log = folder / f"{name}.log"
    started.append(process)
    end = time.monotonic() + seconds
    while ready and not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"bench: {name} did not start: {process.log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.005)
    return process

def stop(process):
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process in started:
        started.remove(process)

def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports

def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0

def tree(process):
    """A process and its children (nginx's worker), by ID."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [process.pid, *map(int, children)]

def cpu(process):
    """Seconds of processor time, user and system, all threads."""
    return sum(sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) for pid in tree(process)) / TICK

def rss_mb(process):
    return sum(int(line.split()[1]) for pid in tree(process) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")) / 1024

def machine_busy():
    """Seconds of processor time that anything on the machine has used."""
    user, nice, system, _, _, irq, soft, steal = (int(field) / TICK for field in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return user + nice + system + irq + soft + steal

def own_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ---- HTTP

def call(port, method, path, body=None, token=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, None if body is None else json.dumps(body),
                           {**({"Authorization": f"Bearer {token}"} if token else {}), **({"Content-Type": "application/json"} if body is not None else {}), **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()

def is_ready(port):
    try:
        return call(port, "GET", "/readyz")[0] == 200
    except OSError:
        return False

def expect(what, got, want):
    if got != want:
        raise SystemExit(f"bench: {what}: {got!r}, not {want!r}; nothing was measured")


# ---- what is measured

def start_backend(folder):
    port, = free_ports(1)
    records = [{"vm_id": f"vm-{i:08}", "tenant_id": tenant(i % TENANTS), "node_id": f"node-{i % 97:03}", "status": "running", "vm_type": "ubuntu-24.04-small",
                "ram_alloc_mb": 2048, "disk_gb": 20, "name": f"worker-{i:05}", "created_at": "2025-11-03T09:15:00Z", "note": "filtered"} for i in range(LIST_RECORDS)]
    (folder / "list.json").write_text(json.dumps(records, separators=(",", ":")))
    account = pwd.getpwuid(os.getuid())
    text = (HERE / "backend.conf").read_text()
    for name, value in {"USER": f"{account.pw_name} {grp.getgrgid(account.pw_gid).gr_name}", "FOLDER": folder, "PORT": port, "PING": PING}.items():
        text = text.replace(f"@{name}@", str(value))
    (folder / "backend.conf").write_text(text)
    return start("nginx", ["nginx", "-e", folder / "nginx.log", "-c", folder / "backend.conf"], folder, ready=lambda: listens(port)), port

def config_folder(folder, backend):
    """The repository's own configuration, and the routes to the backend beside it."""
    config = folder / "config"
    shutil.copytree(ROOT / "config", config)
    (config / "routes" / "bench.json").write_text((HERE / "routes.json").read_text().replace("@BACKEND@", f"http://127.0.0.1:{backend}/"))
    return config

def tenant(number):
    return f"bench-{number:02}"

def program(name):
    return ["dotnet", BIN / name / "release" / f"{name}.dll"]

def start_parts(folder, config, variants):
    """Redis, issuance, ledger and fleet, and a gateway per variant, each a process of its own."""
    redis, issuance, ledger, fleet = free_ports(4)
    store = start("redis", ["redis-server", "--bind", "127.0.0.1", "--port", redis, "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"], folder, ready=lambda: listens(redis))
    settings = {"FOUNDRY_CONFIG": str(config), "FOUNDRY_DATA": str(folder / "data"), "FOUNDRY_Trust__JoinCode": JOIN_CODE, "FOUNDRY_Gateway__Redis": f"127.0.0.1:{redis}"}
    for part, port in {"Issuance": issuance, "Ledger": ledger, "Fleet": fleet}.items():
        settings |= {f"FOUNDRY_{part}__Listen": f"http://127.0.0.1:{port}", f"FOUNDRY_{part}__Url": f"http://127.0.0.1:{port}"}
    first = start("issuance", program("Foundry.Issuance"), folder, settings, lambda: is_ready(issuance))
    printed = first.log.read_text()
    settings["FOUNDRY_Trust__RootThumbprint"] = printed.split("Trust:RootThumbprint=", 1)[1].split()[0]
    start("ledger", program("Foundry.Ledger"), folder, settings, lambda: is_ready(ledger))
    start("fleet", program("Foundry.Fleet"), folder, settings, lambda: is_ready(fleet))
    gateways = []
    for number, more in enumerate(variants, 1):
        port, ops = free_ports(2)
        name = f"gateway-{number}"
        gateway = start(name, program("Foundry.Gateway"), folder, {**settings, "FOUNDRY_Gateway__Name": name, "FOUNDRY_Gateway__Data": str(folder / "data" / name),
                        "FOUNDRY_Gateway__Listen": f"http://127.0.0.1:{port}", "FOUNDRY_Gateway__OpsListen": f"http://127.0.0.1:{ops}", **more}, lambda: is_ready(ops))
        gateways.append((gateway, port))
    return store, gateways

def make_tokens(folder, gateway):
    """Tenants that no rate stops, and read tokens of each; line n is of tenant (n - 1) modulo TENANTS."""
    admin = next((folder / "data").rglob("admin.token")).read_text().strip()
    for number in range(TENANTS):
        status, body = call(gateway, "POST", "/v1/tenants", {"tenant_id": tenant(number), "display_name": "Bench", "max_vms": 1, "storage_quota_gb": 1, "api_rate_limit_rpm": 10_000_000}, admin)
        expect(f"creating a tenant ({body.decode()})", status, 201)
    tokens = []
    for number in range(TENANTS * TOKENS_EACH):
        status, body = call(gateway, "POST", f"/v1/tenants/{tenant(number % TENANTS)}/tokens", {"subject_pubkey": SUBJECT, "scope": "read", "expires_in_seconds": 86400}, admin)
        expect(f"issuing a token ({body.decode() if status != 201 else ''})", status, 201)
        tokens.append(json.loads(body)["token"])
    (folder / "tokens").write_text("\n".join(tokens) + "\n")
    return tokens

def check(port, tokens):
    """Is the whole job done? Before anything is measured, and it does not run if not."""
    end = time.monotonic() + 10
    while call(port, "GET", "/v1/ping", token=tokens[-1])[0] != 200 and time.monotonic() < end:
        time.sleep(0.1)     # The gateway hears of a new tenant within a second.
    expect("without a token", call(port, "GET", "/v1/ping")[0], 401)
    expect("with a token that was changed", call(port, "GET", "/v1/ping", token=tokens[0][:-8] + "AAAAAAAA")[0], 401)
    expect("with a token", call(port, "GET", "/v1/ping", token=tokens[0]), (200, PING.encode()))
    status, body = call(port, "GET", "/v1/echo", token=tokens[1], headers={"X-Foundry-Tenant": tenant(0), "X-Foundry-Claimed": "yes"})
    expect("what the backend hears", (status, json.loads(body)), (200, {"tenant": tenant(1), "claimed": "", "authorization": ""}))
    status, body = call(port, "GET", "/v1/list", token=tokens[2])
    expect("the list", (status, {record["tenant_id"] for record in json.loads(body)}, len(json.loads(body))), (200, {tenant(2)}, LIST_RECORDS // TENANTS))


# ---- measuring

class Peer:
    def __init__(self, name, process, port, tokens):
        self.name, self.process, self.port, self.tokens, self.rounds, self.lists = name, process, port, tokens, [], []

def load(peer, path, seconds, connections):
    env = {**os.environ, "BENCH_PATH": path}
    if peer.tokens:
        env["BENCH_TOKENS"] = str(peer.tokens)
    output = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", HERE / "wrk.lua", f"http://127.0.0.1:{peer.port}"],
                            capture_output=True, text=True, timeout=seconds + 60, env=env, check=True).stdout
    return json.loads(output.strip().splitlines()[-1])

def others_share(seconds=1.0):
    """How much of the machine anything uses while nothing is measured, 0 to 1."""
    before = machine_busy()
    time.sleep(seconds)
    return (machine_busy() - before) / seconds / CORES

def settle(patience, quiet):
    """Waits for a quiet moment, no longer than patience."""
    for _ in range(patience):
        if others_share() < quiet:
            return

def measure(peer, backend, store, path, seconds, connections):
    before = cpu(peer.process), cpu(store), cpu(backend), machine_busy(), own_children(), time.monotonic()
    result = load(peer, path, seconds, connections)
    after = cpu(peer.process), cpu(store), cpu(backend), machine_busy(), own_children(), time.monotonic()
    proxy, redis, back, machine, wrk, wall = (b - a for a, b in zip(before, after))
    if result["errors"] or not result["requests"]:
        raise SystemExit(f"bench: {peer.name}: {result['errors']} errors in {result['requests']} requests of {path}; the run is void")
    return {"cpu_us": proxy / result["requests"] * 1e6, "redis_us": redis / result["requests"] * 1e6, "rate": result["requests"] / (result["us"] / 1e6),
            "p50": result["p50_us"] / 1e3, "p99": result["p99_us"] / 1e3, "requests": result["requests"], "bytes": result["bytes"] / result["requests"],
            "others": max(0.0, machine - proxy - redis - back - wrk) / wall / CORES, "rss": rss_mb(peer.process)}

def empty_logs(peers):
    for peer in peers:
        os.truncate(peer.process.log, 0)

def standalone(folder, config, starts, idle_seconds):
    """Process start to ready, on an empty folder and on one that has state; resident memory when idle."""
    first, later, idle = [], [], None
    for number in range(starts):
        for times in first, later:
            public, ops, *parts = free_ports(5)
            env = {"FOUNDRY_CONFIG": str(config), "FOUNDRY_DATA": str(folder / f"standalone-{number}"),
                   "FOUNDRY_Gateway__Listen": f"http://127.0.0.1:{public}", "FOUNDRY_Gateway__OpsListen": f"http://127.0.0.1:{ops}",
                   **{f"FOUNDRY_{part}__Listen": f"http://127.0.0.1:{port}" for part, port in zip(("Issuance", "Ledger", "Fleet"), parts)}}
            begun = time.monotonic()
            process = start("standalone", program("Foundry.Standalone"), folder, env, lambda: is_ready(ops))
            times.append(time.monotonic() - begun)
            if times is later and number == starts - 1:
                time.sleep(idle_seconds)
                idle = rss_mb(process)
            stop(process)
    return first, later, idle


# ---- saying it

def median(rounds, key):
    return statistics.median(r[key] for r in rounds)

def spread(values):
    """Half the range, in per cent of the median."""
    return (max(values) - min(values)) / 2 / statistics.median(values) * 100

def machine_lines():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown CPU")
    memory = int(next(line for line in open("/proc/meminfo") if line.startswith("MemTotal")).split()[1]) / 1024 / 1024
    git = lambda *words: subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()
    commit = git("rev-parse", "--short=12", "HEAD") + (" with uncommitted changes" if git("status", "--porcelain", "--", "src", "config", "bench/load") else "")
    version = lambda *words: subprocess.run(words, capture_output=True, text=True)
    return [f"- Machine: {CORES} cores of {model}, {memory:.0f} GB; proxy, backend, Redis and load share them.",
            f"- Commit: {commit}; .NET SDK {version('dotnet', '--version').stdout.strip()}; {version('nginx', '-v').stderr.strip()}; {version('redis-server', '--version').stdout.split(' sha')[0]}."]

def report(options, machine, peers, list_mb, start_figures, load_before):
    everything = [r for peer in peers for r in peer.rounds + peer.lists]
    bare = peers[0]
    lines = [f"# Measured {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC", "", *machine,
             f"- Command: `bench/run{''.join(' ' + word for word in sys.argv[1:])}`.",
             f"- Noise: other processes used {median(everything, 'others') * 100:.0f} % of the machine in the median round and {max(r['others'] for r in everything) * 100:.0f} % in the worst; load average {load_before:.1f} at the start.",
             f"- Errors: none, in {sum(r['requests'] for r in everything):,} requests.", "",
             f"## `GET /v1/ping`: 200 bytes, {options.rounds} interleaved rounds of {options.seconds} s, {options.connections} connections", "",
             "Medians over the rounds; ± is half the range; the ratio is the median of each round's own.", "",
             "| what | CPU µs/request | ± % | × bare YARP | lowest to highest | Redis µs/request | requests/s | p50 ms | p99 ms | RSS MB |", "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|"]
    for peer in peers:
        ratios = [mine["cpu_us"] / yardstick["cpu_us"] for mine, yardstick in zip(peer.rounds, bare.rounds)]
        lines.append(f"| {peer.name} | {median(peer.rounds, 'cpu_us'):.1f} | {spread([r['cpu_us'] for r in peer.rounds]):.0f} | **{statistics.median(ratios):.2f}** | {min(ratios):.2f} to {max(ratios):.2f} "
                     f"| {'' if peer is bare else format(median(peer.rounds, 'redis_us'), '.1f')} | {median(peer.rounds, 'rate'):,.0f} | {median(peer.rounds, 'p50'):.2f} | {median(peer.rounds, 'p99'):.2f} | {median(peer.rounds, 'rss'):.0f} |")
    if bare.lists:
        lines += ["", f"## `GET /v1/list`: {LIST_RECORDS:,} records, {list_mb:.2f} MB, 1 of {TENANTS} the caller's; {LIST_CONNECTIONS} connections", "",
                  "Bare YARP passes the whole list on; the gateway filters it.", "",
                  "| what | CPU ms per MB of the backend's body | ± % | × bare YARP | lists/s | p50 ms | bytes to the client | RSS MB |", "|---|---:|---:|---:|---:|---:|---:|---:|"]
        for peer in (peer for peer in peers if peer.lists):
            per_mb = [r["cpu_us"] / 1e3 / list_mb for r in peer.lists]
            ratios = [mine["cpu_us"] / yardstick["cpu_us"] for mine, yardstick in zip(peer.lists, bare.lists)]
            lines.append(f"| {peer.name} | {statistics.median(per_mb):.2f} | {spread(per_mb):.0f} | **{statistics.median(ratios):.2f}** | {median(peer.lists, 'rate'):.1f} | {median(peer.lists, 'p50'):.1f} | {median(peer.lists, 'bytes'):,.0f} | {median(peer.lists, 'rss'):.0f} |")
    if start_figures:
        first, later, idle = start_figures
        lines += ["", f"## Standalone, Release: {len(first)} starts each", "", "| what | median | lowest to highest |", "|---|---:|---|"]
        for name, times in ("process start to ready, first start", first), ("process start to ready, later start", later):
            lines.append(f"| {name} | {statistics.median(times):.2f} s | {min(times):.2f} to {max(times):.2f} s |")
        lines.append(f"| RSS after {options.idle} s idle | {idle:.0f} MB | |")
    return "\n".join(lines) + "\n"

def main():
    parser = argparse.ArgumentParser(prog="bench/run", description="CPU per request of the gateway beside a bare YARP passthrough, on loopback.")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, 21), metavar="1..20")
    parser.add_argument("--seconds", type=int, default=8, choices=range(1, 61), metavar="1..60", help="of each round")
    parser.add_argument("--connections", type=int, default=32, choices=range(1, 257), metavar="1..256")
    parser.add_argument("--starts", type=int, default=5, choices=range(0, 21), metavar="0..20", help="of standalone, first and later each; 0 leaves them out")
    parser.add_argument("--idle", type=int, default=30, choices=range(1, 301), metavar="1..300", help="seconds until the idle memory is read")
    parser.add_argument("--no-list", action="store_true", help="leaves the list filter out")
    parser.add_argument("--patience", type=int, default=10, choices=range(0, 61), metavar="0..60", help="seconds that a round waits for others to be quiet")
    parser.add_argument("--no-save", action="store_true", help="prints the table only")
    options = parser.parse_args()

    machine, load_before = machine_lines(), os.getloadavg()[0]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="foundry-bench-"))
    try:
        backend, backend_port = start_backend(folder)
        list_mb = (folder / "list.json").stat().st_size / 1e6
        config = config_folder(folder, backend_port)
        bare_port, = free_ports(1)
        bare = start("bare", [*program("BareYarp"), bare_port, f"http://127.0.0.1:{backend_port}/"], folder, ready=lambda: listens(bare_port))
        store, gateways = start_parts(folder, config, [{}, {"FOUNDRY_Log__Level": "Warning"}])
        tokens = make_tokens(folder, gateways[0][1])
        for _, port in gateways:
            check(port, tokens)
        peers = [Peer("bare YARP", bare, bare_port, None),
                 *(Peer(name, process, port, folder / "tokens") for name, (process, port) in zip(("gateway as shipped", "gateway, no line per request (`Log:Level` Warning)"), gateways))]

        for _ in range(2):      # Tiered compilation has to have seen the path.
            for peer in peers:
                load(peer, "/v1/ping", 5, options.connections)
        for number in range(options.rounds):
            for peer in peers:
                settle(options.patience, quiet=0.15)
                peer.rounds.append(measure(peer, backend, store, "/v1/ping", options.seconds, options.connections))
                last = peer.rounds[-1]
                print(f"round {number + 1}: {peer.name}: {last['cpu_us']:.1f} us, {last['rate']:.0f}/s, others {last['others'] * 100:.0f} %", file=sys.stderr, flush=True)
            empty_logs(peers)
        if not options.no_list:
            for peer in peers[:2]:
                load(peer, "/v1/list", 4, LIST_CONNECTIONS)
            for number in range(options.rounds):
                for peer in peers[:2]:
                    settle(options.patience, quiet=0.15)
                    peer.lists.append(measure(peer, backend, store, "/v1/list", 4, LIST_CONNECTIONS))
                    print(f"list {number + 1}: {peer.name}: {peer.lists[-1]['cpu_us'] / 1e3 / list_mb:.2f} ms/MB", file=sys.stderr, flush=True)
                empty_logs(peers)
        for process in reversed(list(started)):
            stop(process)
        figures = standalone(folder, config, options.starts, options.idle) if options.starts else None
        text = report(options, machine, peers, list_mb, figures, load_before)
    finally:
        for process in reversed(list(started)):
            stop(process)
        shutil.rmtree(folder, ignore_errors=True)
    print(text)
    if not options.no_save:
        file = ROOT / "bench" / "results" / f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d-%H%M}.md"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        print(f"saved as {file.relative_to(ROOT)}", file=sys.stderr)

if __name__ == "__main__":
    # SIGTERM ends it like Ctrl-C does: through the finally above.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    main()
