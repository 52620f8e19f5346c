using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Foundry.Contracts;

namespace Foundry.Issuance.Tenants;

/// <summary>A tenant's VMs, as the fleet has them.</summary>
internal sealed class TenantVms
{
    /// <summary>Name of the fleet's client, and its cluster ID.</summary>
    public const string FleetClient = "fleet";

    private readonly IHttpClientFactory _clients;

    /// <summary>Makes one.</summary>
    /// <param name="clients">Where the fleet's client is.</param>
    public TenantVms(IHttpClientFactory clients) => _clients = clients;

    /// <summary>
    /// Has the fleet refuse creates for the tenant from now on, and says what it has. A fleet that knows no seals says
    /// only what it has: a create that comes right behind its answer leaves a VM under an ID that no other tenant ever gets.
    /// </summary>
    /// <param name="tenantId">The tenant.</param>
    /// <param name="length">For how long; zero ends the seal.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The VMs' IDs; null where the fleet cannot be asked.</returns>
    public async Task<IReadOnlyList<string>?> SealAsync(string tenantId, TimeSpan length, CancellationToken cancellationToken)
    {
        try
        {
            var fleet = _clients.CreateClient(FleetClient);
            using var answer = await fleet.PostAsJsonAsync("/internal/v1/seals", new Seal(1, tenantId, (long)length.TotalSeconds), WireJson.Default.Seal, cancellationToken);
            var vms = answer.StatusCode is HttpStatusCode.NotFound or HttpStatusCode.MethodNotAllowed
                ? (await fleet.GetFromJsonAsync($"/v1/vms?tenant_id={tenantId}", WireJson.Default.IReadOnlyListVmRecord, cancellationToken))?.Where(vm => vm.TenantId == tenantId)
                : answer.IsSuccessStatusCode ? (await answer.Content.ReadFromJsonAsync(WireJson.Default.HeldVms, cancellationToken))?.Vms : null;
            return vms?.Select(vm => vm.VmId).ToList();
        }
        catch (Exception fault) when (IsExpected(fault, cancellationToken))
        {
            return null;
        }
    }

    /// <summary>Destroys a VM.</summary>
    /// <returns>Whether it was this that destroyed it: false where it was not there; null where nobody knows.</returns>
    public async Task<bool?> DestroyAsync(string vmId, CancellationToken cancellationToken)
    {
        try
        {
            using var answer = await _clients.CreateClient(FleetClient).DeleteAsync($"/v1/vms/{Uri.EscapeDataString(vmId)}", cancellationToken);
            return answer.StatusCode switch
            {
                HttpStatusCode.OK or HttpStatusCode.NoContent => true,
                HttpStatusCode.NotFound => false,
                _ => null,
            };
        }
        catch (Exception fault) when (IsExpected(fault, cancellationToken))
        {
            return null;
        }
    }

    private static bool IsExpected(Exception fault, CancellationToken cancellationToken) =>
        fault is HttpRequestException or JsonException or IOException or InvalidOperationException || (fault is OperationCanceledException && !cancellationToken.IsCancellationRequested);
}
