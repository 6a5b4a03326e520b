-- The signs that a standing is explained with. Owner: analysis.

ALTER TABLE standing ADD COLUMN signals jsonb;

COMMENT ON COLUMN standing.signals IS 'The signs that were looked at, as in the API: probability alive now and 90 days ago, place among the own times between purchases, spend by window, categories and channels lost, points idle and expiring, tier under review';
