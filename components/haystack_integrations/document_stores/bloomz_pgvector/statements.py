"""What PostgreSQL is told, as text: the table of words beside pgvector-haystack's, how both are written and searched.

`{table}` is pgvector-haystack's own, `{words}` ours. A word is what bm25.py makes of it, a number of 32 bits, here with
a sign; its weight says how much it counts in the passage, without idf, which PostgreSQL knows when a question comes.
The index over the array finds the passages, the sparse vector of their weights scores them: on 20,000 passages 47 ms a
question (one in twenty 140 ms), 76 ms (390 ms) with the weights in a second array; a sparse vector alone has no exact
index, and all passages are read. Each way the first 50 are those of Qdrant Edge, for 1,214 questions of three sets.
"""

PLACES = 1_000_000_000  # most numbers that a sparsevec may have; two of 2^32 words seldom share a place

MAKE_WORDS = """
CREATE TABLE IF NOT EXISTS {words} (
    id VARCHAR(128) PRIMARY KEY REFERENCES {table} (id) ON DELETE CASCADE,
    point UUID NOT NULL,
    words INTEGER[] NOT NULL,
    weights SPARSEVEC({places}) NOT NULL
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
SELECT {columns}, NULL::uuid AS point, NULL::integer[] AS words, NULL::sparsevec AS weights FROM {table} WITH NO DATA
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
# BM25: the idf of each word, then their product with the weights of each passage that holds one of them.
MATCHING = """
WITH question AS MATERIALIZED (
    SELECT ('{{' || string_agg(place || ':' || idf, ',') || '}}/{places}')::sparsevec AS idfs FROM (
        SELECT (word + 2147483648) %% {places} + 1 AS place, max(ln(1 + (total - held + 0.5) / (held + 0.5))) AS idf
        FROM unnest(%s::integer[]) AS word,
        LATERAL (SELECT count(*) AS held FROM {words} WHERE words @> ARRAY[word]) AS holding,
        (SELECT count(*) AS total FROM {table}) AS everything
        GROUP BY place
    ) AS rarity
)
SELECT id, score, (SELECT count(*) FROM unnest(%s::integer[]) AS word WHERE word = ANY (words)) AS matched FROM (
    SELECT id, point, words, (- (weights <#> (SELECT idfs FROM question)))::real AS score FROM {words}
    WHERE words && %s::integer[] {where} ORDER BY score DESC, point LIMIT {limit}
) AS best ORDER BY score DESC, point
"""
