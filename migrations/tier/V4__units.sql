-- What counts, in every unit that a rulebook may qualify by; what returns take is negative. Rows from before have the one amount alone
-- until `loyalty rebuild tier`.

ALTER TABLE qualifying ADD COLUMN points bigint;
ALTER TABLE qualifying ADD COLUMN spend numeric;
ALTER TABLE qualifying ADD COLUMN purchases bigint;
