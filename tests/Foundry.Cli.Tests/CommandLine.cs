using System.Text;

namespace Foundry.Cli.Tests;

/// <summary>The real command line, run in process, with everything it reads and writes in hand.</summary>
internal sealed class CommandLine : IDisposable
{
    /// <summary>A token's shape, and no token: what it must never be is seen in any output.</summary>
    public const string Canary = "eyJhbGciOiJFZERTQSJ9.eyJ0ZW5hbnRfaWQiOiJhY21lLWNvcnAiLCJzY29wZSI6ImlucHV0In0.Y2FuYXJ5LWNhbmFyeS1jYW5hcnk";

    private readonly string _folder = Directory.CreateTempSubdirectory("foundry-cli-").FullName;

    public Dictionary<string, string> Variables { get; } = new() { ["PLATFORM_TOKEN"] = Canary };
    public string Input { get; set; } = "";
    /// <summary>In place of <see cref="Input"/>.</summary>
    public TextReader? Reader { get; set; }
    public bool InputIsRedirected { get; set; }
    public bool OutputIsTerminal { get; set; }
    public bool ErrorIsTerminal { get; set; }
    public int Width { get; set; } = Surroundings.WidthDefault;
    public TimeProvider Time { get; set; } = TimeProvider.System;
    public string ProcRoot => File("proc");
    public string KvmDevice => File("kvm");

    public string File(string name) => Path.Combine(_folder, name);

    public string Write(string name, string text, UnixFileMode mode = UnixFileMode.UserRead | UnixFileMode.UserWrite)
    {
        var path = File(name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        System.IO.File.WriteAllText(path, text);
        if (!OperatingSystem.IsWindows())
            System.IO.File.SetUnixFileMode(path, mode);
        return path;
    }

    /// <summary>A file's mode; on systems without modes the one that is hoped for.</summary>
    public static UnixFileMode ModeOf(string path) =>
        OperatingSystem.IsWindows() ? UnixFileMode.UserRead | UnixFileMode.UserWrite : System.IO.File.GetUnixFileMode(path);

    public Task<Ran> RunAsync(StandInGateway gateway, params string[] args) => RunAsync([.. args, "--gateway", gateway.Address]);

    public Task<Ran> RunAsync(params string[] args) => RunAsync(new StringWriter(), TestContext.Current.CancellationToken, args);

    public async Task<Ran> RunAsync(TextWriter error, CancellationToken cancellationToken, params string[] args)
    {
        using var output = new MemoryStream();
        var exit = await FoundryCommand.RunAsync(args, new Surroundings
        {
            Output = output,
            Error = error,
            Input = Reader ?? new StringReader(Input),
            InputIsRedirected = InputIsRedirected,
            OutputIsTerminal = OutputIsTerminal,
            ErrorIsTerminal = ErrorIsTerminal,
            Width = Width,
            Variable = name => Variables.GetValueOrDefault(name),
            Time = Time,
            ProcRoot = ProcRoot,
            KvmDevice = KvmDevice,
        }, cancellationToken);
        return new Ran(exit, output.ToArray(), error.ToString()!);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}

/// <summary>What came of a command line.</summary>
internal sealed record Ran(int Exit, byte[] Bytes, string Error)
{
    public string Output => Encoding.UTF8.GetString(Bytes);
}
