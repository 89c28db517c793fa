"""What PostgreSQL is told, as text: the table of words beside pgvector-haystack's, how both are written and searched.

`{table}` is pgvector-haystack's own, `{words}` ours. A word is what bm25.py makes of it, a number of 32 bits, here with
a sign; its weight says how much it counts in the passage, without idf, which PostgreSQL knows when a question comes.
"""

MAKE_WORDS = """
CREATE TABLE IF NOT EXISTS {words} (
    id VARCHAR(128) PRIMARY KEY REFERENCES {table} (id) ON DELETE CASCADE,
    point UUID NOT NULL,
    words INTEGER[] NOT NULL,
    weights REAL[] NOT NULL
)
"""
INDEX_WORDS = "CREATE INDEX IF NOT EXISTS {index} ON {words} USING gin (words)"
WITHOUT_WORDS = "SELECT id, content FROM {table} WHERE NOT EXISTS (SELECT FROM {words} WHERE {words}.id = {table}.id)"
COPY_WORDS = "COPY {words} (id, point, words, weights) FROM STDIN (FORMAT BINARY)"

WORDS_TYPES = ("uuid", "bytea", "bytea")  # rows.py gives the bytes of arrays and vectors

PASSAGE_COLUMNS = ("id", "embedding", "content", "blob_data", "blob_meta", "blob_mime_type", "meta")
COLUMN_TYPES = ("text", "bytea", "text", "bytea", "jsonb", "text", "jsonb", *WORDS_TYPES)
MAKE_INCOMING = """
CREATE TEMPORARY TABLE incoming ON COMMIT DROP AS
SELECT {columns}, NULL::uuid AS point, NULL::integer[] AS words, NULL::real[] AS weights FROM {table} WITH NO DATA
"""
COPY_INCOMING = "COPY incoming FROM STDIN (FORMAT BINARY)"
# In the order of the ids: two writers that overwrite the same passages do not wait for each other in a circle.
WRITE = "INSERT INTO {table} ({columns}) SELECT {columns} FROM incoming ORDER BY id {conflict}"
WRITE_WORDS = """
INSERT INTO {words} (id, point, words, weights) SELECT id, point, words, weights FROM incoming ORDER BY id {conflict}
"""

COLUMN_TYPE = """
SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = 'embedding'
"""
KEEP_IN_ROW = "ALTER TABLE {table} ALTER COLUMN embedding SET STORAGE PLAIN"
EXTENSION = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
PAGE = "SELECT {columns} FROM {table} WHERE id > %s ORDER BY id LIMIT {limit}"
READ_INFO = "SELECT obj_description(to_regclass(%s), 'pg_class')"

NEAREST = """
SELECT id, 1 - (embedding <=> {question}) FROM {table} WHERE embedding IS NOT NULL {where}
ORDER BY embedding <=> {question} {ties} LIMIT {limit}
"""
# Equal scores stand in the order of their points, at the cut too, as Qdrant Edge has them.
# BM25: the idf of each word, then the sum over the words that a passage holds. A word that it does not hold has no
# place in its array, hence no weight.
MATCHING = """
WITH question AS MATERIALIZED (
    SELECT word, ln(1 + (total - held + 0.5) / (held + 0.5)) AS idf
    FROM unnest(%s::integer[]) AS word,
    LATERAL (SELECT count(*) AS held FROM {words} WHERE words @> ARRAY[word]) AS holding,
    (SELECT count(*) AS total FROM {table}) AS everything
)
SELECT id, score, matched FROM {words}, LATERAL (
    SELECT sum(weights[array_position(words, word)] * idf)::real AS score, count(array_position(words, word)) AS matched
    FROM question
) AS scored
WHERE words && %s::integer[] {where}
ORDER BY score DESC, point LIMIT {limit}
"""
