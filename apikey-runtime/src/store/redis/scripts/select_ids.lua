-- KEYS: the index. ARGV: the kind of place, its text, after which id, at most how many.
return index_range(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
