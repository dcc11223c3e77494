-- KEYS: the shared secrets. ARGV: the name, and a proposal. Answers the secret: the first proposal stays.
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if not kept then
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
    kept = ARGV[2]
end
return kept
