-- ARGV: the schema, and the protocol. Passes over what an older release has written are yet to be made: their positions tell that
-- to a start which may not make them.
redis.call('HSETNX', meta, 'notices', 'x')
redis.call('HSETNX', meta, 'owners', 'i')
raise_versions(ARGV[3], ARGV[4])
return { 'done' }
