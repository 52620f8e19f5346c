using Foundry.Issuance.Admin;
using Foundry.Issuance.Changes;
using Foundry.Issuance.Keys;
using Foundry.Issuance.Tokens;
using Foundry.Issuance.Trust;
using Foundry.ServiceDefaults;
using Foundry.ServiceDefaults.Trust;
using Foundry.Storage;
using Foundry.Tokens;

namespace Foundry.Issuance;

/// <summary>
/// The platform's stored state, opened: founded at the first start, and at every later one either all there or the start
/// ends with the name of the file that is not. Nothing is written before everything has been checked.
/// </summary>
internal sealed class Platform : IAsyncDisposable
{
    /// <summary>The root key's file.</summary>
    public const string RootFile = "root.key";
    /// <summary>
    /// Its name until the database has its thumbprint: where root.key itself is there, a platform was founded, and an empty
    /// database beside it is a lost one, never a reason to begin anew with a lower trust sequence and no revocations.
    /// </summary>
    private const string RootFileFirst = "root.key.first";

    private readonly SigningKey _root;

    private Platform(Database database, SigningKey root, Outbox outbox, Journal journal, PlatformTrust trust, SigningKeys keys, ServiceIdentity identity, TokenMint mint, AdminToken admin) =>
        (Database, _root, Outbox, Journal, Trust, Keys, Identity, Mint, Admin) = (database, root, outbox, journal, trust, keys, identity, mint, admin);

    public Database Database { get; }
    public Outbox Outbox { get; }
    public Journal Journal { get; }
    public PlatformTrust Trust { get; }
    public SigningKeys Keys { get; }
    public ServiceIdentity Identity { get; }
    public TokenMint Mint { get; }
    public AdminToken Admin { get; }

    /// <summary>Opens the state of this folder, or founds a platform in it.</summary>
    /// <param name="options">The settings.</param>
    /// <param name="folder">The state folder, which the caller has locked.</param>
    /// <param name="passphrase">What keys outside the folder are encrypted with.</param>
    /// <param name="time">The clock.</param>
    /// <param name="resetsAdmin">Whether every platform administrator's token is revoked and one new one written; then nothing is founded.</param>
    /// <exception cref="StartupException">The state is not whole, or belongs to another issuer.</exception>
    public static async Task<Platform> OpenAsync(IssuanceOptions options, StateFolder folder, KeyPassphrase? passphrase, TimeProvider time, bool resetsAdmin = false)
    {
        if (resetsAdmin && folder.Read(RootFile) is null && folder.Read(RootFileFirst) is null)
            throw new StartupException($"There is no platform in {folder.Path}: it has no {RootFile}.");
        // Asked before SQLite makes a new file where the old one was.
        if (options.Database is null or "" && folder.Read(RootFile) is not null && !File.Exists(folder.File(Schema.FileName)))
            throw new StateCorruptException(folder.File(Schema.FileName), $"it is missing, though {folder.File(RootFile)} says that there is a platform");
        var database = await Database.OpenAsync(options.Database, folder, Schema.FileName, Schema.Migrations);
        try
        {
            var outbox = new Outbox(database, Journal.WaitingMax);
            var journal = new Journal(outbox, time, options.ChangesKept);
            var known = await database.ReadOneAsync<PlatformRow>("SELECT issuer AS Issuer, root_kid AS RootKid FROM platform WHERE id = 1", null, CancellationToken.None);
            var halves = PrivateHalves.Of(options, folder, database, passphrase);
            var (root, identity) = known is null
                ? await FoundAsync(options, folder, halves, journal)
                : await RecogniseAsync(options, folder, journal, known);
            var trust = await PlatformTrust.LoadAsync(root, database, CancellationToken.None);
            var keys = await SigningKeys.LoadAsync(halves, journal, trust, CancellationToken.None);
            if (trust.Current.Keys.All(key => key.Kid != identity.Key.Kid))
                await IntroduceAsync(journal, trust, identity, folder);
            var mint = new TokenMint(keys, options.Issuer);
            // Without the passphrase: the key is the administrator's, for tools of theirs, and lies beside a token that is worth as much.
            var admin = new AdminToken(StateFolder.Open(options.AdminFolder ?? folder.Path), journal, mint, keys);
            if (resetsAdmin)
                await admin.ResetAsync(CancellationToken.None);
            else
                await admin.EnsureAsync(CancellationToken.None);
            return new Platform(database, root, outbox, journal, trust, keys, identity, mint, admin);
        }
        catch
        {
            await database.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        Admin.Dispose();
        Keys.Dispose();
        Identity.Key.Dispose();
        _root.Dispose();
        await Database.DisposeAsync();
    }

    private static async Task<(SigningKey Root, ServiceIdentity Identity)> FoundAsync(IssuanceOptions options, StateFolder folder, IPrivateHalves halves, Journal journal)
    {
        if (folder.Read(RootFile) is not null)
            throw new StateCorruptException(journal.Database.Where, $"it holds no platform, though {folder.File(RootFile)} says that there is one");
        var token = halves.New(new HashSet<string>()) ?? throw new StartupException($"Issuance:KeysFolder is '{options.KeysFolder}', which holds no key to sign with. Put one there: openssl genpkey -algorithm ed25519 -out tokens-1.pem.");
        var root = folder.SigningKey(RootFileFirst);
        var identity = new ServiceIdentity(TrustedKey.Service, PlatformTrust.PartName, folder.SigningKey(ServiceIdentity.KeyFile));
        await journal.WriteAsync(async entry =>
        {
            if (await entry.SingleAsync<string>("SELECT root_kid FROM platform WHERE id = 1") is not null)
                throw new StartupException("Another process founded a platform in this database a moment ago. Copy its root.key here (and tokens.keys, where there is no passphrase) to be a second one, or name another database.");
            await entry.ExecuteAsync("INSERT INTO platform (id, issuer, root_kid, feed_seq, trust_seq, trust) VALUES (1, @Issuer, @Kid, 0, 0, '')", new { options.Issuer, root.Kid });
            await entry.ExecuteAsync("INSERT INTO signing_keys (kid, x, status, created_at, signs_from, private_half) VALUES (@Kid, @X, 'active', @NowSeconds, @NowSeconds, @Stored)", new { token.Key.Kid, token.Key.Public.X, entry.NowSeconds, token.Stored });
            await InsertAsync(entry, identity);
            await PlatformTrust.SignAsync(root, entry);
            return 0;
        }, CancellationToken.None);
        TakeName(folder);
        return (root, identity);
    }

    private static async Task<(SigningKey Root, ServiceIdentity Identity)> RecogniseAsync(IssuanceOptions options, StateFolder folder, Journal journal, PlatformRow known)
    {
        if (options.Issuer != known.Issuer)
            throw new StartupException($"Issuance:Issuer is '{options.Issuer}', but this platform was founded as '{known.Issuer}', and every token and client of it goes by that. Set Issuance:Issuer to '{known.Issuer}' ({ListenAddress.EnvironmentName("Issuance:Issuer")}).");
        var foundedAMomentAgo = folder.Read(RootFile) is null && folder.Read(RootFileFirst) is not null;
        var file = foundedAMomentAgo ? RootFileFirst : RootFile;
        var root = folder.ReadKey(file) ?? throw new StateCorruptException(folder.File(RootFile), $"it is missing, though the database says that the platform's root is {known.RootKid}");
        if (root.Kid != known.RootKid)
            throw new StateCorruptException(folder.File(file), $"this is the root {root.Kid}, but the database belongs to the root {known.RootKid}");
        // A second process with the same PostgreSQL has a key of its own; with SQLite there is no second process.
        if (!journal.Database.IsPostgres && folder.Read(ServiceIdentity.KeyFile) is null)
            throw new StateCorruptException(folder.File(ServiceIdentity.KeyFile), "it is missing, though the trust set names it");
        var identity = new ServiceIdentity(TrustedKey.Service, PlatformTrust.PartName, folder.SigningKey(ServiceIdentity.KeyFile));
        if (foundedAMomentAgo)
            TakeName(folder);
        return (root, identity);
    }

    private static Task IntroduceAsync(Journal journal, PlatformTrust trust, ServiceIdentity identity, StateFolder folder) =>
        journal.WriteAsync(async entry =>
        {
            if (await entry.SingleAsync<string>("SELECT kid FROM trusted_keys WHERE kid = @Kid", new { identity.Key.Kid }) is not null)
                throw new StateCorruptException(folder.File(ServiceIdentity.KeyFile), "this key was taken out of the trust set and never comes back; without the file, a new one is made");
            await InsertAsync(entry, identity);
            await trust.SignAsync(entry);
            return 0;
        }, CancellationToken.None);

    private static Task InsertAsync(JournalEntry entry, ServiceIdentity identity) =>
        entry.ExecuteAsync("INSERT INTO trusted_keys (kid, kind, name, x, joined_at) VALUES (@Kid, @Kind, @Name, @X, @NowSeconds)",
            new { identity.Key.Kid, identity.Kind, identity.Name, identity.Key.Public.X, entry.NowSeconds });

    private static void TakeName(StateFolder folder)
    {
        File.Move(folder.File(RootFileFirst), folder.File(RootFile));
        StateFolder.FlushFolder(folder.Path);
    }

    private sealed record PlatformRow
    {
        public string Issuer { get; init; } = "";
        public string RootKid { get; init; } = "";
    }
}
