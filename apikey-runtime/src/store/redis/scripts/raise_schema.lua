-- ARGV: the schema, and the protocol.
raise_versions(ARGV[3], ARGV[4])
return { 'done' }
