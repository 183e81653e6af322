-- +goose Up

-- The inbox: which events a consumer group has done, so that a repeated delivery
-- changes nothing. Its rows are written in the transaction of the effect. These
-- tables live in the consumer's database.

-- A topic as one group reads it.
CREATE TABLE consumer_inbox_source (
    id             integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_group text    NOT NULL,
    topic          text    NOT NULL,
    UNIQUE (consumer_group, topic)
);

-- Events done lately. source_partition and source_offset are where the event was
-- first received; aggregate (a hash of its type and id) and version are what it
-- did to its entity, if it tells.
CREATE TABLE consumer_inbox (
    event_id         uuid        NOT NULL,
    aggregate        uuid,
    version          bigint,
    source_offset    bigint,
    applied_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    source           integer     NOT NULL,
    source_partition integer,
    PRIMARY KEY (source, event_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX consumer_inbox_age ON consumer_inbox (source, applied_at);

-- What pruning folds the rows of older events into: the offsets and the versions
-- that were done, as ranges from "first" up to, but not including, "next". They do
-- not touch or overlap, and are never pruned.
CREATE TABLE consumer_inbox_offsets (
    source           integer NOT NULL,
    source_partition integer NOT NULL,
    first            bigint  NOT NULL,
    next             bigint  NOT NULL CHECK (next > first),
    PRIMARY KEY (source, source_partition, first)
);
CREATE TABLE consumer_inbox_versions (
    source    integer NOT NULL,
    aggregate uuid    NOT NULL,
    first     bigint  NOT NULL,
    next      bigint  NOT NULL CHECK (next > first),
    PRIMARY KEY (source, aggregate, first)
);
