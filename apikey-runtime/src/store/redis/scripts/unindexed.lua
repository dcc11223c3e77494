-- KEYS: the index. ARGV: at most how many. Answers entries of an older release, whose records are to be indexed.
return redis.call('ZRANGE', KEYS[1], '[l', '(m', 'BYLEX', 'LIMIT', 0, ARGV[1])
