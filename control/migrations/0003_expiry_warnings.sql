-- Only adds. What was said about the end of which token, so that it is said once.
CREATE TABLE expiry_warnings (
    credential_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    days BIGINT NOT NULL,
    PRIMARY KEY (credential_id, expires_at, days)
);
CREATE INDEX expiry_warnings_by_end ON expiry_warnings (expires_at);
CREATE INDEX secrets_by_expiry ON secrets (expires_at);
