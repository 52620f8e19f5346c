namespace Foundry.Ledger.Read;

/// <summary>What a cache may keep: a tenant's log is nobody else's, so never a shared one, and only what can never change.</summary>
internal static class CacheRules
{
    /// <summary>Entries and checkpoints.</summary>
    public const string Never = "private, no-store";

    /// <summary>Full hash tiles.</summary>
    public const string Immutable = "private, max-age=31536000, immutable";

    /// <summary>Partial hash tiles: right for as long as they are asked for, which is until the tile is full.</summary>
    public const string Briefly = "private, no-cache";
}
