-- The scrub: passes over what is kept, again and again. The SQLite twin of this file has the same tables and columns, and says what they mean.

CREATE TABLE scrubs (
    id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    what          TEXT COLLATE "C" NOT NULL CHECK (what IN ('hot', 'cold')),
    owner         BIGINT NOT NULL,
    node          BIGINT NOT NULL REFERENCES nodes (id),
    began_at      BIGINT,
    position      BIGINT NOT NULL DEFAULT 0,
    checked       BIGINT NOT NULL DEFAULT 0,
    bytes         BIGINT NOT NULL DEFAULT 0,
    bad           BIGINT NOT NULL DEFAULT 0,
    last_began_at BIGINT,
    last_ended_at BIGINT,
    last_checked  BIGINT NOT NULL DEFAULT 0,
    last_bytes    BIGINT NOT NULL DEFAULT 0,
    last_bad      BIGINT NOT NULL DEFAULT 0,
    lease_until   BIGINT NOT NULL DEFAULT 0,
    fence         BIGINT NOT NULL DEFAULT 0,
    UNIQUE (what, owner)
);
