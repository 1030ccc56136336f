-- Self, notebook and window: the sectors of an agent's context. Versions are never changed once written.

-- Ids are made by the client, so that a write repeated after a lost connection is the same write.

CREATE TABLE selves (
    version  integer PRIMARY KEY CHECK (version > 0),
    id       uuid NOT NULL UNIQUE,
    content  text NOT NULL,
    reason   text NOT NULL,
    author   text NOT NULL,
    created  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE self_proposals (
    id            uuid PRIMARY KEY,
    base_version  integer NOT NULL REFERENCES selves (version),
    content       text NOT NULL,
    reason        text NOT NULL,
    author        text NOT NULL,
    created       timestamptz NOT NULL DEFAULT now(),
    verdict       text NOT NULL DEFAULT 'pending' CHECK (verdict IN ('pending', 'ratified', 'refused', 'stale')),
    why           text NOT NULL DEFAULT '',
    decided_by    text NOT NULL DEFAULT '',
    decided       timestamptz,
    version       integer REFERENCES selves (version),
    CHECK ((verdict = 'ratified') = (version IS NOT NULL)),
    CHECK ((verdict = 'pending') = (decided IS NULL))
);

CREATE TABLE notebooks (
    version  integer PRIMARY KEY CHECK (version > 0),
    id       uuid NOT NULL UNIQUE,
    content  text NOT NULL,
    tokens   integer NOT NULL CHECK (tokens >= 0),
    reason   text NOT NULL,
    author   text NOT NULL,
    created  timestamptz NOT NULL DEFAULT now()
);

-- What an agent sees, in token ids: the opening as of the last flush, then the turns since. Ids hold only for the
-- model whose fingerprint stands beside them; the text beside each turn lets another model read the same window.
CREATE TABLE windows (
    agent             text PRIMARY KEY,
    fingerprint       text NOT NULL,
    opening           integer[] NOT NULL,
    opening_text      text NOT NULL,
    self_version      integer NOT NULL,
    notebook_version  integer NOT NULL,
    mounted           text[] NOT NULL DEFAULT '{}',
    flushes           integer NOT NULL DEFAULT 0,
    opened            timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE window_turns (
    agent     text NOT NULL REFERENCES windows (agent) ON DELETE CASCADE,
    sequence  integer NOT NULL,
    role      text NOT NULL CHECK (role IN ('user', 'assistant', 'tool')),
    name      text NOT NULL DEFAULT '',
    content   text NOT NULL,
    ids       integer[] NOT NULL,
    packet    uuid NOT NULL UNIQUE,
    PRIMARY KEY (agent, sequence)
);
