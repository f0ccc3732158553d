-- Written for SQLite. PostgreSQL is given the same with two types replaced: see `Backend::dialect`.
-- Times are microseconds since 1970, ids are UUIDs of version 7 as text, truth is 0 or 1.

CREATE TABLE keks (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    probe BLOB NOT NULL,
    wrapped BLOB,
    created_at BIGINT NOT NULL
);

CREATE TABLE replicas (
    id TEXT PRIMARY KEY,
    seen_at BIGINT NOT NULL,
    keks TEXT NOT NULL
);

-- The row of an organisation is the lock that puts its writers in order.
CREATE TABLE organisations (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    revision BIGINT NOT NULL,
    events BIGINT NOT NULL,
    pruned BIGINT NOT NULL,
    head_key BLOB NOT NULL,
    kek_id TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE operators (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisations (id),
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    token_hash BLOB NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    UNIQUE (org_id, name)
);

CREATE TABLE enclaves (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisations (id),
    name TEXT NOT NULL,
    key_hash BLOB NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    acked_revision BIGINT,
    acked_at BIGINT,
    seen_at BIGINT,
    max_stale BIGINT NOT NULL,
    degraded TEXT NOT NULL,
    UNIQUE (org_id, name)
);

-- Brokers that are connected. The one that has confirmed least decides.
CREATE TABLE sessions (
    enclave_id TEXT NOT NULL REFERENCES enclaves (id) ON DELETE CASCADE,
    id TEXT NOT NULL,
    replica TEXT NOT NULL,
    connected_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    max_stale BIGINT NOT NULL,
    acked_revision BIGINT,
    PRIMARY KEY (enclave_id, id)
);
CREATE INDEX sessions_by_seen ON sessions (seen_at);

CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    org_id TEXT NOT NULL REFERENCES organisations (id),
    enclave_id TEXT NOT NULL REFERENCES enclaves (id),
    name TEXT NOT NULL,
    unix_user TEXT NOT NULL,
    gid BIGINT,
    unit TEXT,
    cgroup TEXT,
    acts_as TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    created_at BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    UNIQUE (org_id, name)
);
CREATE UNIQUE INDEX agents_by_enclave ON agents (enclave_id, name);
CREATE INDEX agents_by_user ON agents (enclave_id, unix_user);
CREATE INDEX agents_by_state ON agents (org_id, state, name);

-- Secrets of the organisation have an empty agent_id.
CREATE TABLE secrets (
    org_id TEXT NOT NULL REFERENCES organisations (id),
    agent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    agent_accessible BIGINT NOT NULL,
    version BIGINT NOT NULL,
    display_name TEXT,
    auth_type TEXT,
    instance_url TEXT,
    expires_at BIGINT,
    updated_at BIGINT NOT NULL,
    credential BIGINT NOT NULL,
    kek_id TEXT NOT NULL,
    wrapped_key BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (org_id, agent_id, name)
);
CREATE UNIQUE INDEX secrets_by_id ON secrets (id);
CREATE INDEX secrets_by_kek ON secrets (kek_id);

-- The newest version of each secret, apart from its row, so that an older row is known for what it is. Those of
-- deleted secrets stay for as long as there is the agent.
CREATE TABLE secret_heads (
    org_id TEXT NOT NULL REFERENCES organisations (id),
    agent_id TEXT NOT NULL,
    name TEXT NOT NULL,
    secret_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    deleted BIGINT NOT NULL,
    mac BLOB NOT NULL,
    PRIMARY KEY (org_id, agent_id, name)
);

CREATE TABLE integrations (
    agent_id TEXT NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    provider TEXT NOT NULL,
    id TEXT NOT NULL,
    status TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (agent_id, provider)
);

CREATE TABLE changes (
    org_id TEXT NOT NULL REFERENCES organisations (id),
    revision BIGINT NOT NULL,
    time BIGINT NOT NULL,
    kind TEXT NOT NULL,
    enclave_id TEXT,
    agent_id TEXT,
    agent TEXT,
    secret TEXT,
    PRIMARY KEY (org_id, revision)
);
CREATE INDEX changes_by_enclave ON changes (org_id, enclave_id, revision);

-- What the control plane did, and what brokers decided. It outlives what it is about.
CREATE TABLE audit_events (
    org_id TEXT NOT NULL REFERENCES organisations (id),
    number BIGINT NOT NULL,
    time BIGINT NOT NULL,
    actor TEXT NOT NULL,
    role TEXT,
    action TEXT NOT NULL,
    subject TEXT,
    agent TEXT,
    decision TEXT NOT NULL,
    reason TEXT,
    request_id TEXT,
    enclave_id TEXT,
    enclave TEXT,
    chain BIGINT,
    seq BIGINT,
    hash BLOB,
    line TEXT,
    PRIMARY KEY (org_id, number)
);
CREATE INDEX audit_events_by_agent ON audit_events (org_id, agent, number);
CREATE INDEX audit_events_by_time ON audit_events (time);
CREATE UNIQUE INDEX audit_events_by_line ON audit_events (enclave_id, chain, seq, hash);

-- The last line of each broker's audit log.
CREATE TABLE broker_chains (
    enclave_id TEXT PRIMARY KEY REFERENCES enclaves (id) ON DELETE CASCADE,
    chain BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    head BLOB NOT NULL
);

-- Answers to requests that may be repeated. They can hold a token, so they are encrypted like a secret.
CREATE TABLE idempotency (
    org_id TEXT NOT NULL REFERENCES organisations (id),
    actor TEXT NOT NULL,
    key TEXT NOT NULL,
    request BLOB NOT NULL,
    status BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    kek_id TEXT NOT NULL,
    wrapped_key BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (org_id, actor, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);
CREATE INDEX idempotency_by_kek ON idempotency (kek_id);

-- Work that one replica at a time does.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL
);
