-- Raises the version of the schema, and the protocol that a node has to speak for a lease. They are lower in data of an older
-- release, and in a history that an older release started which is still running.
local function raise_versions(schema, protocol)
    for field, least in pairs({ schema = schema, required_protocol = protocol }) do
        local present = redis.call('HGET', meta, field)
        if not present or (tonumber(present) or 0) < tonumber(least) then
            redis.call('HSET', meta, field, least)
        end
    end
end

