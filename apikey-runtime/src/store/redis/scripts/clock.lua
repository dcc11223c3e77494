-- Returns the time of the server.
local function now_millis()
    local now = redis.call('TIME')
    return now[1] .. string.sub(string.format('%06d', now[2]), 1, 3)
end

