-- What the key is limited to: a JSON array as in [{"name":"daily","quota":"1000/day"},{"name":"m","rate":"10/minute"}].
ALTER TABLE api_keys ADD COLUMN limits TEXT NOT NULL DEFAULT '[]'
    CHECK (json_valid(limits) AND json_type(limits) = 'array');
