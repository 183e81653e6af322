-- +goose Up

-- What a person decided on a parked message. A decision (redrive, skip, discard)
-- is carried out when the leading relay next opens its session, which it does
-- within a second; the row then stays as the record of what was done.
ALTER TABLE outbox_parked
    ADD COLUMN state text NOT NULL DEFAULT 'parked' CONSTRAINT outbox_parked_state_valid
        CHECK (state IN ('parked', 'redrive', 'skip', 'discard', 'redriven', 'skipped', 'discarded'));
CREATE INDEX outbox_parked_decided ON outbox_parked (relay) WHERE state IN ('redrive', 'skip', 'discard');

-- Who decided what, append-only.
CREATE TABLE outbox_audit (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor     text        NOT NULL,
    action    text        NOT NULL,
    relay     text        NOT NULL,
    positions bigint[]    NOT NULL,
    note      text        NOT NULL DEFAULT ''
);
