using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;

namespace Foundry.Testing;

/// <summary>
/// Ports for processes that must be told theirs before they start. They lie below those that the system gives to outgoing
/// connections: of those, one that was free a moment ago is some client's own by the time a server wants it.
/// </summary>
public static class LoopbackPort
{
    private const int First = 10_240;
    private const int Count = 9_760;

    // Each process begins somewhere else and goes on from there, so that no port is given out twice.
    private static int last = RandomNumberGenerator.GetInt32(Count);

    /// <summary>What answers on a port.</summary>
    public static string Url(int port) => string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{port}");

    /// <summary>Finds a port that nothing listens on.</summary>
    public static int Free()
    {
        while (true)
        {
            var port = First + (int)((uint)Interlocked.Increment(ref last) % Count);
            try
            {
                using var probe = new TcpListener(IPAddress.Loopback, port);
                probe.Start();
                return port;
            }
            catch (SocketException)
            {
                // Somebody's; another one.
            }
        }
    }
}
