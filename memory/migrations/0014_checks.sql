-- What the controller found at its latest look at each check, and how far it had read its log.

CREATE TABLE checks (
    name      text PRIMARY KEY,
    wrong     boolean NOT NULL,
    words     text NOT NULL,
    since     timestamptz NOT NULL,
    log       text NOT NULL DEFAULT '',
    inode     bigint,
    position  bigint,
    head      text,
    CHECK ((inode IS NULL) = (position IS NULL) AND (inode IS NULL) = (head IS NULL))
);
