-- +goose Up

-- Records of keys that are held back behind a dead letter: one row a record, in
-- the consumer's database. The dead one is a row too; the first waiting row of a
-- key, by offset, is the only one that may be handled. A row that no longer waits
-- stays for a while, so that a second copy of its dead letter is known as such.
CREATE TABLE consumer_quarantine (
    consumer_group   text        NOT NULL,
    topic            text        NOT NULL,
    source_partition integer     NOT NULL,
    source_offset    bigint      NOT NULL,
    key              bytea       NOT NULL,
    key_hash         bytea       NOT NULL GENERATED ALWAYS AS (sha256(key)) STORED, -- keys may be too long for an index
    event_id         text        NOT NULL DEFAULT '',
    failures         integer     NOT NULL DEFAULT 0, -- deliveries given up; 0 waits behind another
    since            timestamptz NOT NULL DEFAULT clock_timestamp(),
    state            text        NOT NULL DEFAULT 'waiting' CONSTRAINT consumer_quarantine_state_valid
        CHECK (state IN ('waiting', 'done', 'released')), -- done: handled; released: given up by a person
    settled_at       timestamptz,
    PRIMARY KEY (consumer_group, topic, source_partition, source_offset)
);
CREATE INDEX consumer_quarantine_waiting ON consumer_quarantine
    (consumer_group, topic, source_partition, key_hash, source_offset) WHERE state = 'waiting';
CREATE INDEX consumer_quarantine_settled ON consumer_quarantine
    (consumer_group, topic, source_partition, settled_at) WHERE state <> 'waiting';

-- Who may add rows for a partition: the claim that was made last.
CREATE TABLE consumer_claim (
    consumer_group   text    NOT NULL,
    topic            text    NOT NULL,
    source_partition integer NOT NULL,
    epoch            bigint  NOT NULL,
    PRIMARY KEY (consumer_group, topic, source_partition)
);
