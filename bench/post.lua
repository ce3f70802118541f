-- A POST of so many bytes of JSON; prints one RESULT line that the harness reads.
function init(args)
  local size = tonumber(args[1]) or 100
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = '{"text":"' .. string.rep("x", size - 11) .. '"}'
end

function done(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  io.write(string.format('RESULT {"requests_per_second":%.3f,"p50_us":%.1f,"p99_us":%.1f,"errors":%d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50), latency:percentile(99), errors))
end
