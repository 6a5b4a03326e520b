-- How far a signal stands out is asked of the last ones of its kind, for every case that opens.

CREATE INDEX signal_by_kind ON signal (program, kind, at);
