-- The golden log: exchanges that were proposed for training, and what a person said of them. Their words stay in the
-- packets alone, so that what is forgotten there is gone from here.

CREATE TABLE golden (
    answer      uuid PRIMARY KEY,
    question    uuid NOT NULL,
    state       text NOT NULL DEFAULT 'proposed' CHECK (state IN ('proposed', 'accepted', 'struck')),
    proposed    timestamptz NOT NULL DEFAULT now(),
    decided_by  text NOT NULL DEFAULT '',
    decided     timestamptz,
    CHECK ((state = 'proposed') = (decided IS NULL))
);
CREATE INDEX ON golden (question);
