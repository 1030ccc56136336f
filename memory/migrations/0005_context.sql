-- What a packet stands beside, so that recall can weigh a hit by its neighbours and its session; and the languages
-- whose stems are in use, so that a question is stemmed in each of them.

ALTER TABLE traces ADD COLUMN session text, ADD COLUMN sequence int;
UPDATE traces SET session = p.session, sequence = p.sequence
FROM packets p WHERE p.corpus_id = traces.corpus_id AND p.id = traces.id;
ALTER TABLE traces ALTER COLUMN session SET NOT NULL, ALTER COLUMN sequence SET NOT NULL;

CREATE TABLE languages (
    name  text PRIMARY KEY                -- of the Snowball stemmer; English is always in use
);
ALTER TABLE corpora ADD COLUMN language text;   -- NULL: each text's own
