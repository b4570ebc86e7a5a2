-- Indexes for what is asked by a run alone, without its repository. Frozen: a later change is a revision of its own.

CREATE INDEX events_of_run ON events (run_id, seq);
CREATE INDEX events_of_type ON events (run_id, type);
CREATE INDEX phases_of_run ON phases (run_id);
CREATE INDEX artifacts_of_run ON artifacts (run_id);
CREATE INDEX checks_of_run ON checks (run_id);
CREATE INDEX bindings_of_run ON bindings (run_id);
CREATE INDEX run_inputs_of_run ON run_inputs (run_id);
CREATE INDEX agent_sessions_of_run ON agent_sessions (run_id);
CREATE INDEX approval_requests_of_run ON approval_requests (run_id);
CREATE INDEX decisions_of_request ON decisions (request_id);
CREATE INDEX projections_of_run ON projections (run_id);
