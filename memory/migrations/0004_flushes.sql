-- Letting go of a window, step by step, and what was forgotten at the person's wish.

-- One row per flush. Each step is recorded before the next begins, so that whoever finds an unfinished one goes on where
-- it broke off. The numbers give the order: a clock may jump back.
CREATE TABLE flushes (
    number        bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    id            uuid NOT NULL UNIQUE,
    agent         text NOT NULL,
    cause         text NOT NULL CHECK (cause IN ('pressure', 'person')),
    state         text NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'rewritten', 'archived', 'done')),
    base_version  integer NOT NULL,            -- the notebook that is rewritten
    turns         integer NOT NULL,            -- of the window as it was found
    tokens        integer NOT NULL,
    kept          uuid[] NOT NULL,             -- turns that stay: those of a task which is still being worked on
    draft         text NOT NULL DEFAULT '',    -- the new notebook, until it is one
    author        text NOT NULL DEFAULT '',
    why           text NOT NULL DEFAULT '',    -- why the Director did not write it, where it did not
    version       integer,                     -- the notebook that came of it
    created       timestamptz NOT NULL DEFAULT now(),
    ended         timestamptz,
    CHECK ((state = 'done') = (ended IS NOT NULL)),
    CHECK ((state = 'done') = (version IS NOT NULL))
);
CREATE UNIQUE INDEX flushes_unfinished ON flushes (agent) WHERE state <> 'done';
CREATE INDEX flushes_agent ON flushes (agent, number);

-- What was forgotten: that it was, when, by whom and why. The hash can show that a text was meant; it holds no word.
CREATE TABLE forgotten (
    id            uuid PRIMARY KEY,
    forgotten     timestamptz NOT NULL DEFAULT now(),
    by_whom       text NOT NULL,
    reason        text NOT NULL,
    content_hash  text NOT NULL,
    kind          text NOT NULL,
    corpus        text,
    generation    text NOT NULL
);
