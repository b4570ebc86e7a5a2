-- The engine's tables, as of the first release. Money is US dollars, exact; times are UTC.
-- Frozen: a later change is a revision of its own.

CREATE TABLE repositories (
    repository_id bigint NOT NULL,
    location text NOT NULL,
    next_run_number integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT repositories_pkey PRIMARY KEY (repository_id)
);

CREATE TABLE templates (
    repository_id bigint NOT NULL,
    hash text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT templates_pkey PRIMARY KEY (repository_id, hash)
);

CREATE TABLE personas (
    repository_id bigint NOT NULL,
    hash text NOT NULL,
    name text NOT NULL,
    version integer NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT personas_pkey PRIMARY KEY (repository_id, hash)
);

CREATE TABLE workers (
    worker_id uuid NOT NULL,
    host text NOT NULL,
    boot_id text NOT NULL,
    pid integer NOT NULL,
    pid_started text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    stopped_at timestamptz,
    CONSTRAINT workers_pkey PRIMARY KEY (worker_id)
);

CREATE TABLE runs (
    repository_id bigint NOT NULL,
    run_id uuid NOT NULL,
    number integer NOT NULL,
    issue_number integer NOT NULL,
    title text NOT NULL,
    workflow text NOT NULL,
    template_hash text NOT NULL,
    state text NOT NULL,
    paused_from_state text,
    requested_action text,
    requested_by text,
    requested_note text,
    queue text NOT NULL,
    branch text NOT NULL,
    base_branch text NOT NULL,
    base_sha text NOT NULL,
    head_sha text NOT NULL,
    pushed_sha text,
    lease_worker uuid,
    epoch bigint NOT NULL DEFAULT 0,
    event_seq bigint NOT NULL DEFAULT 0,
    event_hash text NOT NULL DEFAULT '0000000000000000000000000000000000000000000000000000000000000000',
    options jsonb NOT NULL,
    sandbox text,
    budget_usd numeric(20, 10),
    reserved_usd numeric(20, 10) NOT NULL DEFAULT 0,
    spent_usd numeric(20, 10) NOT NULL DEFAULT 0,
    unpriced_calls integer NOT NULL DEFAULT 0,
    llm_call_count integer NOT NULL DEFAULT 0,
    total_tokens bigint NOT NULL DEFAULT 0,
    last_ai_message text,
    error_code text,
    error_message text,
    final_report_path text,
    retry_of uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CONSTRAINT runs_pkey PRIMARY KEY (repository_id, run_id),
    CONSTRAINT runs_run_id_key UNIQUE (run_id),
    CONSTRAINT runs_repository_id_number_key UNIQUE (repository_id, number),
    CONSTRAINT runs_repository_id_fkey FOREIGN KEY (repository_id) REFERENCES repositories (repository_id),
    CONSTRAINT runs_repository_id_template_hash_fkey
        FOREIGN KEY (repository_id, template_hash) REFERENCES templates (repository_id, hash),
    CONSTRAINT runs_state_check
        CHECK (state IN ('created', 'executing', 'awaiting_approval', 'paused', 'completed', 'failed', 'aborted')),
    CONSTRAINT runs_paused_from_state_check CHECK ((state = 'paused') = (paused_from_state IS NOT NULL)),
    CONSTRAINT runs_requested_action_check CHECK (requested_action IN ('pause', 'abort'))
);
CREATE UNIQUE INDEX runs_one_live_run_an_issue ON runs (repository_id, issue_number)
    WHERE started_at IS NOT NULL AND state NOT IN ('completed', 'failed', 'aborted');
CREATE INDEX runs_runnable ON runs (run_id)
    WHERE state IN ('created', 'executing')
        OR requested_action IS NOT NULL
        OR (state IN ('completed', 'failed', 'aborted') AND final_report_path IS NULL);

CREATE TABLE run_inputs (
    repository_id bigint NOT NULL,
    run_id uuid NOT NULL,
    requirements_md text NOT NULL,
    objective text NOT NULL,
    extra jsonb NOT NULL,
    metadata jsonb NOT NULL,
    model_override text,
    input_hash text NOT NULL,
    CONSTRAINT run_inputs_pkey PRIMARY KEY (repository_id, run_id),
    CONSTRAINT run_inputs_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE
);

CREATE TABLE bindings (
    repository_id bigint NOT NULL,
    run_id uuid NOT NULL,
    role text NOT NULL,
    persona_name text NOT NULL,
    persona_version integer NOT NULL,
    persona_hash text NOT NULL,
    backend text NOT NULL,
    model text NOT NULL,
    binding_hash text NOT NULL,
    CONSTRAINT bindings_pkey PRIMARY KEY (repository_id, run_id, role),
    CONSTRAINT bindings_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE
);

CREATE TABLE phases (
    repository_id bigint NOT NULL,
    run_id uuid NOT NULL,
    phase_key text NOT NULL,
    position integer NOT NULL,
    state text NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    round integer NOT NULL DEFAULT 1,
    revisions integer NOT NULL DEFAULT 0,
    feedback text,
    fault jsonb,
    artifact_digest text,
    commit_sha text,
    tree_sha text,
    error_code text,
    started_at timestamptz,
    ended_at timestamptz,
    CONSTRAINT phases_pkey PRIMARY KEY (repository_id, run_id, phase_key),
    CONSTRAINT phases_repository_id_run_id_position_key UNIQUE (repository_id, run_id, position),
    CONSTRAINT phases_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE,
    CONSTRAINT phases_state_check
        CHECK (state IN ('pending', 'running', 'validating', 'awaiting_approval', 'completed', 'failed', 'skipped'))
);

CREATE TABLE events (
    repository_id bigint NOT NULL,
    run_id uuid NOT NULL,
    seq bigint NOT NULL,
    key text NOT NULL,
    type text NOT NULL,
    at timestamptz NOT NULL,
    phase_key text,
    attempt integer,
    payload jsonb NOT NULL,
    prev_hash text NOT NULL,
    hash text NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (repository_id, run_id, seq),
    CONSTRAINT events_repository_id_run_id_key_key UNIQUE (repository_id, run_id, key),
    CONSTRAINT events_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE
);

CREATE TABLE artifacts (
    repository_id bigint NOT NULL,
    run_id uuid NOT NULL,
    phase_key text NOT NULL,
    round integer NOT NULL,
    attempt integer NOT NULL,
    path text NOT NULL,
    schema text NOT NULL,
    body bytea NOT NULL,
    digest text NOT NULL,
    valid boolean NOT NULL,
    errors jsonb NOT NULL,
    commit_sha text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT artifacts_pkey PRIMARY KEY (repository_id, run_id, phase_key, round, attempt),
    CONSTRAINT artifacts_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE
);

CREATE TABLE checks (
    repository_id bigint NOT NULL,
    run_id uuid NOT NULL,
    phase_key text NOT NULL,
    round integer NOT NULL,
    attempt integer NOT NULL,
    name text NOT NULL,
    command text NOT NULL,
    exit_code integer,
    expected text NOT NULL,
    met boolean NOT NULL,
    seconds numeric(12, 3) NOT NULL,
    output_tail text NOT NULL,
    CONSTRAINT checks_pkey PRIMARY KEY (repository_id, run_id, phase_key, round, attempt, name),
    CONSTRAINT checks_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE,
    CONSTRAINT checks_expected_check CHECK (expected IN ('pass', 'fail'))
);

CREATE TABLE approval_requests (
    repository_id bigint NOT NULL,
    request_id uuid NOT NULL,
    run_id uuid NOT NULL,
    key text NOT NULL,
    phase_key text NOT NULL,
    gate_key text NOT NULL,
    round integer NOT NULL,
    state text NOT NULL,
    required_approvals integer NOT NULL,
    bound_digest text,
    bound_tree text,
    commit_sha text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at timestamptz,
    CONSTRAINT approval_requests_pkey PRIMARY KEY (repository_id, request_id),
    CONSTRAINT approval_requests_repository_id_key_key UNIQUE (repository_id, key),
    CONSTRAINT approval_requests_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE,
    CONSTRAINT approval_requests_state_check
        CHECK (state IN ('pending', 'approved', 'rejected', 'revised', 'aborted', 'superseded', 'expired'))
);
CREATE UNIQUE INDEX approval_requests_one_pending_a_run ON approval_requests (repository_id, run_id)
    WHERE state = 'pending';

CREATE TABLE decisions (
    repository_id bigint NOT NULL,
    decision_id uuid NOT NULL,
    request_id uuid NOT NULL,
    token text NOT NULL,
    action text NOT NULL,
    by text NOT NULL,
    note text,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT decisions_pkey PRIMARY KEY (repository_id, decision_id),
    CONSTRAINT decisions_repository_id_request_id_token_key UNIQUE (repository_id, request_id, token),
    CONSTRAINT decisions_repository_id_request_id_fkey
        FOREIGN KEY (repository_id, request_id)
        REFERENCES approval_requests (repository_id, request_id) ON DELETE CASCADE,
    CONSTRAINT decisions_action_check CHECK (action IN ('approve', 'reject', 'revise', 'abort'))
);

CREATE TABLE agent_sessions (
    repository_id bigint NOT NULL,
    session_id uuid NOT NULL,
    run_id uuid NOT NULL,
    phase_key text NOT NULL,
    round integer NOT NULL,
    role text NOT NULL,
    persona_hash text NOT NULL,
    worktree_token text NOT NULL,
    state text NOT NULL,
    message_count integer NOT NULL DEFAULT 0,
    turn_count integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT agent_sessions_pkey PRIMARY KEY (repository_id, session_id),
    CONSTRAINT agent_sessions_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE,
    CONSTRAINT agent_sessions_state_check CHECK (state IN ('CREATED', 'READY', 'BUSY', 'CLOSED', 'FAILED_NEEDS_HUMAN'))
);
CREATE INDEX agent_sessions_of_a_phase ON agent_sessions (repository_id, run_id, phase_key);

CREATE TABLE session_messages (
    repository_id bigint NOT NULL,
    session_id uuid NOT NULL,
    seq integer NOT NULL,
    message jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT session_messages_pkey PRIMARY KEY (repository_id, session_id, seq),
    CONSTRAINT session_messages_repository_id_session_id_fkey
        FOREIGN KEY (repository_id, session_id) REFERENCES agent_sessions (repository_id, session_id) ON DELETE CASCADE
);

CREATE TABLE prompts (
    repository_id bigint NOT NULL,
    prompt_id uuid NOT NULL,
    run_id uuid NOT NULL,
    session_id uuid NOT NULL,
    dedup_key text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT prompts_pkey PRIMARY KEY (repository_id, prompt_id),
    CONSTRAINT prompts_repository_id_run_id_dedup_key_key UNIQUE (repository_id, run_id, dedup_key),
    CONSTRAINT prompts_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE
);

CREATE TABLE ledger (
    repository_id bigint NOT NULL,
    call_id uuid NOT NULL,
    run_id uuid NOT NULL,
    phase_key text NOT NULL,
    session_id uuid NOT NULL,
    epoch bigint NOT NULL,
    persona_name text NOT NULL,
    persona_version integer NOT NULL,
    backend text NOT NULL,
    model text NOT NULL,
    role text NOT NULL,
    turn_index integer NOT NULL,
    status text NOT NULL,
    reserved_usd numeric(20, 10),
    input_tokens bigint,
    output_tokens bigint,
    cached_tokens bigint,
    reasoning_tokens bigint,
    input_usd numeric(20, 10),
    output_usd numeric(20, 10),
    cost_usd numeric(20, 10),
    cost_source text,
    latency_ms integer,
    error_code text,
    provider_request_id text,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CONSTRAINT ledger_pkey PRIMARY KEY (repository_id, call_id),
    CONSTRAINT ledger_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE,
    CONSTRAINT ledger_status_check CHECK (status IN ('reserved', 'settled', 'failed', 'unknown')),
    CONSTRAINT ledger_cost_source_check CHECK (cost_source IN ('server', 'table', 'recorded', 'reservation'))
);
CREATE INDEX ledger_of_a_run ON ledger (repository_id, run_id, started_at);

CREATE TABLE tool_calls (
    repository_id bigint NOT NULL,
    tool_call_id uuid NOT NULL,
    run_id uuid NOT NULL,
    session_id uuid NOT NULL,
    turn_index integer NOT NULL,
    call_key text NOT NULL,
    tool text NOT NULL,
    arguments text NOT NULL,
    status text NOT NULL,
    result_excerpt text,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CONSTRAINT tool_calls_pkey PRIMARY KEY (repository_id, tool_call_id),
    CONSTRAINT tool_calls_repository_id_session_id_turn_index_call_key_key UNIQUE (repository_id, session_id, turn_index, call_key),
    CONSTRAINT tool_calls_repository_id_run_id_fkey
        FOREIGN KEY (repository_id, run_id) REFERENCES runs (repository_id, run_id) ON DELETE CASCADE,
    CONSTRAINT tool_calls_status_check CHECK (status IN ('started', 'ok', 'error', 'interrupted'))
);

CREATE TABLE consents (
    repository_id bigint NOT NULL,
    persona_hash text NOT NULL,
    persona_name text NOT NULL,
    by text NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz,
    CONSTRAINT consents_pkey PRIMARY KEY (repository_id, persona_hash, granted_at)
);
