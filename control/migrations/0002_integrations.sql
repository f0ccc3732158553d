-- Only adds. A program that knows nothing of it goes on.

-- Who makes identities for agents at a provider. The newest version of a token is kept apart, as those of secrets
-- are: in secret_heads, where agent_id is provider/ and the id.
CREATE TABLE credential_providers (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisations (id),
    name TEXT NOT NULL,
    provider TEXT NOT NULL,
    instance_url TEXT NOT NULL,
    group_id BIGINT NOT NULL,
    mode TEXT NOT NULL,
    rotate_every BIGINT,
    status TEXT NOT NULL,
    reason TEXT,
    user_id BIGINT NOT NULL,
    token_id BIGINT,
    token_expires_at BIGINT,
    next_rotation_at BIGINT,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    kek_id TEXT NOT NULL,
    wrapped_key BLOB NOT NULL,
    value BLOB NOT NULL,
    UNIQUE (org_id, name)
);
CREATE INDEX credential_providers_by_kek ON credential_providers (kek_id);
CREATE INDEX credential_providers_by_rotation ON credential_providers (next_rotation_at);

ALTER TABLE integrations ADD COLUMN origin TEXT NOT NULL DEFAULT 'manual';
ALTER TABLE integrations ADD COLUMN credential_provider_id TEXT;
ALTER TABLE integrations ADD COLUMN project_id BIGINT;
ALTER TABLE integrations ADD COLUMN access_level BIGINT;
ALTER TABLE integrations ADD COLUMN user_id BIGINT;
ALTER TABLE integrations ADD COLUMN username TEXT;
ALTER TABLE integrations ADD COLUMN token_id BIGINT;
ALTER TABLE integrations ADD COLUMN scopes TEXT;
ALTER TABLE integrations ADD COLUMN minted_at BIGINT;
ALTER TABLE integrations ADD COLUMN rotate_at BIGINT;
ALTER TABLE integrations ADD COLUMN cause TEXT;
ALTER TABLE integrations ADD COLUMN checked_at BIGINT;
CREATE INDEX integrations_by_rotation ON integrations (rotate_at);
CREATE INDEX integrations_by_credential_provider ON integrations (credential_provider_id);

-- The journal of what takes several calls. `active` is set while an operation runs, and nothing runs twice.
CREATE TABLE operations (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisations (id),
    kind TEXT NOT NULL,
    agent_id TEXT,
    agent TEXT,
    provider TEXT NOT NULL,
    credential_provider_id TEXT NOT NULL,
    active TEXT UNIQUE,
    state TEXT NOT NULL,
    step TEXT NOT NULL,
    data TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    last_error TEXT,
    revision BIGINT,
    holder TEXT,
    held_until BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX operations_by_due ON operations (state, next_at);
CREATE INDEX operations_by_agent ON operations (agent_id, created_at);

-- What was made at a provider, or may have been: it is here before the call that makes it, and until it is known
-- to be gone. A token's value is here, encrypted, from when it is made until it is published.
CREATE TABLE minted (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisations (id),
    operation_id TEXT NOT NULL,
    credential_provider_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    project_id BIGINT,
    account_id BIGINT,
    external_id BIGINT,
    expires_at BIGINT,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    doomed_at BIGINT,
    last_error TEXT,
    holder TEXT,
    held_until BIGINT,
    kek_id TEXT,
    wrapped_key BLOB,
    value BLOB,
    created_at BIGINT NOT NULL
);
CREATE INDEX minted_by_due ON minted (state, due_at);
CREATE INDEX minted_by_agent ON minted (agent_id);
CREATE INDEX minted_by_operation ON minted (operation_id);
CREATE INDEX minted_by_credential_provider ON minted (credential_provider_id);
CREATE INDEX minted_by_kek ON minted (kek_id);

-- When something was done that may be done only so often.
CREATE TABLE paces (
    name TEXT NOT NULL,
    at BIGINT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (name, at, id)
);
