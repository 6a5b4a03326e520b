-- What counts, in every unit that a rulebook may qualify by; what returns take is negative. The model is folded anew, as rows from before know
-- one amount alone.

TRUNCATE checkpoint, cursor, standing, move, qualifying, purchase;
ALTER TABLE qualifying ADD COLUMN points bigint NOT NULL;
ALTER TABLE qualifying ADD COLUMN spend numeric NOT NULL;
ALTER TABLE qualifying ADD COLUMN purchases bigint NOT NULL;
