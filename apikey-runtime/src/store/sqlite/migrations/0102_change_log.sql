-- What an entry of the log is about: `key` (the record of `key_id`), `member` (a node joined, and no record changed), or
-- `all` (any record may have changed). A reader that does not know a kind evicts everything, so a later release can add
-- kinds.
ALTER TABLE api_key_changes ADD COLUMN kind TEXT NOT NULL DEFAULT 'key';

UPDATE api_key_changes SET kind = 'member' WHERE key_id = '';
UPDATE api_key_changes SET kind = 'all' WHERE key_id = '' AND epoch = (SELECT min(epoch) FROM api_key_changes);

-- The protocol version that a process must speak to use the file's log. One that does not takes no lease.
ALTER TABLE api_key_meta ADD COLUMN required_protocol INTEGER NOT NULL DEFAULT 1;

-- Heartbeats remove what every node has acknowledged; this is the bound if a node does not acknowledge.
DROP TRIGGER api_key_changes_trimmed;
CREATE TRIGGER api_key_changes_trimmed AFTER INSERT ON api_key_changes BEGIN
    DELETE FROM api_key_changes WHERE epoch <= NEW.epoch - 1000000;
END;
