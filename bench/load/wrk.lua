-- GET of one path with each token of a file in turn. Environment: BENCH_PATH, BENCH_TOKENS (a file, one a line; absent: no token).
-- The last line is JSON for measure.py. wrk counts a status of 400 or more as an error.
local requests, last = {}, 0

function init()
  local path, tokens = os.getenv("BENCH_PATH"), os.getenv("BENCH_TOKENS")
  if not tokens then
    requests[1] = wrk.format("GET", path)
    return
  end
  for token in io.lines(tokens) do
    requests[#requests + 1] = wrk.format("GET", path, { Authorization = "Bearer " .. token })
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local e = summary.errors
  print(string.format('{"requests":%d,"us":%d,"bytes":%d,"errors":%d,"p50_us":%d,"p99_us":%d}', summary.requests, summary.duration,
    summary.bytes, e.status + e.connect + e.read + e.write + e.timeout, latency:percentile(50), latency:percentile(99)))
end
