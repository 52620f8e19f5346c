using Foundry.Gateway.Bound;

namespace Foundry.Gateway.Tests.Bound;

/// <summary>CONTRACT section 4: a path has one reading, or it is refused before anybody decides anything about it.</summary>
public sealed class CanonicalPathTests(OrdinaryGateway gateway) : IClassFixture<OrdinaryGateway>
{
    public static TheoryData<string> Ambiguous =>
    [
        // Dot segments, plain, encoded and mixed.
        "/v1/vms/../nodes", "/v1/vms/%2e%2e/nodes", "/v1/vms/.%2e/nodes", "/v1/vms/%2E./nodes", "/v1/vms/./a", "/v1/vms/.", "/v1/vms/..", "/v1/vms/%2e",
        // Parameters that some servers cut off before they look for dots.
        "/v1/vms;/../nodes", "/v1/vms/a;b=c", "/v1/vms/a%3bb", "/v1/vms/a%3Bb",
        // Slashes in disguise.
        "/v1/vms/..%2fnodes", "/v1/vms/..%2Fnodes", "/v1/vms/a%5cb", "/v1/vms/a%5Cb", "/v1/vms/..\\nodes", "//v1/vms", "/v1//vms", "/v1/vms//", "/v1/vms/a//b",
        // Encoded twice.
        "/v1/vms/%252e%252e/nodes", "/v1/vms/%252fa", "/v1/vms/%255c", "/v1/vms/a%2541",
        // Encoded without need: another spelling of another path.
        "/v1/%76ms", "/v1/vms/%41", "/v1/vms/%7e", "/v1/vms/a%2Db", "/v1/vms/%5f",
        // Fragments.
        "/v1/vms#x", "/v1/vms/a#frag/../../nodes", "/v1/vms/a%23b",
        // NUL and other controls.
        "/v1/vms/%00", "/v1/vms/a%0d%0ab", "/v1/vms/%1f", "/v1/vms/%7f", "/v1/vms/%09",
        // Not UTF-8: overlong, lone continuation, cut off, surrogate.
        "/v1/vms/%c0%ae%c0%ae/nodes", "/v1/vms/%80", "/v1/vms/%c3", "/v1/vms/%c3a%a9", "/v1/vms/%ed%a0%80", "/v1/vms/%ff",
        // No escape at all.
        "/v1/vms/%", "/v1/vms/%2", "/v1/vms/%zz", "/v1/vms/%u0041", "/v1/vms/a%",
        // What must be encoded.
        "/v1/vms/<a>", "/v1/vms/a\"b", "/v1/vms/{id}", "/v1/vms/a|b", "/v1/vms/a^b", "/v1/vms/a`b", "/v1/vms/[a]",
    ];

    public static TheoryData<string> Plain =>
    [
        "/v1/vms/vm-1", "/v1/vms/a..b", "/v1/vms/...", "/v1/vms/a.b", "/v1/vms/a~b_c", "/v1/vms/a%20b", "/v1/vms/%C3%A9", "/v1/vms/%c3%a9", "/v1/vms/%e2%82%ac",
        "/v1/vms/a%3Fb", "/v1/vms/a+b", "/v1/vms/a:b@c", "/v1/vms/a,b=c", "/v1/vms/!$&'()*", "/v1/vms/100%25", "/v1/vms/%25zz", "/v1/vms/a%22b",
    ];

    [Theory, MemberData(nameof(Ambiguous))]
    public void A_path_with_two_readings_has_a_fault(string path) => Assert.NotNull(CanonicalPath.Fault(path));

    [Theory, MemberData(nameof(Plain))]
    public void A_path_with_one_reading_has_none(string path) => Assert.Null(CanonicalPath.Fault(path));

    [Theory, MemberData(nameof(Ambiguous))]
    public async Task A_path_with_two_readings_is_refused_before_the_backend_hears_of_it(string path)
    {
        var host = gateway.Host;
        host.Forget();

        var answer = await host.GetRawAsync(path, host.Token("input"));

        Assert.Equal(400, answer.Status);
        Assert.Empty(host.Fleet.Backend.Forwarded);
        Assert.DoesNotContain(host.Fleet.Backend.Requests, request => request.Path.StartsWith("/v1/", StringComparison.Ordinal));
    }

    [Theory, MemberData(nameof(Plain))]
    public async Task A_path_with_one_reading_reaches_the_backend_byte_for_byte(string path)
    {
        var host = gateway.Host;
        host.Forget();
        host.Fleet.Override = request => request.Path == path ? Testing.BackendAnswer.Json(FakeFleet.ToJson(host.Fleet.Add(host.Acme, "any"))) : null;

        var answer = await host.GetRawAsync(path, host.Token("read"));

        Assert.Equal(200, answer.Status);
        // The gateway's own question and the caller's request name the same object in the same bytes.
        Assert.Equal([path, path], host.Fleet.Backend.Requests.Where(request => request.Path.StartsWith("/v1/vms/", StringComparison.Ordinal)).Select(request => request.Path));
    }

    [Theory]
    [InlineData("/v1/vms?a=\u00e9")]
    [InlineData("/v1/vms?a=b\\c")]
    [InlineData("/v1/vms?a=b#c")]
    public async Task A_query_with_bytes_that_need_encoding_is_refused(string target)
    {
        var host = gateway.Host;
        host.Forget();

        Assert.Equal(400, (await host.GetRawAsync(target, host.Token("read"))).Status);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }

    [Theory]
    [InlineData("http://elsewhere/v1/vms", 400)]
    [InlineData("http://foundry/v1/vms", 400)]
    [InlineData("v1/vms", 400)]
    [InlineData("*", 405)]
    public async Task A_target_that_is_no_path_is_refused(string target, int status)
    {
        var host = gateway.Host;
        host.Forget();

        Assert.Equal(status, (await host.GetRawAsync(target, host.Token("read"))).Status);
        Assert.Empty(host.Fleet.Backend.Forwarded);
    }
}
