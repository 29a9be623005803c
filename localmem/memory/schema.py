"""The tables of an agent's file, as numbered migrations: SQL text and nothing else.

A migration that was released is never edited; a change is a new one at the end. All times are UTC.
"""

#: Migration n (from 1) takes a file from format n - 1 to format n.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (key VARCHAR NOT NULL, value VARCHAR);

    -- A branch is a linear run of events; it begins as a child of event `forked_at` on branch `parent`.
    CREATE TABLE branches (id BIGINT PRIMARY KEY, parent BIGINT, forked_at BIGINT);

    -- `searchable` is decided once, at append: what the search indexes hold is a property of the event.
    CREATE TABLE events (
        id BIGINT PRIMARY KEY, parent BIGINT, branch BIGINT NOT NULL, time TIMESTAMP NOT NULL, kind VARCHAR NOT NULL,
        text VARCHAR NOT NULL, call VARCHAR, stats VARCHAR, details VARCHAR, searchable BOOLEAN NOT NULL
    );

    -- The newest row of a name counts.
    CREATE TABLE bookmarks (name VARCHAR NOT NULL, event BIGINT NOT NULL, time TIMESTAMP NOT NULL);

    -- Each edit of a block is a row; the newest one that the head can see is the block. `event` is the head under
    -- which it was made, NULL before any event. `undo` marks a row that takes the edit before it back.
    CREATE TABLE blocks (
        id BIGINT PRIMARY KEY, label VARCHAR NOT NULL, event BIGINT, time TIMESTAMP NOT NULL, value VARCHAR NOT NULL,
        size_limit BIGINT NOT NULL, description VARCHAR NOT NULL, undo BOOLEAN NOT NULL
    );

    -- A version of a document; the newest one of a path that the head can see counts.
    CREATE TABLE documents (
        id BIGINT PRIMARY KEY, name VARCHAR NOT NULL, path VARCHAR NOT NULL, digest VARCHAR NOT NULL, event BIGINT,
        time TIMESTAMP NOT NULL
    );

    -- A text is stored once, whoever wrote it; each place that it comes from is a row of `passage_sources`.
    CREATE TABLE passages (id BIGINT PRIMARY KEY, digest VARCHAR NOT NULL, text VARCHAR NOT NULL);
    CREATE TABLE passage_sources (
        id BIGINT PRIMARY KEY, passage BIGINT NOT NULL, document BIGINT, first_line BIGINT, last_line BIGINT,
        page BIGINT, event BIGINT, time TIMESTAMP NOT NULL
    );

    -- Little-endian float32, unit length. Texts are embedded out of order, so `id` is what an index catches up by.
    CREATE TABLE vectors (
        id BIGINT PRIMARY KEY, tier VARCHAR NOT NULL, item BIGINT NOT NULL, embedder VARCHAR NOT NULL,
        vector BLOB NOT NULL
    );

    -- Every text that search may find, by tier.
    CREATE VIEW texts AS
        SELECT 'recall' AS tier, id AS item, text FROM events WHERE searchable
        UNION ALL SELECT 'archival' AS tier, id AS item, text FROM passages;
    """,
)
