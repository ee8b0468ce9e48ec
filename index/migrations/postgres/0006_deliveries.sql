-- Deliveries: images that an opted-in destination still has to get after its C-MOVE ended. A delivery is what one C-MOVE could not
-- send, kept from before its final response until some time after it ended. The SQLite twin of this file has the same tables
-- and columns.

-- asked_at and deadline are by the clocks of the nodes, every other time is the database's. node has worked on it last; lease_until
-- and fence say who does so now. attempts counts passes in a row that the destination failed,
-- wakes how often it was made due, so that who works on it then does not put it off.
CREATE TABLE deliveries (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    destination TEXT COLLATE "C" NOT NULL,
    requester   TEXT COLLATE "C" NOT NULL,
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('open', 'done', 'cancelled', 'expired')),
    asked_at    BIGINT NOT NULL,
    deadline    BIGINT NOT NULL,
    ended_at    BIGINT,
    node        BIGINT REFERENCES nodes (id),
    attempts    BIGINT NOT NULL DEFAULT 0,
    next_at     BIGINT NOT NULL DEFAULT 0,
    wakes       BIGINT NOT NULL DEFAULT 0,
    lease_until BIGINT NOT NULL DEFAULT 0,
    fence       BIGINT NOT NULL DEFAULT 0,
    error       TEXT COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'open';
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE ended_at IS NOT NULL;

-- One image for one destination. object is the version that was asked for; what is sent is the version that is served then. node,
-- lease_until and fence say who sends it now: the delivery, or a C-MOVE that asks for it again. refusals counts answers of the
-- destination that speak of this image and not of itself.
CREATE TABLE delivery_items (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery    BIGINT NOT NULL REFERENCES deliveries (id),
    destination TEXT COLLATE "C" NOT NULL,
    object      BIGINT NOT NULL REFERENCES objects (id),
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('waiting', 'sent', 'withdrawn', 'refused', 'cancelled', 'expired')),
    refusals    BIGINT NOT NULL DEFAULT 0,
    ended_at    BIGINT,
    node        BIGINT REFERENCES nodes (id),
    lease_until BIGINT NOT NULL DEFAULT 0,
    fence       BIGINT NOT NULL DEFAULT 0
);
-- An image is open for a destination once, whoever asked for it how often.
CREATE UNIQUE INDEX delivery_items_open ON delivery_items (destination, object) WHERE state = 'waiting';
CREATE INDEX delivery_items_by_object ON delivery_items (object);
CREATE INDEX delivery_items_by_delivery ON delivery_items (delivery, state);
