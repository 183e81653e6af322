-- +goose Up

-- The instances of a fleet that stand ready for a relay of this outbox, each until
-- a time that it moves on while it lives. Unlogged: after a crash of the server
-- they announce themselves anew.
CREATE UNLOGGED TABLE outbox_roster (
    relay    text        NOT NULL,
    instance text        NOT NULL,
    leads    integer     NOT NULL, -- outboxes that it leads, this one or others
    until    timestamptz NOT NULL,
    PRIMARY KEY (relay, instance)
) WITH (fillfactor = 20);

-- A ring names the schema whose relays it is for: one database may hold many
-- outboxes, and the relays of the others are to sleep on.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION outbox_ring() RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
    SELECT pg_notify('outbox_doorbell', '@' || current_schema())
     WHERE EXISTS (SELECT FROM outbox_doorbell WHERE idle_until > clock_timestamp())
$$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$ BEGIN -- to replace a function is to forget its settings
    EXECUTE format('ALTER FUNCTION outbox_ring() SET search_path = %I, pg_temp', current_schema());
END $$;
-- +goose StatementEnd
