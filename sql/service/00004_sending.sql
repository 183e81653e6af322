-- +goose NO TRANSACTION
-- +goose Up

-- Every statement here can be run again, because each commits by itself: an index
-- that is built without holding writers up cannot be part of a transaction.

-- When the recipient read it.
-- +goose StatementBegin
DO $$ BEGIN
    PERFORM set_config('lock_timeout', '5s', true); -- rather fail than queue all writers behind a long transaction
    ALTER TABLE notification ADD COLUMN IF NOT EXISTS read_at timestamptz;
END $$;
-- +goose StatementEnd

-- The newest notifications of a recipient.
DROP INDEX CONCURRENTLY IF EXISTS notification_recipient;
CREATE INDEX CONCURRENTLY notification_recipient ON notification (recipient, requested_at DESC, id DESC);

-- Which notifications are to be tried again, when, and who is at it: one row for
-- each that failed, until it is sent or abandoned. It is kept beside notification,
-- whose version counts events and must not count claims; and without a foreign
-- key, which would lock that table.
-- A row is claimed while claimed_until is set; after that time anybody may claim
-- it anew. attempt is the number of the latest attempt and tells claims apart.
-- attempt_group is part of the idempotency key. fence is the fencing token of the
-- lock under which it was claimed, 0 without one.
CREATE TABLE IF NOT EXISTS notification_sending (
    notification_id uuid        PRIMARY KEY,
    state           text        NOT NULL GENERATED ALWAYS AS (CASE WHEN claimed_until IS NULL THEN 'failed' ELSE 'sending' END) STORED,
    next_attempt_at timestamptz NOT NULL,
    claimed_until   timestamptz,
    attempt         integer     NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    attempt_group   integer     NOT NULL DEFAULT 1 CHECK (attempt_group >= 1),
    fence           bigint      NOT NULL DEFAULT 0,
    traceparent     text        NOT NULL DEFAULT '',
    correlation_id  text        NOT NULL DEFAULT '',
    causation_id    text        NOT NULL DEFAULT ''
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS notification_sending_due ON notification_sending (coalesce(claimed_until, next_attempt_at));

-- What failed before this table was there is due at once.
INSERT INTO notification_sending (notification_id, next_attempt_at, attempt)
SELECT id, clock_timestamp(), greatest(attempts, 1) FROM notification WHERE status = 'failed'
ON CONFLICT DO NOTHING;

-- What the consumer group "audit" saw: one row for each event, never changed.
CREATE TABLE IF NOT EXISTS notification_audit (
    id              bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    recorded_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    event_id        uuid        NOT NULL,
    event_type      text        NOT NULL,
    notification_id uuid        NOT NULL,
    version         bigint      NOT NULL,
    recipient       text        NOT NULL,
    status          text        NOT NULL,
    attempts        integer     NOT NULL,
    reason          text        NOT NULL,
    occurred_at     timestamptz NOT NULL,
    traceparent     text        NOT NULL DEFAULT '',
    correlation_id  text        NOT NULL DEFAULT ''
);
CREATE INDEX IF NOT EXISTS notification_audit_notification ON notification_audit (notification_id, version);

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION notification_audit_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'notification_audit is append-only';
END $$;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS notification_audit_keep ON notification_audit;
CREATE TRIGGER notification_audit_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON notification_audit
    FOR EACH STATEMENT EXECUTE FUNCTION notification_audit_keep();
