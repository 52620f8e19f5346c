using System.Data.Common;
using Foundry.Contracts;
using Foundry.Ledger.Storage;
using Foundry.ServiceDefaults;

namespace Foundry.Ledger;

/// <summary>The answer where a log cannot be reached: <c>record_unavailable</c>, for a write and a read alike.</summary>
internal static partial class LogFailures
{
    private static readonly Refused _unavailable = new(ErrorCode.RecordUnavailable, "The log cannot be reached at the moment; repeat this later.");

    /// <summary>Turns what a store throws into that answer. Nothing of it is told to the caller.</summary>
    public static void UseLogFailures(this WebApplication app) => app.Use(async (context, next) =>
    {
        try
        {
            await next();
        }
        catch (Exception fault) when (fault is LogUnavailableException or DbException or StateCorruptException && !context.Response.HasStarted)
        {
            // A log that is out of service was said so when it was put there.
            if (fault is not LogUnavailableException)
                LogUnreachable(app.Logger, fault);
            await ((IResult)_unavailable).ExecuteAsync(context);
        }
    });

    [LoggerMessage(3005, LogLevel.Error, "A log could not be reached")]
    private static partial void LogUnreachable(ILogger logger, Exception fault);
}
