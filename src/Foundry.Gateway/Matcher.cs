using Foundry.Contracts;
using Foundry.Gateway.Config;
using Yarp.ReverseProxy.Model;

namespace Foundry.Gateway;

/// <summary>
/// Which route is it on? ASP.NET Core's routing names the candidate; here it is held to the path as sent, because routing ignores
/// case and a trailing slash.
/// </summary>
internal sealed class Matcher(RouteTable routes)
{
    /// <summary>Finds the route's policy.</summary>
    /// <param name="exchange">The request.</param>
    /// <param name="forward">What routing found; null where it found nothing.</param>
    /// <returns>Why there is none, or null; the policy is in <see cref="Exchange.Route"/>.</returns>
    public Refusal? Match(Exchange exchange, RequestDelegate? forward)
    {
        var policy = forward is null ? null
            : exchange.Context.GetEndpoint()?.Metadata.GetMetadata<RouteModel>() is { } model ? routes.PolicyOf(model.Config)
            : exchange.Context.GetEndpoint()?.Metadata.GetMetadata<RoutePolicy>();
        // Routing compares methods without case; to a backend, 'get' is another method than GET (RFC 9110 section 9.1).
        if (policy is not null && policy.Methods.Contains(exchange.Context.Request.Method, StringComparer.Ordinal) && policy.Path.Matches(exchange.RawPath, out var parameters))
        {
            (exchange.Route, exchange.Parameters) = (policy, parameters);
            return null;
        }
        var methods = routes.Current.Policies.Values.Concat(OwnAnswers.Policies)
            .Where(other => other.Path.Matches(exchange.RawPath, out _)).SelectMany(other => other.Methods).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal).ToArray();
        return methods.Length == 0 || methods.Contains(exchange.Context.Request.Method, StringComparer.Ordinal) ? Refusal.NotFound
            : new Refusal(ErrorCode.MethodNotAllowed, $"This takes {string.Join(", ", methods)}.") { Allow = string.Join(", ", methods) };
    }
}
