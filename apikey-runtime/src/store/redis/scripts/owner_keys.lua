-- KEYS: the owners, their revocations, and records.
local owners, revocations = KEYS[1], KEYS[2]

