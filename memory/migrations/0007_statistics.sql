-- The planner's statistics hold samples of what stands in a column: words that were forgotten would live on in them, and
-- no plan ever asks how prose is distributed.

ALTER TABLE packets ALTER COLUMN prose SET STATISTICS 0, ALTER COLUMN metadata SET STATISTICS 0;
ALTER TABLE packets_0 ALTER COLUMN prose SET STATISTICS 0, ALTER COLUMN metadata SET STATISTICS 0;
ALTER TABLE packets_1 ALTER COLUMN prose SET STATISTICS 0, ALTER COLUMN metadata SET STATISTICS 0;
ALTER TABLE window_turns ALTER COLUMN content SET STATISTICS 0, ALTER COLUMN ids SET STATISTICS 0;
ALTER TABLE windows ALTER COLUMN opening_text SET STATISTICS 0, ALTER COLUMN opening SET STATISTICS 0;
ALTER TABLE jobs ALTER COLUMN task SET STATISTICS 0, ALTER COLUMN answer SET STATISTICS 0;
ALTER TABLE orders ALTER COLUMN embedding_state SET STATISTICS 0;
ALTER TABLE flushes ALTER COLUMN draft SET STATISTICS 0;

CREATE OR REPLACE FUNCTION add_packets_partition(corpus int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE packets_%s (LIKE packets INCLUDING ALL, CHECK (corpus_id = %1$s))', corpus);
    EXECUTE format('ALTER TABLE packets_%s ALTER COLUMN prose SET STATISTICS 0, '
                   'ALTER COLUMN metadata SET STATISTICS 0', corpus);
    EXECUTE format('ALTER TABLE packets ATTACH PARTITION packets_%s FOR VALUES IN (%1$s)', corpus);
END $$;
