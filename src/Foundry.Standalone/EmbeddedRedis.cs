using System.Net.Sockets;
using System.Security.Cryptography;
using Foundry.ServiceDefaults;
using Foundry.Tokens;
using Garnet;
using Garnet.server;
using Garnet.server.Auth.Settings;
using Microsoft.Extensions.Logging;
using Tsavorite.core;

namespace Foundry.Standalone;

/// <summary>
/// The Redis-compatible server of standalone, in this process, on a Unix socket in the state folder. It is spoken to as any other
/// Redis is, through its connection string. Its files are a convenience: nothing depends on its memory, because quotas are rebuilt
/// from the fleet. So damaged files are set aside, and not, as everywhere else, a reason not to start.
/// </summary>
internal sealed class EmbeddedRedis : IDisposable
{
    // A Unix socket's path has room for 107 bytes (sockaddr_un).
    private const int SocketPathBytesMax = 100;
    private const string SocketFile = "redis.sock";
    private const string CleanStopFile = "stopped-clean";
    private static readonly TimeSpan CommitMax = TimeSpan.FromSeconds(5);

    private readonly GarnetServer _server;
    private readonly StateFolder _folder;
    private readonly string? _socketFolder;

    private EmbeddedRedis(GarnetServer server, StateFolder folder, string socket, string password, string? socketFolder)
    {
        (_server, _folder, _socketFolder) = (server, folder, socketFolder);
        ConnectionString = $"!{socket},password={password}";
    }

    /// <summary>For StackExchange.Redis.</summary>
    public string ConnectionString { get; }

    /// <summary>Starts the server over its folder.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="loggers">Where its log goes.</param>
    /// <param name="log">Where it is said that files were set aside.</param>
    public static EmbeddedRedis Start(StateFolder folder, ILoggerFactory loggers, ILogger log)
    {
        // The server reads its append-only file without checking it, and a damaged one ends the whole process in a way that nothing
        // can catch (an access violation in recovery). So only what a clean stop left, byte for byte, is read back in.
        var (socket, socketFolder) = SocketPath(folder);
        if (!WasStoppedClean(folder))
            SetAside(folder, log);
        File.Delete(folder.File(CleanStopFile));

        var password = Base64UrlText.Encode(RandomNumberGenerator.GetBytes(32));
        var server = new GarnetServer(new GarnetServerOptions
        {
            EndPoints = [new UnixDomainSocketEndPoint(socket)],
            UnixSocketPath = socket,
            UnixSocketPermission = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            AuthSettings = new PasswordAuthenticationSettings(password),
            // Without a storage tier a full log drops its oldest records silently: some 250,000 keys fit in 64 MB, and a tenant has three.
            LogMemorySize = "64m",
            PageSize = "64k",
            IndexMemorySize = "4m",
            EnableLua = true,
            // Off by default, and then scripts are not atomic.
            LuaTransactionMode = true,
            LuaOptions = new LuaOptions(LuaMemoryManagementMode.Native, "", TimeSpan.FromSeconds(2), LuaLoggingMode.Silent, []),
            QuietMode = true,
            DeviceType = DeviceType.RandomAccess,
            EnableAOF = true,
            Recover = true,
            CheckpointDir = folder.Path,
            CommitFrequencyMs = 20,
            AofMemorySize = "8m",
            AofPageSize = "1m",
            AofSegmentSize = "4m",
            AofSizeLimit = "8m",
            FailOnRecoveryError = true,
        }, loggers);
        server.Start();
        return new EmbeddedRedis(server, folder, socket, password, socketFolder);
    }

    /// <summary>Stops the server and seals its files, so that the next start may read them.</summary>
    public void Dispose()
    {
        var complete = TryCommit();
        _server.Dispose();
        if (complete)
            _folder.Write(CleanStopFile, Seal(_folder) + "\n");
        if (_socketFolder is not null)
            Directory.Delete(_socketFolder, recursive: true);
    }

    /// <summary>The server writes its append-only file every 20 ms, and forgets the last of it when it is only disposed of.</summary>
    private bool TryCommit()
    {
        using var limit = new CancellationTokenSource(CommitMax);
        try
        {
            return _server.Store.CommitAOFAsync(limit.Token).AsTask().GetAwaiter().GetResult();
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    private static bool WasStoppedClean(StateFolder folder) => folder.Read(CleanStopFile)?.TrimEnd('\n') == Seal(folder);

    private static void SetAside(StateFolder folder, ILogger log)
    {
        var left = Directory.GetFileSystemEntries(folder.Path).Where(entry => !Path.GetFileName(entry).StartsWith("aside-", StringComparison.Ordinal)).ToArray();
        if (left.Length == 0)
            return;
        // One set is kept to be looked at; an older one has been looked at or never will be.
        foreach (var old in Directory.GetDirectories(folder.Path, "aside-*"))
            Directory.Delete(old, recursive: true);
        var aside = folder.Folder($"aside-{Guid.CreateVersion7():N}");
        foreach (var entry in left)
            Directory.Move(entry, aside.File(Path.GetFileName(entry)));
        log.LogWarning("The embedded Redis was not stopped cleanly, or its files were changed; they are set aside in {Folder}, and held quotas are rebuilt from the fleet", aside.Path);
    }

    /// <summary>SHA-256 over the names and bytes of the server's files.</summary>
    private static string Seal(StateFolder folder)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var file in Directory.GetFiles(folder.Path, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
        {
            var name = Path.GetRelativePath(folder.Path, file);
            if (name == CleanStopFile || name == SocketFile || name.StartsWith("aside-", StringComparison.Ordinal))
                continue;
            using var content = TryOpen(file);
            if (content is null)
                continue;
            hash.AppendData(System.Text.Encoding.UTF8.GetBytes(name + "\0"));
            hash.AppendData(SHA256.HashData(content));
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    /// <summary>Null where the server, which tidies up in the background, has deleted it meanwhile: it will not be there at the next start either.</summary>
    private static FileStream? TryOpen(string file)
    {
        try
        {
            return File.OpenRead(file);
        }
        catch (FileNotFoundException)
        {
            return null;
        }
    }

    private static (string Socket, string? Folder) SocketPath(StateFolder folder)
    {
        var inFolder = folder.File(SocketFile);
        if (System.Text.Encoding.UTF8.GetByteCount(inFolder) <= SocketPathBytesMax)
        {
            File.Delete(inFolder); // A killed process leaves its socket behind.
            return (inFolder, null);
        }
        var temporary = Directory.CreateTempSubdirectory("foundry-").FullName;
        return (Path.Combine(temporary, SocketFile), temporary);
    }
}
