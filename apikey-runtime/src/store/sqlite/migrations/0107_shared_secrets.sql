-- Secrets that all processes share, such as a key that signs the forms of a web page.
CREATE TABLE api_key_shared_secrets (
    name TEXT NOT NULL PRIMARY KEY,
    secret BLOB NOT NULL CHECK (length(secret) = 32)
) STRICT, WITHOUT ROWID;
