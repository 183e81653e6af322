-- +goose Up

-- Which relays sleep and want to be rung when something is committed. A relay at
-- work is not in it, so that nobody notifies under load: NOTIFY makes commits
-- queue for one lock of the whole cluster.
CREATE TABLE outbox_doorbell (
    relay      text        PRIMARY KEY,
    idle_until timestamptz NOT NULL
) WITH (fillfactor = 10);

-- outbox_ring notifies the sleeping relays, if there are any.
-- +goose StatementBegin
CREATE FUNCTION outbox_ring() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
    SELECT pg_notify('outbox_doorbell', '')
     WHERE EXISTS (SELECT FROM outbox_doorbell WHERE idle_until > clock_timestamp())
$$;
-- +goose StatementEnd

-- For writers that do not ring by themselves: SELECT outbox_enable_doorbell().
-- +goose StatementBegin
CREATE FUNCTION outbox_ring_trigger() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM outbox_ring();
    RETURN NULL;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE FUNCTION outbox_enable_doorbell(enable boolean DEFAULT true) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DROP TRIGGER IF EXISTS outbox_doorbell ON outbox;
    IF enable THEN
        CREATE TRIGGER outbox_doorbell AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION outbox_ring_trigger();
    END IF;
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION outbox_ring() SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION outbox_ring_trigger() SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION outbox_enable_doorbell(boolean) SET search_path = %I, pg_temp', current_schema());
END $$;
-- +goose StatementEnd
