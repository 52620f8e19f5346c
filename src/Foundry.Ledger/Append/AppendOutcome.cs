namespace Foundry.Ledger.Append;

/// <summary>What became of an append.</summary>
internal enum AppendStatus
{
    /// <summary>The entry is durable, now or since an earlier append of the same bytes.</summary>
    Appended,

    /// <summary>The writer has used the payload ID for other bytes.</summary>
    Conflict,

    /// <summary>The entry is over the largest that a leaf may be.</summary>
    TooLarge,

    /// <summary>As many appends wait as may.</summary>
    Busy,

    /// <summary>The log takes no appends until the ledger is started again: a write failed, and what is durable is not known.</summary>
    Failed,
}

/// <summary>What became of an append.</summary>
/// <param name="Status">Which of the five.</param>
/// <param name="Cursor">Leaf index + 1, when appended.</param>
internal readonly record struct AppendOutcome(AppendStatus Status, long Cursor = 0)
{
    /// <summary>Whether the log has an entry of this writer and payload ID.</summary>
    public bool IsThere => Status is AppendStatus.Appended or AppendStatus.Conflict;
}
