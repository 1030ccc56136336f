-- Files that were read, and may have been misread: their encoding was guessed, or some of their bytes mean nothing.

ALTER TABLE corpus_files ADD COLUMN doubt text NOT NULL DEFAULT '';       -- what is doubtful; empty: nothing is
ALTER TABLE corpora ADD COLUMN doubtful jsonb NOT NULL DEFAULT '[]';      -- [path, doubt] of the first of them
