using System.Diagnostics;
using Foundry.Gateway.Admit;
using Foundry.Gateway.Authenticate;
using Foundry.Gateway.Config;
using Foundry.Gateway.Record;
using Microsoft.AspNetCore.Http.Features;

namespace Foundry.Gateway;

/// <summary>What one request gathers on its way through <see cref="GatewayPipeline"/>.</summary>
internal sealed class Exchange
{
    private long _cuttableSince;
    private bool _isEndless;

    private Exchange(HttpContext context, string rawPath, string rawQuery)
    {
        Context = context;
        RawPath = rawPath;
        RawQuery = rawQuery;
        Method = context.Request.Method;
        RequestId = ServiceDefaults.RequestId.Of(context);
        AnswerHeaders[Contracts.FoundryHeaders.RequestId] = RequestId;
        PutAnswerHeaders();
    }

    /// <summary>The request.</summary>
    public HttpContext Context { get; }
    /// <summary>The method as sent.</summary>
    public string Method { get; }
    /// <summary>The path as sent: what is decided on is what is forwarded, byte for byte.</summary>
    public string RawPath { get; }
    /// <summary>The query as sent, without '?'; rewritten once by <see cref="Authorize.TenantClaims"/>.</summary>
    public string RawQuery { get; set; }
    /// <summary>The request's ID.</summary>
    public string RequestId { get; }
    /// <summary>What the gateway itself says in the head of the answer, whoever answers.</summary>
    public Dictionary<string, string> AnswerHeaders { get; } = new(StringComparer.OrdinalIgnoreCase);
    /// <summary>When it began, for its duration.</summary>
    public long StartedAt { get; } = Stopwatch.GetTimestamp();

    /// <summary>Step 2: the route's policy.</summary>
    public RoutePolicy? Route { get; set; }
    /// <summary>Step 2: the path's parameters, as sent.</summary>
    public IReadOnlyDictionary<string, string> Parameters { get; set; } = new Dictionary<string, string>();
    /// <summary>Step 3: who is calling.</summary>
    public Caller Caller { get; set; } = Caller.Nobody;
    /// <summary>Step 5: the tenant that is served and charged: the caller's own, or the one a platform token names.</summary>
    public string? TenantId { get; set; }
    /// <summary>Step 5: the log that the ledger is asked about.</summary>
    public string? ModuleId { get; set; }
    /// <summary>Step 5: the body, complete and valid, of a request that has one.</summary>
    public byte[]? Body { get; set; }
    /// <summary>Step 6: what the request holds of the tenant's quota.</summary>
    public Reservation? Reservation { get; set; }
    /// <summary>Step 7: the durable decision.</summary>
    public Intent? Intent { get; set; }
    /// <summary>Step 9: what the filter found wrong with the answer before anything of it was sent.</summary>
    public Refusal? AnswerRefusal { get; set; }

    /// <summary>Why the request was refused, if it was.</summary>
    public Refusal? Refusal { get; set; }
    /// <summary>False until the pipeline's last line: whatever ends earlier has not succeeded.</summary>
    public bool Finished { get; set; }

    /// <summary>Whether the method promises to change nothing (RFC 9110 section 9.2.1).</summary>
    public bool IsSafe => HttpMethods.IsGet(Method) || HttpMethods.IsHead(Method) || HttpMethods.IsOptions(Method);

    /// <summary>Since when it loses nothing by being broken off: a read from its beginning, anything else from its answer's. 0: not yet.</summary>
    public long CuttableSince { get => Volatile.Read(ref _cuttableSince); set => Volatile.Write(ref _cuttableSince, value); }
    /// <summary>Whether its answer goes on until somebody has had enough: events, lines, an upgraded connection.</summary>
    public bool IsEndless { get => Volatile.Read(ref _isEndless); set => Volatile.Write(ref _isEndless, value); }
    /// <summary>Where <see cref="LiveRequests"/> has it.</summary>
    public (int Stripe, int Index)? Seat { get; set; }
    /// <summary>Why <see cref="LiveRequests"/> broke it off.</summary>
    public Refusal? Cut { get; set; }

    /// <summary>Puts <see cref="AnswerHeaders"/> where a backend's own of that name, or none at all, may be by now.</summary>
    public void PutAnswerHeaders()
    {
        foreach (var (name, value) in AnswerHeaders)
            Context.Response.Headers[name] = value;
    }

    /// <summary>Begins an exchange and leaves it where the transforms find it.</summary>
    /// <param name="context">The request.</param>
    public static Exchange Begin(HttpContext context)
    {
        var target = context.Features.GetRequiredFeature<IHttpRequestFeature>().RawTarget;
        var query = target.IndexOf('?', StringComparison.Ordinal);
        var exchange = query < 0 ? new Exchange(context, target, "") : new Exchange(context, target[..query], target[(query + 1)..]);
        context.Features.Set(exchange);
        return exchange;
    }

    /// <summary>The exchange of a request that is in the pipeline.</summary>
    /// <param name="context">The request.</param>
    public static Exchange Of(HttpContext context) => context.Features.GetRequiredFeature<Exchange>();
}
