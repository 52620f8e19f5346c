using System.Data.Common;
using Foundry.ServiceDefaults;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Foundry.Issuance.Admin;

/// <summary>Looks after the administrator's token for as long as the process runs.</summary>
internal sealed class AdminRenewal : BackgroundService
{
    private static readonly TimeSpan Interval = TimeSpan.FromHours(1);

    private readonly AdminToken _token;
    private readonly TimeProvider _time;
    private readonly ILogger<AdminRenewal> _log;

    /// <summary>Makes one.</summary>
    public AdminRenewal(AdminToken token, TimeProvider time, ILogger<AdminRenewal> log) => (_token, _time, _log) = (token, time, log);

    /// <summary>Looks now. A failure is the operator's to mend and no caller's.</summary>
    public async Task LookAsync(CancellationToken cancellationToken)
    {
        try
        {
            if (await _token.EnsureAsync(cancellationToken) is { } why)
                _log.LogInformation("A new platform administrator token is in {Path}: {Why}", _token.Path, why);
        }
        catch (Exception fault) when (fault is StateCorruptException or DbException or IOException or UnauthorizedAccessException)
        {
            _log.LogError(fault, "The platform administrator token in {Path} cannot be looked after", _token.Path);
        }
    }

    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            await Task.Delay(Interval, _time, stoppingToken);
            await LookAsync(stoppingToken);
        }
    }
}
