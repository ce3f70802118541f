-- A POST again and again, each caller with a pause before it of so many milliseconds on average; counts answers by what
-- they say. With the same pause for all, they would come in one crowd, again and again, and nobody in between.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local pause = tonumber(args[1])
  good, throttled, other = 0, 0, 0
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.body = "{}"
  if pause > 0 then
    delay = function() return math.random(0, 2 * pause) end
  end
end

function response(status)
  if status >= 200 and status < 300 then
    good = good + 1
  elseif status == 429 then
    throttled = throttled + 1
  else
    other = other + 1
  end
end

function done(summary)
  local seconds, errors = summary.duration / 1e6, summary.errors
  local good, throttled, other = 0, 0, errors.connect + errors.read + errors.write + errors.timeout
  for _, thread in ipairs(threads) do
    good, throttled, other = good + thread:get("good"), throttled + thread:get("throttled"), other + thread:get("other")
  end
  io.write(string.format('RESULT {"good":%.3f,"throttled":%.3f,"other":%.3f}\n',
    good / seconds, throttled / seconds, other / seconds))
end
