using System.CommandLine;

namespace Foundry.Cli;

/// <summary>A command whose help ends in what else there is to know, and examples.</summary>
/// <param name="name">As it is typed.</param>
/// <param name="summary">What it does, in a line: lists of commands show it too.</param>
/// <param name="examples">Lines to try, as typed in a shell.</param>
internal sealed class Verb(string name, string summary, params string[] examples) : Command(name, summary)
{
    /// <summary>What else there is to know: paragraphs.</summary>
    public IReadOnlyList<string> Details { get; init; } = [];

    /// <summary>Lines to try, as typed in a shell.</summary>
    public IReadOnlyList<string> Examples => examples;

    /// <summary>Says what the command does once the gateway, the token and the form of output are known.</summary>
    /// <param name="globals">The global options.</param>
    /// <param name="body">The command; returns an <see cref="ExitCode"/>.</param>
    /// <param name="sendsToken">False for the few calls that need no caller.</param>
    /// <param name="keyFile">The option that names the caller's key, where there is one beside the environment's.</param>
    public Verb Runs(GlobalOptions globals, Func<Session, CancellationToken, Task<int>> body, bool sendsToken = true, Option<string?>? keyFile = null)
    {
        SetAction(async (parse, cancellationToken) =>
        {
            var output = globals.OutputOf(parse);
            if (!globals.TryOpen(parse, output, sendsToken, keyFile, out var session, out var complaint))
                return output.Misused(complaint.Value);
            using (session)
                return await body(session, cancellationToken);
        });
        return this;
    }

    /// <summary>Says what a command does that stays on this machine.</summary>
    /// <param name="globals">The global options.</param>
    /// <param name="body">The command; returns an <see cref="ExitCode"/>.</param>
    public Verb RunsLocally(GlobalOptions globals, Func<ParseResult, Output, int> body)
    {
        SetAction(parse => body(parse, globals.OutputOf(parse)));
        return this;
    }

    /// <summary>Says what a command does that runs on this machine until told to stop.</summary>
    /// <param name="globals">The global options.</param>
    /// <param name="body">The command; returns an <see cref="ExitCode"/>.</param>
    public Verb RunsLocally(GlobalOptions globals, Func<ParseResult, Output, CancellationToken, Task<int>> body)
    {
        SetAction((parse, cancellationToken) => body(parse, globals.OutputOf(parse), cancellationToken));
        return this;
    }
}

/// <summary>What is wrong with a command line, and what would be right.</summary>
/// <param name="What">What is wrong.</param>
/// <param name="Next">What to do.</param>
internal readonly record struct Complaint(string What, string Next);
