using Foundry.Testing;

namespace Foundry.ServiceDefaults.Tests;

public sealed class StateFolderOnDisk : IDisposable
{
    private readonly TempFolder _temp = new();

    [Fact]
    public void Is_its_owners_alone_and_so_are_its_files()
    {
        if (OperatingSystem.IsWindows())
            return; // It has no modes.
        var folder = StateFolder.Open(_temp.File("state"));
        var inner = folder.Folder("inner");
        folder.Write("a", "text");
        using var _ = folder.SigningKey("service.key");
        using var held = folder.Lock();
        const UnixFileMode ownerFolder = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        const UnixFileMode ownerFile = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        Assert.Equal(ownerFolder, File.GetUnixFileMode(folder.Path));
        Assert.Equal(ownerFolder, File.GetUnixFileMode(inner.Path));
        foreach (var name in (string[])["a", "service.key", "lock"])
            Assert.Equal(ownerFile, File.GetUnixFileMode(folder.File(name)));
    }

    [Fact]
    public void Lets_one_holder_of_its_lock_in_at_a_time()
    {
        var folder = StateFolder.Open(_temp.Path);
        using (folder.Lock())
        {
            var refused = Assert.Throws<StartupException>(() => StateFolder.Open(_temp.Path).Lock());
            Assert.Contains(_temp.Path, refused.Message, StringComparison.Ordinal);
            Assert.Contains("FOUNDRY_DATA", refused.Message, StringComparison.Ordinal);
            if (!OperatingSystem.IsWindows())
                Assert.Contains($"in use by process {Environment.ProcessId} (Foundry.ServiceDefaults.Tests)", refused.Message, StringComparison.Ordinal);
        }
        folder.Lock().Dispose();
    }

    [Fact]
    public void That_cannot_be_made_stops_the_start_with_its_name()
    {
        File.WriteAllText(_temp.File("file"), "in the way");
        var refused = Assert.Throws<StartupException>(() => StateFolder.Open(_temp.File("file/state")));
        Assert.Contains(_temp.File("file/state"), refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void That_takes_no_file_says_so_by_its_name_and_is_in_nobodys_use()
    {
        var folder = StateFolder.Open(_temp.File("state"));
        // What a test can take away from every user: the folder itself.
        Directory.Delete(folder.Path);
        foreach (var write in (Action[])[() => folder.Write("a", "text"), () => folder.WriteKey("service.key", Tokens.SigningKey.Generate()), () => folder.Lock().Dispose()])
        {
            var refused = Assert.Throws<StateUnwritableException>(write);
            Assert.Contains(folder.Path, refused.Message, StringComparison.Ordinal);
            Assert.Contains("mount", refused.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Shows_readers_a_whole_file_the_old_or_the_new_one()
    {
        var folder = StateFolder.Open(_temp.Path);
        string[] contents = [new('a', 300_000), new('b', 200_000)];
        folder.Write("file", contents[0]);
        using var stop = new CancellationTokenSource();
        var reader = Task.Run(() =>
        {
            var torn = 0;
            while (!stop.IsCancellationRequested)
                torn += contents.Contains(folder.Read("file")) ? 0 : 1;
            return torn;
        }, TestContext.Current.CancellationToken);
        for (var n = 0; n < 100; n++)
            folder.Write("file", contents[n % 2]);
        await stop.CancelAsync();
        Assert.Equal(0, await reader);
        Assert.Equal(["file"], Directory.GetFiles(_temp.Path).Select(Path.GetFileName));
    }

    [Fact]
    public void Has_null_for_a_file_that_is_not_there() => Assert.Null(StateFolder.Open(_temp.Path).Read("none"));

    public void Dispose() => _temp.Dispose();
}

public sealed class KeyFile : IDisposable
{
    private readonly TempFolder _temp = new();

    [Fact]
    public void Is_made_once_and_read_ever_after()
    {
        var folder = StateFolder.Open(_temp.Path);
        using var made = folder.SigningKey("service.key");
        using var read = folder.SigningKey("service.key");
        Assert.Equal(made.Kid, read.Kid);
        Assert.Equal(made.ExportSeed() + "\n", File.ReadAllText(folder.File("service.key")));
    }

    [Theory]
    [InlineData("")]
    [InlineData("\n")]
    [InlineData("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf")]
    [InlineData("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2B\n")]
    [InlineData("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\r\n")]
    [InlineData("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\nnWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\n")]
    [InlineData("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")]
    public void That_holds_no_key_stops_the_start_and_is_left_as_it_is(string content)
    {
        var folder = StateFolder.Open(_temp.Path);
        File.WriteAllText(folder.File("service.key"), content);
        var fault = Assert.Throws<StateCorruptException>(() => folder.SigningKey("service.key"));
        Assert.Equal(folder.File("service.key"), fault.File);
        Assert.StartsWith(folder.File("service.key"), fault.Message, StringComparison.Ordinal);
        if (content.Trim('\n', '\0').Length > 0)
            Assert.DoesNotContain(content.Trim('\n', '\0'), fault.Message, StringComparison.Ordinal);
        Assert.Equal(content, File.ReadAllText(folder.File("service.key")));
    }

    public void Dispose() => _temp.Dispose();
}
