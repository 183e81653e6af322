-- +goose Up

-- password is a hash in PHC string form. A session belongs to the generation
-- that its account had when it was opened; sessions of earlier generations are
-- revoked.
CREATE TABLE account (
    id            uuid        PRIMARY KEY,
    email         text        NOT NULL UNIQUE CHECK (octet_length(email) BETWEEN 3 AND 254),
    password      text        NOT NULL CHECK (octet_length(password) BETWEEN 1 AND 512),
    generation    bigint      NOT NULL CHECK (generation >= 1),
    registered_at timestamptz NOT NULL,
    changed_at    timestamptz NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    version       bigint      NOT NULL DEFAULT 1
);

CREATE TRIGGER account_touch BEFORE INSERT OR UPDATE ON account
    FOR EACH ROW EXECUTE FUNCTION entity_touch();

-- id is the SHA-256 of the session's token, in hex; the token is stored nowhere.
CREATE TABLE session (
    id         text        PRIMARY KEY CHECK (id ~ '^[0-9a-f]{64}$'),
    account_id uuid        NOT NULL REFERENCES account,
    generation bigint      NOT NULL CHECK (generation >= 1),
    opened_at  timestamptz NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at > opened_at),
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    version    bigint      NOT NULL DEFAULT 1
);

CREATE TRIGGER session_touch BEFORE INSERT OR UPDATE ON session
    FOR EACH ROW EXECUTE FUNCTION entity_touch();

CREATE INDEX session_expires ON session (expires_at);
