-- Corpora at scale: what tells an unchanged file without reading it, why a file was passed over, and what the card of a
-- corpus says.

ALTER TABLE corpus_files
    ADD COLUMN stamp  text NOT NULL DEFAULT '',   -- size, times and inode when it was read; empty: read it again
    ADD COLUMN reason text NOT NULL DEFAULT '';   -- why it was passed over; empty: it is indexed

ALTER TABLE corpora
    ADD COLUMN words   jsonb NOT NULL DEFAULT '{}',    -- its commonest words: [how often, in how many files]
    ADD COLUMN kinds   text[] NOT NULL DEFAULT '{}',   -- `Markdown 120`, most frequent first
    ADD COLUMN sources text[] NOT NULL DEFAULT '{}';   -- `docs 80`: the folders in which most of it lies
