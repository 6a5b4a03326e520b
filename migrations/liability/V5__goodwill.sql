-- Points given by hand, apart from those that came with a sale. Owner: projectors/src/liability. The read model is folded anew from the log at the next
-- start, as rows from before do not tell the two apart.

CREATE TABLE goodwill (
    program      text COLLATE "C" NOT NULL,
    booked_on    date NOT NULL,
    effective_on date NOT NULL,
    cohort       date NOT NULL,
    bucket       text NOT NULL,
    points       bigint NOT NULL,
    PRIMARY KEY (program, booked_on, effective_on, cohort, bucket)
);

TRUNCATE checkpoint, cursor, tier, lot, posting, cost, funding, payment;

COMMENT ON TABLE goodwill IS 'Of the postings, those of lots that were given by hand';
COMMENT ON COLUMN goodwill.program IS 'Program';
COMMENT ON COLUMN goodwill.booked_on IS 'The day (UTC) on which it was booked; a closed day gets no more';
COMMENT ON COLUMN goodwill.effective_on IS 'The day (UTC) on which it took effect';
COMMENT ON COLUMN goodwill.cohort IS 'First day of the month in which the points were given';
COMMENT ON COLUMN goodwill.bucket IS 'As in posting';
COMMENT ON COLUMN goodwill.points IS 'Into the bucket, or, negative, out of it';
