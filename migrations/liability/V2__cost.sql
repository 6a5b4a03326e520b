-- What points cost, by the rules that gave them. Owner: projectors/src/liability. Lots from before have no rule until `loyalty rebuild liability`.

ALTER TABLE lot ADD COLUMN rule text NOT NULL DEFAULT '';

CREATE TABLE cost (
    program   text COLLATE "C" NOT NULL,
    booked_on date NOT NULL,
    rule      text NOT NULL,
    tier      text NOT NULL,
    kind      text NOT NULL,
    points    bigint NOT NULL DEFAULT 0,
    sales     numeric NOT NULL DEFAULT 0,
    PRIMARY KEY (program, booked_on, rule, tier, kind)
);

COMMENT ON COLUMN lot.rule IS 'What gave it: base, the bonuses that held for any line of the purchase, joined by +, or adjustment';
COMMENT ON TABLE cost IS 'Points that came to members or went from them, by what had given them';
COMMENT ON COLUMN cost.program IS 'Program';
COMMENT ON COLUMN cost.booked_on IS 'The day (UTC) on which it was booked';
COMMENT ON COLUMN cost.rule IS 'What had given the points, as in lot; empty where no lot is concerned';
COMMENT ON COLUMN cost.tier IS 'The tier of the member then';
COMMENT ON COLUMN cost.kind IS 'issued, redeemed, redemption_returned, expired, clawed_back, adjusted, forfeited';
COMMENT ON COLUMN cost.points IS 'Into what is owed, or, negative, out of it';
COMMENT ON COLUMN cost.sales IS 'Of issued: the goods of the purchases that gave the points, after discounts, before returns';
