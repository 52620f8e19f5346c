namespace Foundry.Cli;

/// <summary>All that the program takes from and gives to the process it runs in, so that tests can be that process.</summary>
internal sealed record Surroundings
{
    /// <summary>Columns that text is laid out for where the terminal does not say.</summary>
    public const int WidthDefault = 100;

    /// <summary>Standard output: results only, as bytes, because <c>--output json</c> passes the server's on unchanged.</summary>
    public required Stream Output { get; init; }
    /// <summary>Standard error: everything that is not a result.</summary>
    public required TextWriter Error { get; init; }
    /// <summary>Standard input: where a token may come from.</summary>
    public required TextReader Input { get; init; }
    /// <summary>Whether something else than a keyboard is at standard input.</summary>
    public required bool InputIsRedirected { get; init; }
    /// <summary>Whether a person looks at standard output.</summary>
    public required bool OutputIsTerminal { get; init; }
    /// <summary>Whether a person looks at standard error.</summary>
    public bool ErrorIsTerminal { get; init; }
    /// <summary>Columns of the terminal.</summary>
    public int Width { get; init; } = WidthDefault;
    /// <summary>The environment's variables.</summary>
    public required Func<string, string?> Variable { get; init; }
    /// <summary>The clock, and the time-outs and waits that go by it.</summary>
    public required TimeProvider Time { get; init; }
    /// <summary>Where the kernel tells about the machine.</summary>
    public string ProcRoot { get; init; } = "/proc";
    /// <summary>The device that virtual machines are accelerated through.</summary>
    public string KvmDevice { get; init; } = "/dev/kvm";

    /// <summary>A set variable, or null: an empty one is as good as none.</summary>
    public string? VariableOrNull(string name) => Variable(name) is { Length: > 0 } value ? value : null;

    public static Surroundings OfThisProcess() => new()
    {
        Output = Console.OpenStandardOutput(),
        Error = Console.Error,
        Input = Console.In,
        InputIsRedirected = Console.IsInputRedirected,
        OutputIsTerminal = !Console.IsOutputRedirected,
        ErrorIsTerminal = !Console.IsErrorRedirected,
        Width = Console.IsOutputRedirected || Console.WindowWidth < 40 ? WidthDefault : Console.WindowWidth,
        Variable = Environment.GetEnvironmentVariable,
        Time = TimeProvider.System,
    };
}
