-- Owners as they are in another store. KEYS: those of record_keys.lua. ARGV: after those of change_log.lua, for each owner its name, the
-- text that it has here, or nothing, and its text. Answers `changed` if a text is another one. Nothing is written then.
for i = 3, #ARGV, 3 do
    if (redis.call('HGET', owners, ARGV[i]) or '') ~= ARGV[i + 1] then
        return { 'changed' }
    end
end
append_change('', 'all')
for i = 3, #ARGV, 3 do
    redis.call('HSET', owners, ARGV[i], ARGV[i + 2])
    redis.call('ZADD', index, 0, 'p' .. ARGV[i])
end
notify()
return { 'done' }
