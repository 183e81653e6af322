-- +goose Up

-- What people did with dead letters: a row for each act, open while it runs. The
-- open row of a topic keeps other acts away from it until alive_until.
CREATE TABLE dead_letter_audit (
    id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    act         text        NOT NULL, -- dlt-replay-id of what it sent
    actor       text        NOT NULL CONSTRAINT dead_letter_audit_actor_valid CHECK (actor <> ''),
    action      text        NOT NULL CONSTRAINT dead_letter_audit_action_valid CHECK (action IN ('replay', 'skip', 'discard', 'park')),
    topic       text        NOT NULL, -- the dead-letter topic
    filter      jsonb       NOT NULL DEFAULT '{}',
    note        text        NOT NULL DEFAULT '',
    letters     bigint      NOT NULL DEFAULT 0, -- open letters that it met
    done        bigint      NOT NULL DEFAULT 0, -- of them replayed, skipped, discarded, parked
    counts      jsonb       NOT NULL DEFAULT '{}',
    outcome     text        NOT NULL DEFAULT 'running' CONSTRAINT dead_letter_audit_outcome_valid
        CHECK (outcome IN ('running', 'done', 'failed', 'abandoned')),
    error       text        NOT NULL DEFAULT '',
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    alive_until timestamptz NOT NULL,
    ended_at    timestamptz
);
CREATE UNIQUE INDEX dead_letter_audit_running ON dead_letter_audit (topic) WHERE ended_at IS NULL;

-- What became of each letter that was dealt with.
CREATE TABLE dead_letter_decision (
    topic      text        NOT NULL,
    part       integer     NOT NULL,
    at_offset  bigint      NOT NULL,
    written_at timestamptz NOT NULL, -- of the letter's record: an earlier topic of this name had others
    state      text        NOT NULL CONSTRAINT dead_letter_decision_state_valid CHECK (state IN ('replayed', 'skipped', 'discarded', 'parked')),
    consumer_group text    NOT NULL DEFAULT '',
    event_id   text        NOT NULL DEFAULT '',
    audit_id   bigint      NOT NULL REFERENCES dead_letter_audit,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, part, at_offset)
);
CREATE INDEX dead_letter_decision_audit ON dead_letter_decision (audit_id);
