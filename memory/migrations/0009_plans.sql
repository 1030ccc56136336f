-- Plans: a goal in steps, each done at home or by the Hands, and each attempt at home. Orders keep their own attempts.

CREATE TABLE plans (
    id           uuid PRIMARY KEY,
    goal         text NOT NULL,
    constraints  text[] NOT NULL,
    context      text NOT NULL,
    client       text NOT NULL,
    session      text NOT NULL,
    author       text NOT NULL,
    trained      boolean NOT NULL,
    state        text NOT NULL CHECK (state IN ('proposed', 'running', 'done', 'failed', 'cancelled')),
    why          text NOT NULL DEFAULT '',
    created      timestamptz NOT NULL DEFAULT now(),
    ended        timestamptz,
    CHECK ((state IN ('proposed', 'running')) = (ended IS NULL))
);
CREATE INDEX plans_unfinished ON plans (created) WHERE state IN ('proposed', 'running');

-- `work_order` has no key into orders: it is chosen before the order is written, so that a step has one order at most.
CREATE TABLE plan_steps (
    plan        uuid NOT NULL REFERENCES plans (id) ON DELETE CASCADE,
    number      integer NOT NULL,
    role        text NOT NULL,
    task        text NOT NULL,
    acceptance  text NOT NULL,
    needs       text[] NOT NULL,
    after       integer[] NOT NULL,
    place       text NOT NULL CHECK (place IN ('home', 'hands')),
    rule        text NOT NULL,
    private     boolean NOT NULL,
    state       text NOT NULL DEFAULT 'waiting'
                CHECK (state IN ('waiting', 'running', 'reported', 'out', 'done', 'failed', 'cancelled')),
    work_order  uuid UNIQUE,
    outcome     text NOT NULL DEFAULT '',
    why         text NOT NULL DEFAULT '',
    PRIMARY KEY (plan, number),
    CHECK (state <> 'out' OR work_order IS NOT NULL)
);

CREATE TABLE step_attempts (
    id       uuid PRIMARY KEY,
    plan     uuid NOT NULL,
    step     integer NOT NULL,
    agent    text NOT NULL,
    state    text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'reported', 'failed', 'lost')),
    outcome  text NOT NULL DEFAULT '',
    began    timestamptz NOT NULL DEFAULT now(),
    ended    timestamptz,
    FOREIGN KEY (plan, step) REFERENCES plan_steps (plan, number) ON DELETE CASCADE,
    CHECK ((state = 'running') = (ended IS NULL))
);
-- Nobody can begin a step while somebody works on it.
CREATE UNIQUE INDEX step_attempts_running ON step_attempts (plan, step) WHERE state = 'running';
CREATE INDEX step_attempts_step ON step_attempts (plan, step, began);
