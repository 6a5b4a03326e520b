-- What is owed to members, in points: double entry by day, tier and issue month; and every lot. Owner: projectors/src/liability.

CREATE TABLE checkpoint (partition smallint PRIMARY KEY, position bigint NOT NULL);
CREATE TABLE cursor (account text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, poison text);

CREATE TABLE tier (
    program text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    tier    text NOT NULL,
    PRIMARY KEY (program, account)
);

CREATE TABLE lot (
    program    text COLLATE "C" NOT NULL,
    account    text COLLATE "C" NOT NULL,
    lot_id     integer NOT NULL,
    issued_on  date NOT NULL,
    source     text NOT NULL,
    points     bigint NOT NULL,
    pending    bigint NOT NULL DEFAULT 0,
    available  bigint NOT NULL DEFAULT 0,
    held       bigint NOT NULL DEFAULT 0,
    redeemed   bigint NOT NULL DEFAULT 0,
    expired    bigint NOT NULL DEFAULT 0,
    other      bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (program, account, lot_id)
);

CREATE TABLE posting (
    program      text COLLATE "C" NOT NULL,
    booked_on    date NOT NULL,
    effective_on date NOT NULL,
    tier         text NOT NULL,
    cohort       date NOT NULL,
    kind         text NOT NULL,
    bucket       text NOT NULL,
    points       bigint NOT NULL,
    PRIMARY KEY (program, booked_on, effective_on, tier, cohort, kind, bucket)
);

-- Over all time, by bucket; the sum is zero.
CREATE VIEW trial_balance AS SELECT program, bucket, sum(points)::bigint AS points FROM posting GROUP BY program, bucket;

COMMENT ON TABLE tier IS 'The tier that an account''s postings count under';
COMMENT ON COLUMN tier.program IS 'Program';
COMMENT ON COLUMN tier.account IS 'Account';
COMMENT ON COLUMN tier.tier IS 'Its tier after its last record';
COMMENT ON TABLE lot IS 'Every lot and where its points are; they sum to points';
COMMENT ON COLUMN lot.program IS 'Program';
COMMENT ON COLUMN lot.account IS 'Account';
COMMENT ON COLUMN lot.lot_id IS 'The lot''s number within the account';
COMMENT ON COLUMN lot.issued_on IS 'The day (UTC) of the purchase or adjustment that gave it';
COMMENT ON COLUMN lot.source IS 'Its id';
COMMENT ON COLUMN lot.points IS 'What it began with';
COMMENT ON COLUMN lot.pending IS 'Not yet to be spent';
COMMENT ON COLUMN lot.available IS 'To be spent';
COMMENT ON COLUMN lot.held IS 'Set aside';
COMMENT ON COLUMN lot.redeemed IS 'Spent';
COMMENT ON COLUMN lot.expired IS 'Lost to time';
COMMENT ON COLUMN lot.other IS 'Clawed back, forfeited, taken by hand, or paid for what was owed';
COMMENT ON TABLE posting IS 'Points moved, double entry: each day''s postings sum to zero';
COMMENT ON COLUMN posting.program IS 'Program';
COMMENT ON COLUMN posting.booked_on IS 'The day (UTC) on which it was booked; a closed day gets no more';
COMMENT ON COLUMN posting.effective_on IS 'The day (UTC) on which it took effect';
COMMENT ON COLUMN posting.tier IS 'The tier of the member then';
COMMENT ON COLUMN posting.cohort IS 'First day of the month in which the points were issued; where no lot is concerned, of the movement';
COMMENT ON COLUMN posting.kind IS 'issued, matured, redeemed, redemption_returned, expired, clawed_back, adjusted, forfeited, held, released';
COMMENT ON COLUMN posting.bucket IS 'issued, pending, available, held, redeemed, expired, clawed_back, forfeited, adjusted, owed, shortfall, uncollected';
COMMENT ON COLUMN posting.points IS 'Into the bucket, or, negative, out of it';
COMMENT ON VIEW trial_balance IS 'Over all time, by bucket; it sums to zero';
COMMENT ON COLUMN trial_balance.program IS 'Program';
COMMENT ON COLUMN trial_balance.bucket IS 'The bucket';
COMMENT ON COLUMN trial_balance.points IS 'What is in it';
