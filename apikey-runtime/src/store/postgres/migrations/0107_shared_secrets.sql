-- Secrets that all nodes share, such as a key that signs the forms of a web page.
CREATE TABLE api_key_shared_secrets (
    name text COLLATE "C" NOT NULL PRIMARY KEY,
    secret bytea NOT NULL CHECK (length(secret) = 32)
);
