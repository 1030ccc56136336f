-- Recall looks up what stands beside its best candidates. The corpus comes first, so that this index stands for the old.

CREATE INDEX ON traces (corpus_id, session, sequence);
DROP INDEX traces_corpus_id_idx;
