using Foundry.Storage;

namespace Foundry.Issuance;

/// <summary>Issuance's tables. Times are Unix seconds unless a name says otherwise; whole numbers are 64 bits in both stores.</summary>
internal static class Schema
{
    /// <summary>Name of SQLite's file.</summary>
    public const string FileName = "issuance.db";

    private const string First = """
        CREATE TABLE platform (
            id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
            issuer TEXT NOT NULL,
            root_kid TEXT NOT NULL,
            feed_seq BIGINT NOT NULL,
            trust_seq BIGINT NOT NULL,
            trust TEXT NOT NULL
        );
        CREATE TABLE changes (
            seq BIGINT NOT NULL PRIMARY KEY,
            body TEXT NOT NULL
        );
        CREATE TABLE trusted_keys (
            kid TEXT NOT NULL PRIMARY KEY,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            x TEXT NOT NULL,
            joined_at BIGINT NOT NULL
        );
        CREATE TABLE signing_keys (
            kid TEXT NOT NULL PRIMARY KEY,
            x TEXT NOT NULL,
            status TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            signs_from BIGINT NOT NULL,
            retired_at BIGINT NULL,
            verifies_until BIGINT NULL
        );
        CREATE TABLE tenants (
            tenant_id TEXT NOT NULL PRIMARY KEY,
            display_name TEXT NOT NULL,
            max_vms BIGINT NOT NULL,
            storage_quota_gb BIGINT NOT NULL,
            api_rate_limit_rpm BIGINT NOT NULL,
            max_ram_mb BIGINT NULL,
            require_proof BIGINT NOT NULL,
            status TEXT NOT NULL,
            created_at_ms BIGINT NOT NULL,
            version BIGINT NOT NULL
        );
        CREATE TABLE tokens (
            token_id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NULL REFERENCES tenants (tenant_id),
            scope TEXT NOT NULL,
            subject_pubkey TEXT NOT NULL,
            user_id TEXT NULL,
            issued_at BIGINT NOT NULL,
            expires_at BIGINT NOT NULL,
            issued_by TEXT NULL,
            kid TEXT NOT NULL REFERENCES signing_keys (kid),
            revoked_at BIGINT NULL,
            revoke_at BIGINT NULL,
            in_admin_file BIGINT NOT NULL
        );
        CREATE INDEX tokens_by_tenant ON tokens (tenant_id, token_id);
        CREATE INDEX tokens_by_subject ON tokens (subject_pubkey);
        CREATE INDEX tokens_by_key ON tokens (kid, expires_at);
        CREATE INDEX tokens_revoked ON tokens (expires_at) WHERE revoked_at IS NOT NULL;
        CREATE INDEX tokens_to_revoke ON tokens (revoke_at) WHERE revoke_at IS NOT NULL;
        """;

    /// <summary>Each change has the hash of the one before it. What was written without is dropped: followers take a snapshot.</summary>
    private const string ChangesChained = """
        DELETE FROM changes;
        ALTER TABLE changes ADD COLUMN hash_before TEXT NOT NULL DEFAULT '';
        ALTER TABLE platform ADD COLUMN feed_hash TEXT NOT NULL DEFAULT '';
        """;

    private const string TokensAndTenantsInDepth = """
        CREATE TABLE idempotency_keys (
            tenant_id TEXT NOT NULL,
            subject_pubkey TEXT NOT NULL,
            route TEXT NOT NULL,
            idempotency_key TEXT NOT NULL,
            request_hash TEXT NOT NULL,
            answer TEXT NOT NULL,
            created_at BIGINT NOT NULL,
            PRIMARY KEY (tenant_id, subject_pubkey, route, idempotency_key)
        );
        CREATE INDEX idempotency_keys_by_tenant ON idempotency_keys (tenant_id, created_at);
        CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
        ALTER TABLE tokens ADD COLUMN replaced_by TEXT NULL;
        CREATE INDEX tokens_by_issuer ON tokens (issued_by);
        CREATE INDEX tokens_by_expiry ON tokens (expires_at);
        DROP INDEX tokens_to_revoke;
        CREATE INDEX tokens_due ON tokens (revoke_at) WHERE revoke_at IS NOT NULL AND revoked_at IS NULL;
        ALTER TABLE tenants ADD COLUMN deletion TEXT NULL;
        CREATE INDEX tenants_deleting ON tenants (tenant_id) WHERE status = 'deleting';
        CREATE TABLE vm_removals (
            vm_id TEXT NOT NULL PRIMARY KEY,
            tenant_id TEXT NOT NULL REFERENCES tenants (tenant_id),
            begun_at BIGINT NOT NULL
        );
        CREATE INDEX vm_removals_by_tenant ON vm_removals (tenant_id);
        """;

    private const string KeysAndParts = """
        ALTER TABLE signing_keys ADD COLUMN private_half TEXT NULL;
        ALTER TABLE trusted_keys ADD COLUMN removed_at BIGINT NULL;
        CREATE TABLE join_codes (
            code_hash TEXT NOT NULL PRIMARY KEY,
            kind TEXT NOT NULL,
            name TEXT NOT NULL,
            expires_at BIGINT NOT NULL,
            made_by TEXT NULL,
            used_by TEXT NULL
        );
        """;

    private const string Proof = """
        ALTER TABLE tokens ADD COLUMN bound BIGINT NOT NULL DEFAULT 0;
        ALTER TABLE tokens ADD COLUMN renews TEXT NULL;
        CREATE INDEX tokens_by_renewed ON tokens (renews) WHERE renews IS NOT NULL;
        """;

    /// <summary>Oldest first; never edited once released.</summary>
    public static readonly IReadOnlyList<string> Migrations = [Outbox.Migration + "\n" + First, ChangesChained, TokensAndTenantsInDepth, KeysAndParts, Proof];
}
