-- +goose Up

-- requested_at and changed_at are business times, given by the events;
-- created_at and updated_at are the row's.
CREATE TABLE notification (
    id           uuid        PRIMARY KEY,
    recipient    text        NOT NULL CHECK (octet_length(recipient) BETWEEN 1 AND 256),
    channel      text        NOT NULL CHECK (channel IN ('email', 'sms', 'push')),
    subject      text        NOT NULL CHECK (octet_length(subject) BETWEEN 1 AND 256),
    body         text        NOT NULL CHECK (octet_length(body) BETWEEN 1 AND 65536),
    status       text        NOT NULL CHECK (status IN ('requested', 'sent', 'failed', 'abandoned')),
    attempts     integer     NOT NULL CHECK (attempts >= 0),
    reason       text        NOT NULL DEFAULT '',
    requested_at timestamptz NOT NULL,
    changed_at   timestamptz NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    version      bigint      NOT NULL DEFAULT 1
);

CREATE TRIGGER notification_touch BEFORE INSERT OR UPDATE ON notification
    FOR EACH ROW EXECUTE FUNCTION entity_touch();
