-- Which account a message went to that names a card or a member, or none where it is kept as unmatched: read again, or by two at once, it goes nowhere
-- else, even if the name has moved on. Kept for a day.
CREATE TABLE matched (
    topic      text NOT NULL,
    partition  integer NOT NULL,
    position   bigint NOT NULL,
    account    text,
    matched_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition, position)
);
CREATE INDEX matched_at ON matched (matched_at);

-- From here on an account stands in unmatched before the message is booked for it: claimed_at says when that was done.
CREATE INDEX unmatched_reserved ON unmatched (topic, partition, position) WHERE claimed_at IS NULL AND account IS NOT NULL;
