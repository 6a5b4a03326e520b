-- Which fit was put in force when, so that there is a way back. Owner: analysis. Where a program has no row, its latest fit that was good enough counts.

CREATE TABLE fit_use (
    program  text COLLATE "C" NOT NULL,
    number   integer NOT NULL,
    version  integer NOT NULL,
    used_at  timestamptz NOT NULL,
    by_hand  boolean NOT NULL,
    PRIMARY KEY (program, number)
);

COMMENT ON TABLE fit_use IS 'Fits that were put in force, in order; the last one is in force';
COMMENT ON COLUMN fit_use.program IS 'Program';
COMMENT ON COLUMN fit_use.number IS '1, 2, 3 ... within the program';
COMMENT ON COLUMN fit_use.version IS 'The fit';
COMMENT ON COLUMN fit_use.used_at IS 'When it was put in force';
COMMENT ON COLUMN fit_use.by_hand IS 'Whether somebody chose it: then no fit made on the schedule replaces it';
COMMENT ON COLUMN fit.in_force IS 'Whether it was put in force when it was made; which one is in force now: fit_use';
