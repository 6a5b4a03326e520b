-- Rows that are written again with every batch find room on their own page, and their index need not hear of it.
ALTER TABLE cursor SET (fillfactor = 60);
ALTER TABLE balance SET (fillfactor = 60);
