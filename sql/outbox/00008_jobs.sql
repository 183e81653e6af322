-- +goose Up

-- The locks of scheduled jobs: the table of ShedLock, column for column, with a
-- fence, so that Java nodes take part. A table that ShedLock made is taken over.
-- All times are UTC by the clock of this server.
SET LOCAL lock_timeout = '3s';
CREATE TABLE IF NOT EXISTS shedlock (
    name       varchar(64)  PRIMARY KEY,
    lock_until timestamp    NOT NULL,
    locked_at  timestamp    NOT NULL,
    locked_by  varchar(255) NOT NULL
) WITH (fillfactor = 20);

-- The fence rises with each taking of a lock. It is made from the clock, so that
-- it also rises when a row was deleted, or the lock moves to another store.
ALTER TABLE shedlock ADD COLUMN IF NOT EXISTS fence bigint NOT NULL DEFAULT 0;
ALTER TABLE shedlock ALTER COLUMN fence SET DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- ShedLock knows of no fence: when one of its nodes takes a lock, the table does it.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION shedlock_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.fence := greatest(OLD.fence + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    RETURN NEW;
END $$;
-- +goose StatementEnd
DROP TRIGGER IF EXISTS shedlock_fence ON shedlock;
CREATE TRIGGER shedlock_fence BEFORE UPDATE ON shedlock FOR EACH ROW
    WHEN (NEW.fence = OLD.fence AND (NEW.locked_at <> OLD.locked_at OR NEW.locked_by <> OLD.locked_by))
    EXECUTE FUNCTION shedlock_fence();

-- The highest fence that has been seen for a lock that is kept elsewhere, in
-- Redis: what refuses the writes of a holder that has been overtaken.
CREATE TABLE job_fence (
    name  varchar(64)  PRIMARY KEY,
    fence bigint       NOT NULL,
    owner varchar(255) NOT NULL
) WITH (fillfactor = 20);

-- What the schedulers run, as they said at their last start.
CREATE TABLE job_definition (
    name       varchar(64) PRIMARY KEY,
    schedule   text        NOT NULL,
    zone       text        NOT NULL,
    at_most    interval    NOT NULL,
    at_least   interval    NOT NULL,
    missed     text        NOT NULL,
    crashed    text        NOT NULL,
    node       text        NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row for each slot of a job: scheduled_at is the time that the schedule
-- names, never the time of somebody's clock, so a slot has one run whatever the
-- clocks say. Times of what happened are of this server's clock.
CREATE TABLE job_run (
    name         varchar(64) NOT NULL,
    scheduled_at timestamptz NOT NULL,
    fence        bigint      NOT NULL DEFAULT 0,
    node         text        NOT NULL DEFAULT '',
    started_at   timestamptz,
    finished_at  timestamptz,
    outcome      text        NOT NULL CONSTRAINT job_run_outcome_valid
        CHECK (outcome IN ('requested', 'running', 'ok', 'error', 'panic', 'lost', 'stopped', 'crashed')),
    error        text        NOT NULL DEFAULT '',
    trace_id     text        NOT NULL DEFAULT '',
    attempt      integer     NOT NULL DEFAULT 0,
    requested_by text        NOT NULL DEFAULT '',
    PRIMARY KEY (name, scheduled_at)
) WITH (fillfactor = 80);
CREATE INDEX job_run_open ON job_run (name, scheduled_at) WHERE outcome IN ('requested', 'running', 'lost', 'stopped', 'crashed');

-- Who intervened by hand, append-only.
CREATE TABLE job_audit (
    id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor  text        NOT NULL,
    action text        NOT NULL,
    name   varchar(64) NOT NULL,
    detail text        NOT NULL,
    note   text        NOT NULL DEFAULT ''
);

-- +goose StatementBegin
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION shedlock_fence() SET search_path = %I, pg_temp', current_schema());
END $$;
-- +goose StatementEnd
