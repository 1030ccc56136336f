-- Orders that leave the house by themselves: who carries them out, each run of the Hands, and why an order failed.

ALTER TABLE orders ADD COLUMN agent text NOT NULL DEFAULT 'hands';
ALTER TABLE orders ADD COLUMN why text NOT NULL DEFAULT '';
ALTER TABLE orders DROP CONSTRAINT orders_state_check;
ALTER TABLE orders ADD CONSTRAINT orders_state_check
    CHECK (state IN ('open', 'running', 'reported', 'revise', 'accepted', 'rejected', 'failed'));
DROP INDEX orders_unfinished;
CREATE INDEX orders_unfinished ON orders (created) WHERE state IN ('open', 'running', 'reported', 'revise');

CREATE TABLE hands_runs (
    id           uuid PRIMARY KEY,
    work_order   uuid NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    agent        text NOT NULL,
    state        text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'reported', 'failed', 'lost')),
    cause        text NOT NULL DEFAULT '',
    session      text NOT NULL DEFAULT '',
    pid          integer,
    pid_started  double precision,
    usd          double precision NOT NULL DEFAULT 0,
    tokens       integer NOT NULL DEFAULT 0,
    started      timestamptz NOT NULL DEFAULT now(),
    ended        timestamptz,
    CHECK ((state = 'running') = (ended IS NULL))
);
-- Nobody can begin an order while somebody works on it.
CREATE UNIQUE INDEX hands_runs_running ON hands_runs (work_order) WHERE state = 'running';
CREATE INDEX hands_runs_order ON hands_runs (work_order, started);
