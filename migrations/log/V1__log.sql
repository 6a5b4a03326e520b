-- The book. Owner: engines/event-log/src/postgres. One writer at a time appends, under the epoch it took the partitions with.

CREATE TABLE book (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    partitions smallint NOT NULL CHECK (partitions > 0)
);

CREATE TABLE partition (
    id            smallint PRIMARY KEY,
    epoch         bigint NOT NULL DEFAULT 0,
    owner         text NOT NULL DEFAULT '',
    next_position bigint NOT NULL DEFAULT 0,
    next_outcome  bigint NOT NULL DEFAULT 0
);

CREATE TABLE record (
    partition   smallint NOT NULL,
    position    bigint NOT NULL,
    account     text COLLATE "C" NOT NULL,
    account_seq bigint NOT NULL,
    body        bytea NOT NULL,
    PRIMARY KEY (partition, position)
);
-- Compressing protobuf costs more than it saves.
ALTER TABLE record ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE TABLE outcome (
    partition smallint NOT NULL,
    position  bigint NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (partition, position)
);

CREATE TABLE program (
    position bigint PRIMARY KEY,
    body     bytea NOT NULL
);

CREATE TABLE source_offset (
    source   text PRIMARY KEY,
    position bigint NOT NULL
);

-- The first statement of every append: a writer whose epoch is over, or whose idea of where the partitions end is wrong, gets nothing in.
CREATE FUNCTION fence(
    in_epoch bigint, ids smallint[], firsts bigint[], nexts bigint[], first_outcomes bigint[], next_outcomes bigint[]
) RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    fenced integer;
BEGIN
    UPDATE partition p SET next_position = n.next_position, next_outcome = n.next_outcome
      FROM unnest(ids, firsts, nexts, first_outcomes, next_outcomes) AS n(id, first_position, next_position, first_outcome, next_outcome)
     WHERE p.id = n.id AND p.epoch = in_epoch AND p.next_position = n.first_position AND p.next_outcome = n.first_outcome;
    GET DIAGNOSTICS fenced = ROW_COUNT;
    IF fenced <> cardinality(ids) THEN
        RAISE EXCEPTION 'fenced: epoch % is over', in_epoch USING ERRCODE = 'LL001';
    END IF;
END $$;
