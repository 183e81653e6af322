-- +goose Up

-- The log. Append-only: no UPDATE and no DELETE; retention drops partitions.
-- Any language may INSERT here (docs/contract.md).
CREATE TABLE outbox (
    position          bigint GENERATED ALWAYS AS IDENTITY (CACHE 1),
    event_id          uuid        NOT NULL DEFAULT gen_random_uuid(),
    topic             text        NOT NULL CONSTRAINT outbox_topic_valid CHECK (topic ~ '^[A-Za-z0-9._-]{1,249}$' AND topic NOT IN ('.', '..')),
    key               text        NOT NULL CONSTRAINT outbox_key_valid CHECK (octet_length(key) BETWEEN 1 AND 1024),
    aggregate_type    text        NOT NULL DEFAULT '' CONSTRAINT outbox_aggregate_type_valid CHECK (octet_length(aggregate_type) <= 255),
    aggregate_id      text        NOT NULL DEFAULT '' CONSTRAINT outbox_aggregate_id_valid CHECK (octet_length(aggregate_id) <= 255),
    aggregate_version bigint      CONSTRAINT outbox_aggregate_version_valid CHECK (aggregate_version > 0),
    event_type        text        NOT NULL DEFAULT '' CONSTRAINT outbox_event_type_valid CHECK (octet_length(event_type) <= 255),
    headers           jsonb       NOT NULL DEFAULT '{}' CONSTRAINT outbox_headers_object CHECK (jsonb_typeof(headers) = 'object'),
    payload           bytea,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);

-- Catches rows beyond the partitions made ahead, so that a writer never fails
-- because nobody maintained the log.
CREATE TABLE outbox_default PARTITION OF outbox DEFAULT;

-- How far each relay has come: everything at or below position was delivered
-- except the listed gaps (varint pairs, see outbox.Cursor). The row is the lease too.
CREATE TABLE outbox_cursor (
    relay       text        PRIMARY KEY CONSTRAINT outbox_cursor_relay_valid CHECK (relay ~ '^[A-Za-z0-9._-]{1,64}$'),
    position    bigint      NOT NULL DEFAULT 0,
    gaps        bytea       NOT NULL DEFAULT '',
    epoch       bigint      NOT NULL DEFAULT 0,
    owner       text        NOT NULL DEFAULT '',
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Messages that the broker will never take as they are, and those of the same
-- key that wait behind them. The rows themselves stay in the log.
CREATE TABLE outbox_parked (
    relay    text        NOT NULL,
    position bigint      NOT NULL,
    topic    text        NOT NULL,
    key      text        NOT NULL,
    reason   text        NOT NULL,
    attempts integer     NOT NULL DEFAULT 1,
    first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (relay, position)
);
CREATE INDEX outbox_parked_key ON outbox_parked (relay, topic, key, position);

-- outbox_make_partitions keeps `ahead` empty partitions of `size` positions
-- before the end of the log and returns how many it made. It never waits longer
-- than 50 ms for a lock: it raises lock_not_available instead, to be called again.
-- +goose StatementBegin
CREATE FUNCTION outbox_make_partitions(ahead integer DEFAULT 4, size bigint DEFAULT 4000000) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    tail bigint; lo bigint; made integer := 0; leaf text;
BEGIN
    IF ahead < 1 OR size < 1000 THEN
        RAISE EXCEPTION 'outbox_make_partitions: ahead must be >= 1 and size >= 1000';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('outbox_make_partitions', 'outbox'::regclass::oid::bigint)) THEN
        RETURN 0; -- somebody else is at it
    END IF;
    SELECT last_value INTO tail FROM outbox_position_seq;
    -- The end of the highest partition; at first, the next free boundary.
    SELECT coalesce(max(substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''(\d+)''\)')::bigint), 0) INTO lo
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'outbox'::regclass;
    IF lo <= tail AND EXISTS (SELECT FROM outbox_default) THEN
        -- Rows went to the default partition: start clear of everything issued.
        lo := (tail / size + 2) * size;
    END IF;
    PERFORM set_config('lock_timeout', '50ms', true);
    WHILE lo < tail + ahead * size LOOP
        leaf := format('outbox_p%s', lo);
        BEGIN
            EXECUTE format('CREATE TABLE %I (LIKE outbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', leaf);
            EXECUTE format('ALTER TABLE %I ADD PRIMARY KEY (position)', leaf);
            EXECUTE format('ALTER TABLE outbox ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', leaf, lo, lo + size);
        EXCEPTION WHEN check_violation THEN
            -- Writers were faster: rows of this range went to the default partition.
            SELECT last_value INTO tail FROM outbox_position_seq;
            lo := (tail / size + 2) * size;
            CONTINUE;
        END;
        lo := lo + size;
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION outbox_make_partitions(integer, bigint) FROM PUBLIC;
-- +goose StatementBegin
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION outbox_make_partitions(integer, bigint) SET search_path = %I, pg_temp', current_schema());
END $$;
-- +goose StatementEnd

SELECT outbox_make_partitions();

-- outbox_append serves triggers, psql and other languages: one message in the
-- caller's transaction; returns the event id.
-- +goose StatementBegin
CREATE FUNCTION outbox_append(
    topic text, key text, payload bytea, event_type text DEFAULT '', aggregate_type text DEFAULT '', aggregate_id text DEFAULT '',
    aggregate_version bigint DEFAULT NULL, headers jsonb DEFAULT '{}', event_id uuid DEFAULT NULL) RETURNS uuid
LANGUAGE sql AS $$
    INSERT INTO outbox (event_id, topic, key, aggregate_type, aggregate_id, aggregate_version, event_type, headers, payload)
    VALUES (coalesce($9, gen_random_uuid()), $1, $2, $5, $6, $7, $4, $8, $3)
    RETURNING event_id
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION outbox_append(
    topic text, key text, payload text, event_type text DEFAULT '', aggregate_type text DEFAULT '', aggregate_id text DEFAULT '',
    aggregate_version bigint DEFAULT NULL, headers jsonb DEFAULT '{}', event_id uuid DEFAULT NULL) RETURNS uuid
LANGUAGE sql AS $$ SELECT outbox_append($1, $2, convert_to($3, 'UTF8'), $4, $5, $6, $7, $8, $9) $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION outbox_append(
    topic text, key text, payload jsonb, event_type text DEFAULT '', aggregate_type text DEFAULT '', aggregate_id text DEFAULT '',
    aggregate_version bigint DEFAULT NULL, headers jsonb DEFAULT '{}', event_id uuid DEFAULT NULL) RETURNS uuid
LANGUAGE sql AS $$ SELECT outbox_append($1, $2, convert_to($3::text, 'UTF8'), $4, $5, $6, $7, $8, $9) $$;
-- +goose StatementEnd
