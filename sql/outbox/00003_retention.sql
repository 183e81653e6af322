-- +goose Up

-- The partitions of the log with the positions they take: lo to hi - 1. The
-- default partition, which takes what no other does, has neither.
CREATE VIEW outbox_partitions AS
SELECT c.oid AS relid, c.relname::text AS name,
       substring(b.bound FROM 'FROM \(''(\d+)''\)')::bigint AS lo,
       substring(b.bound FROM 'TO \(''(\d+)''\)')::bigint AS hi
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid, pg_get_expr(c.relpartbound, c.oid) AS b(bound)
 WHERE i.inhparent = 'outbox'::regclass;

-- outbox_delivered_to returns the position up to which a cursor has delivered
-- everything: the first gap's start less one. The gaps begin with that start as
-- an unsigned varint (outbox.Cursor.MarshalGaps).
-- +goose StatementBegin
CREATE FUNCTION outbox_delivered_to(upto bigint, gaps bytea) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    lo bigint := 0; i integer := 0; b integer;
BEGIN
    IF length(gaps) = 0 THEN
        RETURN upto;
    END IF;
    LOOP
        b := get_byte(gaps, i);
        lo := lo | ((b & 127)::bigint << (7 * i));
        EXIT WHEN b < 128;
        i := i + 1;
    END LOOP;
    RETURN least(lo - 1, upto);
END $$;
-- +goose StatementEnd

-- outbox_parked_in reports whether a parked message of positions lo to hi - 1
-- may still be published. What was redriven is a gap of the cursor, or delivered.
-- +goose StatementBegin
CREATE FUNCTION outbox_parked_in(lo bigint, hi bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM outbox_parked p
         WHERE p.position >= $1 AND p.position < $2
           AND coalesce(to_jsonb(p)->>'state', 'parked') NOT IN ('redriven', 'skipped', 'discarded'))
$$;
-- +goose StatementEnd

-- outbox_drop_partitions drops the partitions that every relay has delivered,
-- that hold no parked message, and whose newest row is older than the retention;
-- it returns their names. Without any relay's cursor it drops nothing, and never
-- the newest partition. The default partition, if all its rows are like that, is
-- truncated.
--
-- DETACH … CONCURRENTLY is not to be had beside a default partition, so writers
-- are kept out while it works. It waits at most 40 ms for the log and 5 ms for a
-- partition, and works for some 10 ms: a transaction that is open for longer
-- makes it raise lock_not_available, and it is to be called again later. It is
-- also to be called again while it returns something: it may stop halfway.
-- +goose StatementBegin
CREATE FUNCTION outbox_drop_partitions(retention interval DEFAULT '7 days') RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    leaves oid[]; leaf oid; name text; locked timestamptz; stray bigint;
BEGIN
    IF retention IS NULL OR retention < '0' THEN
        RAISE EXCEPTION 'outbox_drop_partitions: retention must not be negative';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('outbox_make_partitions', 'outbox'::regclass::oid::bigint)) THEN
        RETURN; -- somebody else is at it
    END IF;

    -- One statement: a decision on parked messages moves them to the cursor's
    -- gaps, and must be seen in both places or in none.
    SELECT array_agg(p.relid ORDER BY p.lo) INTO leaves
      FROM outbox_partitions p
     WHERE p.hi <= (SELECT min(outbox_delivered_to(c.position, c.gaps)) + 1 FROM outbox_cursor c)
       AND p.hi < (SELECT max(hi) FROM outbox_partitions)
       AND NOT outbox_parked_in(p.lo, p.hi)
       AND NOT EXISTS (
           SELECT FROM (SELECT o.created_at FROM outbox o WHERE o.position >= p.lo AND o.position < p.hi
                         ORDER BY o.position DESC LIMIT 1) newest
            WHERE newest.created_at > clock_timestamp() - retention);

    IF leaves IS NOT NULL THEN
        LOCK TABLE ONLY outbox IN ACCESS EXCLUSIVE MODE;
        locked := clock_timestamp();
        PERFORM set_config('lock_timeout', '5ms', true);
        FOREACH leaf IN ARRAY leaves LOOP
            BEGIN
                SELECT relname INTO name FROM pg_class WHERE oid = leaf;
                EXECUTE format('ALTER TABLE outbox DETACH PARTITION %s', leaf::regclass);
                EXECUTE format('DROP TABLE %s', leaf::regclass);
                RETURN NEXT name;
            EXCEPTION WHEN lock_not_available THEN
                NULL; -- somebody reads or vacuums it: next time
            END;
            EXIT WHEN clock_timestamp() - locked > interval '10 milliseconds';
        END LOOP;
        RETURN;
    END IF;

    SELECT max(position) INTO stray FROM outbox_default;
    IF stray <= (SELECT min(outbox_delivered_to(c.position, c.gaps)) FROM outbox_cursor c) THEN
        LOCK TABLE outbox_default IN ACCESS EXCLUSIVE MODE;
        IF NOT EXISTS (
            SELECT FROM (SELECT o.position, o.created_at FROM outbox_default o ORDER BY o.position DESC LIMIT 1) newest
             WHERE newest.position > (SELECT min(outbox_delivered_to(c.position, c.gaps)) FROM outbox_cursor c)
                OR newest.created_at > clock_timestamp() - retention
                OR EXISTS (SELECT FROM outbox_default o WHERE outbox_parked_in(o.position, o.position + 1)))
        THEN
            TRUNCATE outbox_default;
            RETURN NEXT 'outbox_default'::text;
        END IF;
    END IF;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION outbox_drop_partitions(interval) FROM PUBLIC;

-- outbox_enable_history makes the indexes that reading by aggregate and by key
-- needs; they cost every writer, so they are optional. It declares them on the
-- log, so that later partitions get them, and returns the statements that build
-- them on the present ones without blocking writers. These run outside of a
-- transaction, in this order; psql does it with
--
--     SELECT outbox_enable_history() \gexec
--
-- Called again, it returns what is left to do.
-- +goose StatementBegin
CREATE FUNCTION outbox_enable_history() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    kind record; leaf record; parent regclass; child text; spec text; valid boolean; home text;
BEGIN
    SELECT n.nspname INTO home FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'outbox'::regclass;
    FOR kind IN VALUES ('by_aggregate', '(aggregate_type, aggregate_id, position, aggregate_version) WHERE aggregate_id <> '''''),
                       ('by_key', '(topic, key, position)') LOOP
        spec := kind.column2;
        IF to_regclass(format('outbox_%s', kind.column1)) IS NULL THEN
            EXECUTE format('CREATE INDEX outbox_%s ON ONLY outbox %s', kind.column1, spec);
        END IF;
        parent := format('outbox_%s', kind.column1)::regclass;
        FOR leaf IN
            SELECT c.oid::regclass AS rel, c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'outbox'::regclass
               AND NOT EXISTS (SELECT FROM pg_index x JOIN pg_inherits xi ON xi.inhrelid = x.indexrelid
                                WHERE x.indrelid = c.oid AND xi.inhparent = parent)
             ORDER BY c.oid LOOP
            child := format('%s_%s', leaf.relname, kind.column1);
            SELECT x.indisvalid INTO valid FROM pg_index x WHERE x.indexrelid = to_regclass(format('%I', child));
            IF NOT valid THEN -- a build was interrupted
                RETURN NEXT format('DROP INDEX CONCURRENTLY %I.%I', home, child);
            END IF;
            IF valid IS NOT TRUE THEN
                RETURN NEXT format('CREATE INDEX CONCURRENTLY %I ON %I.%I %s', child, home, leaf.relname, spec);
            END IF;
            RETURN NEXT format('ALTER INDEX %I.%I ATTACH PARTITION %I.%I', home, 'outbox_' || kind.column1, home, child);
        END LOOP;
    END LOOP;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION outbox_enable_history() FROM PUBLIC;

-- +goose StatementBegin
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION outbox_drop_partitions(interval) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION outbox_drop_partitions(interval) SET lock_timeout = ''40ms''');
    EXECUTE format('ALTER FUNCTION outbox_parked_in(bigint, bigint) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION outbox_enable_history() SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION outbox_enable_history() SET lock_timeout = ''50ms''');
END $$;
-- +goose StatementEnd
