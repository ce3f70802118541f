-- A POST of so many bytes of JSON, or with a second number N above 0 to the paths /0 to /N-1 below the URL in turn; what
-- follows are names and values of headers. Called without HTTP around it, the echo reads "body" of this very JSON. Prints
-- one RESULT line that the harness reads.
function init(args)
  local size, paths = tonumber(args[1]) or 100, tonumber(args[2])
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = '{"body":"' .. string.rep("x", size - 11) .. '"}'
  for number = 3, #args, 2 do
    wrk.headers[args[number]] = args[number + 1]
  end
  if paths and paths > 0 then
    local requests, turn = {}, 0
    for number = 0, paths - 1 do
      requests[number + 1] = wrk.format(nil, wrk.path .. "/" .. number)
    end
    request = function()
      turn = turn % paths + 1
      return requests[turn]
    end
  end
end

function done(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  io.write(string.format('RESULT {"requests_per_second":%.3f,"p50_us":%.1f,"p99_us":%.1f,"errors":%d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50), latency:percentile(99), errors))
end
