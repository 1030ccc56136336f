-- Jobs, work orders to the Hands, and their attempts with reviews. All of them survive a restart.

CREATE TABLE jobs (
    id        uuid PRIMARY KEY,
    agent     text NOT NULL,
    task      text NOT NULL,
    client    text NOT NULL,
    session   text NOT NULL,
    state     text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'failed', 'cancelled', 'interrupted')),
    answer    text NOT NULL DEFAULT '',
    created   timestamptz NOT NULL DEFAULT now(),
    ended     timestamptz,
    CHECK ((state = 'running') = (ended IS NULL))
);
CREATE INDEX jobs_running ON jobs (created) WHERE state = 'running';

CREATE TABLE orders (
    id               uuid PRIMARY KEY,
    task             text NOT NULL,
    constraints      text[] NOT NULL,
    context          text NOT NULL,
    acceptance       text[] NOT NULL,
    embedding_state  jsonb NOT NULL,
    budget           jsonb NOT NULL,
    state            text NOT NULL DEFAULT 'open'
                     CHECK (state IN ('open', 'reported', 'revise', 'accepted', 'rejected')),
    client           text NOT NULL,
    session          text NOT NULL,
    created          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_unfinished ON orders (created) WHERE state IN ('open', 'reported', 'revise');

CREATE TABLE order_attempts (
    work_order  uuid NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
    number      integer NOT NULL,
    outcome     text NOT NULL,
    artifacts   text[] NOT NULL,
    reporter    text NOT NULL,
    reported    timestamptz NOT NULL DEFAULT now(),
    verdict     text CHECK (verdict IN ('accept', 'revise', 'reject')),
    why         text NOT NULL DEFAULT '',
    decided_by  text NOT NULL DEFAULT '',
    decided     timestamptz,
    PRIMARY KEY (work_order, number),
    CHECK ((verdict IS NULL) = (decided IS NULL))
);
