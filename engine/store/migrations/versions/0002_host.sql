-- A host's repositories, its deliveries and what it shows of a run. Frozen: a later change is a revision of its own.

ALTER TABLE runs ADD COLUMN trigger_key text;
ALTER TABLE runs ADD COLUMN discard_branch boolean NOT NULL DEFAULT false;
CREATE UNIQUE INDEX runs_one_run_a_trigger ON runs (repository_id, trigger_key) WHERE trigger_key IS NOT NULL;
CREATE INDEX runs_of_issue ON runs (repository_id, issue_number);
CREATE INDEX runs_leased ON runs (repository_id) WHERE lease_worker IS NOT NULL;

ALTER TABLE decisions ADD COLUMN by_id bigint;

CREATE TABLE hosted_repositories (
    repository_id bigint NOT NULL,
    installation_id bigint NOT NULL,
    full_name text NOT NULL,
    default_branch text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    gone_at timestamptz,
    CONSTRAINT hosted_repositories_pkey PRIMARY KEY (repository_id)
);

CREATE TABLE deliveries (
    repository_id bigint NOT NULL,
    delivery_id text NOT NULL,
    event text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    state text NOT NULL DEFAULT 'received',
    outcome text,
    responses jsonb,
    attempts integer NOT NULL DEFAULT 0,
    claimed_by uuid,
    not_before timestamptz,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    handled_at timestamptz,
    CONSTRAINT deliveries_pkey PRIMARY KEY (repository_id, delivery_id),
    CONSTRAINT deliveries_delivery_id_key UNIQUE (delivery_id),
    CONSTRAINT deliveries_state_check CHECK (state IN ('received', 'handled', 'ignored', 'unreadable', 'failed'))
);
CREATE INDEX deliveries_waiting ON deliveries (received_at) WHERE state = 'received';

CREATE TABLE commands (
    repository_id bigint NOT NULL,
    token text NOT NULL,
    run_id uuid NOT NULL,
    command text NOT NULL,
    by text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT commands_pkey PRIMARY KEY (repository_id, run_id, token),
    CONSTRAINT commands_repository_id_run_id_fkey FOREIGN KEY (repository_id, run_id)
        REFERENCES runs (repository_id, run_id) ON DELETE CASCADE
);

CREATE TABLE projections (
    repository_id bigint NOT NULL,
    run_id uuid NOT NULL,
    dirty boolean NOT NULL DEFAULT true,
    claimed_by uuid,
    attempts integer NOT NULL DEFAULT 0,
    not_before timestamptz,
    again_at timestamptz,
    projected_at timestamptz,
    error text,
    CONSTRAINT projections_pkey PRIMARY KEY (repository_id, run_id),
    CONSTRAINT projections_repository_id_run_id_fkey FOREIGN KEY (repository_id, run_id)
        REFERENCES runs (repository_id, run_id) ON DELETE CASCADE
);
CREATE INDEX projections_waiting ON projections (run_id)
    WHERE dirty OR claimed_by IS NOT NULL OR again_at IS NOT NULL;

CREATE TABLE surfaces (
    repository_id bigint NOT NULL,
    surface_key text NOT NULL,
    run_id uuid,
    kind text NOT NULL,
    target jsonb NOT NULL,
    external_id text,
    external_at timestamptz,
    content_hash text,
    facts jsonb NOT NULL DEFAULT '{}',
    attempted_at timestamptz,
    applied_at timestamptz,
    CONSTRAINT surfaces_pkey PRIMARY KEY (repository_id, surface_key),
    CONSTRAINT surfaces_repository_id_run_id_fkey FOREIGN KEY (repository_id, run_id)
        REFERENCES runs (repository_id, run_id) ON DELETE CASCADE
);
CREATE INDEX surfaces_by_external_id ON surfaces (repository_id, kind, external_id);
CREATE INDEX surfaces_of_run ON surfaces (run_id);

CREATE TABLE content_allowances (
    installation_id bigint NOT NULL,
    spent_at timestamptz NOT NULL,
    spends integer NOT NULL DEFAULT 0,
    CONSTRAINT content_allowances_pkey PRIMARY KEY (installation_id, spent_at)
);
