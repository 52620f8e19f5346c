using System.Text.Json;
using System.Text.Json.Serialization;
using Foundry.Contracts;
using Foundry.ServiceDefaults;
using Foundry.Tokens;

namespace Foundry.Ledger.Keys;

/// <summary>
/// A new key taking the old one's place (docs/decisions/0014). The file of it is the decision; until it is gone, <c>ledger.key</c>
/// is the old key and <c>ledger.next.key</c> the new one, and each step can be taken again after a crash.
/// </summary>
/// <param name="V">Version of this file.</param>
/// <param name="From">The old key's public half, base64url.</param>
/// <param name="To">The new key's.</param>
/// <param name="EventId">ID of the announcement, the same in every log.</param>
/// <param name="Time">When it was decided.</param>
/// <param name="Until">Until when the old key signs as well.</param>
/// <param name="IsAnnounced">Whether every log has the announcement.</param>
internal sealed record KeyRotation(int V, string From, string To, string EventId, DateTimeOffset Time, DateTimeOffset Until, bool IsAnnounced)
{
    /// <summary>The new private key, until it becomes <see cref="LedgerKeys.KeyFile"/>.</summary>
    public const string NextFile = "ledger.next.key";

    /// <summary>This record.</summary>
    public const string File = "ledger.rotation";

    /// <summary>The type of the announcement; KEY_ is the platform's to write.</summary>
    public const string EventType = "KEY_ANNOUNCED";

    private const int Version = 1;

    /// <summary>The announcement's payload ID: there is one in each log, however often it is tried.</summary>
    public string PayloadId => $"{EventType}:{To}";

    /// <summary>Decides on a rotation. The ledger must be stopped; its next start announces the key.</summary>
    /// <param name="folder">The ledger's folder, locked.</param>
    /// <param name="now">The time.</param>
    /// <param name="overlap">How long the old key goes on signing beside the new one.</param>
    /// <exception cref="StartupException">One is going on, or the keys are damaged.</exception>
    public static KeyRotation Decide(StateFolder folder, DateTimeOffset now, TimeSpan overlap)
    {
        if (Read(folder) is { } going)
            throw new StartupException($"A rotation is going on: the old key signs until {going.Until:O}. Start the ledger after that, which ends it, and rotate then.");
        if (folder.Read(LedgerKeys.KeyFile) is null)
            throw new StartupException($"{folder.Path} holds no {LedgerKeys.KeyFile}: there is no ledger here to rotate the key of. Set FOUNDRY_DATA or Ledger:Data to its folder.");
        using var key = folder.SigningKey(LedgerKeys.KeyFile);
        // One that a crash left before the next line is as good as a new one: nobody has seen it.
        using var next = folder.SigningKey(NextFile);
        var rotation = new KeyRotation(Version, key.Public.X, next.Public.X, Guid.CreateVersion7(now).ToString(), now, now + overlap, IsAnnounced: false);
        // The commit point: from here on the next start has two keys.
        rotation.Write(folder);
        return rotation;
    }

    /// <summary>The rotation that is going on, or null.</summary>
    /// <exception cref="StateCorruptException">The file is damaged.</exception>
    public static KeyRotation? Read(StateFolder folder)
    {
        if (folder.Read(File) is not { } text)
            return null;
        try
        {
            if (JsonSerializer.Deserialize(text, RotationJson.Default.KeyRotation) is { V: Version, From: not null, To: not null, EventId: not null } rotation)
                return rotation;
        }
        catch (JsonException)
        {
        }
        throw new StateCorruptException(folder.File(File), "it is not the record of a key rotation, version 1");
    }

    /// <summary>The new key.</summary>
    /// <exception cref="StateCorruptException">The files do not belong together.</exception>
    public static SigningKey NextKey(StateFolder folder, KeyRotation rotation, SigningKey old)
    {
        if (old.Public.X != rotation.From)
            throw new StateCorruptException(folder.File(File), $"it replaces another key than {LedgerKeys.KeyFile}");
        if (folder.Read(NextFile) is null)
            throw new StateCorruptException(folder.File(NextFile), "it is missing, and checkpoints may be signed with it");
        var next = folder.SigningKey(NextFile);
        if (next.Public.X == rotation.To)
            return next;
        next.Dispose();
        throw new StateCorruptException(folder.File(NextFile), $"it is not the key that {File} names");
    }

    /// <summary>Notes durably that every log has the announcement.</summary>
    public KeyRotation Announced(StateFolder folder)
    {
        var announced = this with { IsAnnounced = true };
        announced.Write(folder);
        return announced;
    }

    /// <summary>Ends the rotation: the old private key is gone afterwards. Every log's checkpoint must be signed by the new key.</summary>
    public static void Retire(StateFolder folder)
    {
        // The commit point: what follows is finished by any later start.
        folder.Write(LedgerKeys.KeyFile, folder.Read(NextFile)!);
        FinishRetirement(folder);
    }

    /// <summary>Finishes an end that a crash cut short: the key file is the new key already.</summary>
    public static void FinishRetirement(StateFolder folder)
    {
        // Not the files themselves: of one key, encrypted twice, they differ.
        using var key = folder.ReadKey(LedgerKeys.KeyFile);
        using var next = folder.ReadKey(NextFile);
        if (key is null || key.Public.X != next?.Public.X)
            return;
        folder.Write(LedgerKeys.PublicFile, key.Public.X + "\n");
        System.IO.File.Delete(folder.File(File));
        StateFolder.FlushFolder(folder.Path);
        System.IO.File.Delete(folder.File(NextFile));
    }

    /// <summary>The announcement in one log: the same bytes however often it is made.</summary>
    public byte[] Announcement(string vkey, string previousVkey) => JsonSerializer.SerializeToUtf8Bytes(new PlatformEvent
    {
        EventType = EventType,
        EventId = EventId,
        Time = Time,
        Actor = new EventActor(null, null, $"service:{Ledger.Part}"),
        Others = new Dictionary<string, JsonElement>
        {
            ["vkey"] = JsonSerializer.SerializeToElement(vkey, WireJson.Default.String),
            ["previous_vkey"] = JsonSerializer.SerializeToElement(previousVkey, WireJson.Default.String),
            ["previous_vkey_until"] = JsonSerializer.SerializeToElement(Until, WireJson.Default.DateTimeOffset),
        },
    }, WireJson.Default.PlatformEvent);

    private void Write(StateFolder folder) => folder.Write(File, JsonSerializer.SerializeToUtf8Bytes(this, RotationJson.Default.KeyRotation));
}

/// <summary>The form of <see cref="KeyRotation.File"/>.</summary>
[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow, WriteIndented = true)]
[JsonSerializable(typeof(KeyRotation))]
internal sealed partial class RotationJson : JsonSerializerContext;
