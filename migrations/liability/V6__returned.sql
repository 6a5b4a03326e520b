-- How far a lot went down by returns is kept for every lot: a bonus may come to hold for the goods that are kept, and its payer then pays for a share of
-- what they earn. The model is folded anew where there are payers.

COMMENT ON COLUMN lot.returned IS 'By how many points returns made less what the goods earn';
DO $$
BEGIN
    IF EXISTS (SELECT FROM funding) THEN
        TRUNCATE checkpoint, cursor, tier, lot, posting, cost, funding, payment, goodwill;
    END IF;
END
$$;
