-- When a move was booked, so that it can be told what was known when. Rows from before have none of it until `loyalty rebuild tier`.

ALTER TABLE move ADD COLUMN recorded_at timestamptz;
