-- Which account a message went to that names a card or a member, for as long as ids are kept: for ever. The mark is a hash of program, kind, id and
-- alias, so what is published again, at whatever place, goes where it went first. No account: it waits in unmatched. About 90 bytes a message, with
-- the index. The table matched, which was kept for a day, is read and not written any more.
CREATE TABLE mark (
    mark    bytea PRIMARY KEY,
    account text
);
DROP INDEX matched_at;

-- A return that came before its purchase waits for it: it names its account itself, or has been given to one.
ALTER TABLE unmatched
    ALTER COLUMN alias DROP NOT NULL,
    ADD COLUMN mark bytea,
    ADD COLUMN awaits text COLLATE "C";
CREATE INDEX unmatched_awaits ON unmatched (program, awaits) WHERE claimed_at IS NULL AND awaits IS NOT NULL;

-- How far each partition was read: the group's own offsets are forgotten by the broker a week after its last member has gone.
CREATE TABLE position (
    topic     text NOT NULL,
    partition integer NOT NULL,
    next      bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
