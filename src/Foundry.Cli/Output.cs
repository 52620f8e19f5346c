using System.Text;
using System.Text.Json;
using Spectre.Console;

namespace Foundry.Cli;

/// <summary>Results go to standard output, as tables for people or as the server's own JSON; all else to standard error.</summary>
internal sealed class Output(Surroundings surroundings, bool asJson)
{
    /// <summary>Columns that a cell takes beside its text, at most.</summary>
    private const int CellMargin = 2;

    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: false);

    /// <summary>Whether JSON was asked for.</summary>
    public bool AsJson => asJson;

    /// <summary>Ends a command: the result on standard output, or the refusal on standard error, and the exit code that goes with it.</summary>
    /// <param name="answer">The gateway's answer.</param>
    /// <param name="show">How a person sees it.</param>
    public int Finish(Answer answer, Action<JsonElement> show)
    {
        if (!answer.IsAccepted)
            return Refused(answer);
        if (asJson)
            Json(answer.Body);
        else
            show(answer.Body.Length > 0 ? JsonElement.Parse(answer.Body) : default);
        return ExitCode.Done;
    }

    /// <summary>The server's bytes and no others, but for a line break where a person's prompt follows.</summary>
    public void Json(ReadOnlySpan<byte> body)
    {
        surroundings.Output.Write(body);
        if (surroundings.OutputIsTerminal && body.Length > 0)
            surroundings.Output.Write("\n"u8);
        surroundings.Output.Flush();
    }

    /// <summary>One line on standard output.</summary>
    public void Line(string text)
    {
        surroundings.Output.Write(Utf8.GetBytes(text + "\n"));
        surroundings.Output.Flush();
    }

    /// <summary>A line that is no result.</summary>
    public void Note(string text) => surroundings.Error.WriteLine($"foundry: {Plain.Text(text)}");

    /// <summary>A name and its value beside a result.</summary>
    public void Detail(string name, string? value)
    {
        if (value is not null)
            surroundings.Error.WriteLine($"  {name,-11} {Plain.Text(value)}");
    }

    /// <summary>A command line that cannot be carried out.</summary>
    public int Misused(Complaint complaint)
    {
        Complain(complaint);
        return ExitCode.Usage;
    }

    /// <summary>Something that was not done, for a reason on this machine.</summary>
    public int Failed(Complaint complaint)
    {
        Complain(complaint);
        return ExitCode.Failed;
    }

    /// <summary>Why the gateway did not do it, and what to do next; as JSON the problem document unchanged.</summary>
    public int Refused(Answer answer)
    {
        if (asJson && answer.Problem is not null)
        {
            surroundings.Error.WriteLine(Utf8.GetString(answer.Body));
            return ExitCode.Failed;
        }
        Explain(answer);
        return ExitCode.Failed;
    }

    /// <summary>The explanation for a person.</summary>
    public void Explain(Answer answer)
    {
        if (answer.Problem is not { } problem)
        {
            Note(answer.Failure ?? $"the gateway answered with status {answer.Status}");
            Detail("request id", answer.RequestId);
            Detail("next", Advice.For(answer));
            return;
        }
        Note(problem.Title);
        Detail("detail", problem.Detail == problem.Title ? null : problem.Detail);
        Detail("code", problem.Code);
        Detail("reason", problem.Reason);
        Detail("needs", problem.RequiredScope);
        if (problem.Quota is not null)
            Detail("quota", $"{problem.Quota}: limit {problem.Limit}, used {problem.Used}, requested {problem.Requested}");
        Detail("request id", answer.RequestId);
        Detail("next", Advice.For(answer));
    }

    /// <summary>
    /// A list: one row for each element, the columns named as in the JSON (<c>a.b</c> is member b of a). What is too wide for
    /// the terminal is shown a block for each element instead: an ID folded over three lines cannot be copied.
    /// </summary>
    public void Rows(IEnumerable<JsonElement> elements, params string[] columns)
    {
        List<string[]> rows = [.. elements.Select(element => columns.Select(column => Cell(element, column)).ToArray())];
        var width = columns.Select((column, i) => rows.Select(row => row[i].Length).Append(column.Length).Max() + CellMargin).Sum() + CellMargin;
        if (surroundings.OutputIsTerminal && width > surroundings.Width)
        {
            foreach (var row in rows)
            {
                Pairs(columns.Zip(row));
                Line("");
            }
            return;
        }
        var table = NewTable();
        foreach (var column in columns)
            table.AddColumn(NewColumn(new Text(column)));
        foreach (var row in rows)
            table.AddRow(row.Select(cell => new Text(cell)));
        Write(table);
    }

    /// <summary>One record: a row for each of its members.</summary>
    public void Members(JsonElement record)
    {
        if (record.ValueKind != JsonValueKind.Object)
            return;
        Pairs(record.EnumerateObject().Select(member => (Plain.Text(member.Name), Cell(record, member.Name, nested: false))));
    }

    /// <summary>The elements of a list answer: the array itself, or the one array in its envelope.</summary>
    public static IEnumerable<JsonElement> Elements(JsonElement list) => list.ValueKind switch
    {
        JsonValueKind.Array => list.EnumerateArray(),
        JsonValueKind.Object => list.EnumerateObject().Where(member => member.Value.ValueKind == JsonValueKind.Array)
            .Select(member => member.Value.EnumerateArray()).FirstOrDefault(),
        _ => [],
    };

    private void Complain(Complaint complaint)
    {
        Note(complaint.What);
        Detail("next", complaint.Next);
    }

    private void Pairs(IEnumerable<(string Name, string Value)> pairs)
    {
        var table = NewTable().HideHeaders();
        table.AddColumns(NewColumn(Text.Empty), NewColumn(Text.Empty));
        foreach (var (name, value) in pairs)
            table.AddRow(new Text(name), new Text(value));
        Write(table);
    }

    private Table NewTable() => new()
    {
        // Lines are for eyes; a pipe gets columns and nothing else.
        Border = surroundings.OutputIsTerminal ? TableBorder.Simple : TableBorder.None,
    };

    // Two spaces between columns: one may stand in a display name.
    private TableColumn NewColumn(Text header) => new(header) { NoWrap = !surroundings.OutputIsTerminal, Padding = new Padding(0, 0, surroundings.OutputIsTerminal ? 0 : 2, 0) };

    private void Write(Table table)
    {
        using var rendered = new StringWriter();
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = AnsiSupport.No,
            ColorSystem = ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
            Out = new AnsiConsoleOutput(rendered),
        });
        // Where no terminal ends the line, nothing is cut or folded.
        console.Profile.Width = surroundings.OutputIsTerminal ? surroundings.Width : int.MaxValue / 2;
        console.Write(table);
        // The last column's padding is nobody's.
        foreach (var line in rendered.ToString().Split('\n'))
        {
            if (line.AsSpan().TrimEnd() is { Length: > 0 } text)
                surroundings.Output.Write(Utf8.GetBytes($"{text}\n"));
        }
        surroundings.Output.Flush();
    }

    private static string Cell(JsonElement element, string path, bool nested = true)
    {
        foreach (var name in nested ? path.Split('.') : [path])
        {
            if (element.ValueKind != JsonValueKind.Object || !element.TryGetProperty(name, out element))
                return "-";
        }
        return element.ValueKind switch
        {
            JsonValueKind.Null or JsonValueKind.Undefined => "-",
            JsonValueKind.String => Plain.Text(element.GetString()!),
            _ => Plain.Text(element.GetRawText()),
        };
    }
}
