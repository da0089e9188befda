-- One fixed request for wrk, from the environment, and its summary as one line of JSON.
--
-- BODY_FILE: the request's body. POST, JSON, keep-alive.
-- HEADERS: optional headers in place of JSON's Content-Type, "Name: value" with | between.
-- AUTHORIZATION: optional header of that name.
-- PAUSE_MS: optional pause of each connection between an answer and the next request.
-- The line: requests, seconds, errors (by kind; status counts replies of 400 and above), latencies in
-- microseconds.

local file = assert(io.open(assert(os.getenv("BODY_FILE"), "BODY_FILE is not set"), "rb"))
wrk.method = "POST"
for name, value in (os.getenv("HEADERS") or "Content-Type: application/json"):gmatch("([^:|]+): ([^|]+)") do
  wrk.headers[name] = value
end
local authorization = os.getenv("AUTHORIZATION")
if authorization then
  wrk.headers["Authorization"] = authorization
end
wrk.body = file:read("*a")
file:close()

local pause = tonumber(os.getenv("PAUSE_MS"))
if pause then
  function delay()
    return pause
  end
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d},' ..
      ' "p50_us": %d, "p99_us": %d, "max_us": %d}\n',
    summary.requests, summary.duration / 1e6,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout,
    latency:percentile(50), latency:percentile(99), latency.max
  ))
end
