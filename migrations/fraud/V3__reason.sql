-- Claims of missing purchases are told from other adjustments by their reason.

ALTER TABLE signal ADD COLUMN reason text COLLATE "C" NOT NULL DEFAULT '';
COMMENT ON COLUMN signal.reason IS 'Of an adjustment: the code of its reason';
