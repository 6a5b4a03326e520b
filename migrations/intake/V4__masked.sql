-- Of which program a rejected message is, as far as that could be read. Bodies are kept without the number of a card or member from here on, if they can be read; those of
-- before are emptied, as they may have some.
ALTER TABLE rejected ADD COLUMN program text COLLATE "C";
UPDATE rejected SET body = '\x';
-- What is done, and what is rejected, is deleted after 90 days.
CREATE INDEX rejected_received ON rejected (received_at);
