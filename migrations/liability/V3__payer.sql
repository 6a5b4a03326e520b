-- Who pays for points. Owner: projectors/src/liability.

ALTER TABLE lot ADD COLUMN returned bigint NOT NULL DEFAULT 0;

CREATE TABLE funding (
    program text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    lot_id  integer NOT NULL,
    payer   text COLLATE "C" NOT NULL,
    points  bigint NOT NULL,
    PRIMARY KEY (program, account, lot_id, payer)
);

CREATE TABLE payment (
    program   text COLLATE "C" NOT NULL,
    booked_on date NOT NULL,
    payer     text COLLATE "C" NOT NULL,
    kind      text NOT NULL,
    points    bigint NOT NULL,
    PRIMARY KEY (program, booked_on, payer, kind)
);

-- Of what a lot still owes, the share of its payer's points in what the goods kept earned, rounded down.
CREATE VIEW payer AS
SELECT program, payer, sum(points)::bigint AS points,
       sum(CASE WHEN kept > 0 THEN div(least(owed, kept)::numeric * points, kept) ELSE 0 END)::bigint AS liability
FROM (SELECT f.program, f.payer, f.points, l.points - l.returned AS kept, l.pending + l.available + l.held AS owed
      FROM funding f JOIN lot l USING (program, account, lot_id)) paid
GROUP BY program, payer;

COMMENT ON COLUMN lot.returned IS 'Of lots that somebody else than the program pays for: by how many points returns made less what the goods earn';
COMMENT ON TABLE funding IS 'Lots that somebody else than the program pays for, wholly or in part';
COMMENT ON COLUMN funding.program IS 'Program';
COMMENT ON COLUMN funding.account IS 'Account';
COMMENT ON COLUMN funding.lot_id IS 'The lot''s number within the account';
COMMENT ON COLUMN funding.payer IS 'Who pays, by the rulebook''s earn.bonus[].paid_by';
COMMENT ON COLUMN funding.points IS 'For how many of the points that the goods kept earned';
COMMENT ON TABLE payment IS 'What payers came to pay for, by day';
COMMENT ON COLUMN payment.program IS 'Program';
COMMENT ON COLUMN payment.booked_on IS 'The day (UTC) on which it was booked; a closed day gets no more';
COMMENT ON COLUMN payment.payer IS 'Who pays';
COMMENT ON COLUMN payment.kind IS 'issued, or clawed_back (goods were returned)';
COMMENT ON COLUMN payment.points IS 'Points that it pays for more, or, negative, less';
COMMENT ON VIEW payer IS 'What others than the program pay for, by payer; the program pays the rest';
COMMENT ON COLUMN payer.program IS 'Program';
COMMENT ON COLUMN payer.payer IS 'Who pays';
COMMENT ON COLUMN payer.points IS 'For how many of all points ever given, less those of goods returned';
COMMENT ON COLUMN payer.liability IS 'How many of them are still owed to members: pending, available or held';
