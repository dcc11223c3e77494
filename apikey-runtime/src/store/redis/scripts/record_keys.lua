-- KEYS: after meta and changes, the index, the purge index, the owners, and their revocations.
local index, purge_index, owners, revocations = KEYS[3], KEYS[4], KEYS[5], KEYS[6]

