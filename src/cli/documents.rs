//! The documents that say what options there are, against the program itself. Those that are made of
//! the definitions are written anew by
//! `DELTACOMPARE_WRITE_DOCUMENTS=1 cargo test --workspace --bins documents`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Args, Command, CommandFactory};
use deltacompare::model::option_group::{CHECKS, FORMAT, SELECTION, SERVERS, SINKS, TUNING};
use deltacompare::model::{Request, StartOptions};

use super::arguments::AppSettings;
use super::command::Arguments;
use super::help::{EXIT_CODES, VARIABLES};

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether a document is what it is to be; writes it where that is asked for.
fn assert_is(name: &str, expected: &str) {
    let path = folder().join(name);
    if std::env::var_os("DELTACOMPARE_WRITE_DOCUMENTS").is_some() {
        std::fs::write(path, expected).unwrap();
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let stale = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{name} is not what the options are: write it anew with \
         DELTACOMPARE_WRITE_DOCUMENTS=1 cargo test --workspace --bins documents\n{stale:#?}"
    );
}

fn option(argument: &Arg) -> String {
    let name = format!("--{}", argument.get_long().unwrap_or_default());
    match (argument.get_action(), argument.get_value_names()) {
        (ArgAction::Set | ArgAction::Append, Some([value])) => format!("{name} <{value}>"),
        _ => name,
    }
}

/// An option with the commands that have it.
struct Documented {
    argument: Arg,
    of: Vec<String>,
}

/// Every option that is not hidden, in the order of the definitions.
fn options(program: &Command) -> Vec<Documented> {
    let mut options: Vec<Documented> = Vec::new();
    for command in program.get_subcommands() {
        // What stands alone, like an id, is explained with its command.
        let named = command.get_arguments().filter(|argument| argument.get_long().is_some());
        for argument in named.filter(|it| !it.is_hide_set() && it.get_id() != "help") {
            let name = command.get_name().to_owned();
            match options.iter_mut().find(|known| known.argument.get_long() == argument.get_long())
            {
                Some(known) => {
                    let texts = |it: &Arg| format!("{:?}", (it.get_help(), it.get_long_help()));
                    assert_eq!(texts(&known.argument), texts(argument), "one definition");
                    known.of.push(name);
                }
                None => options.push(Documented { argument: argument.clone(), of: vec![name] }),
            }
        }
    }
    // clap moves those that a command changes behind the others.
    let request = Request::augment_args(Command::new("request"));
    let defined: Vec<&clap::Id> = request.get_arguments().map(Arg::get_id).collect();
    options.sort_by_key(|Documented { argument, .. }| {
        match defined.iter().position(|id| *id == argument.get_id()) {
            Some(place) => place + 1,
            None if argument.get_help_heading() == Some(SERVERS) => 0,
            None => usize::MAX,
        }
    });
    options
}

fn is_set(argument: &Arg) -> bool {
    matches!(argument.get_action(), ArgAction::Set | ArgAction::Append)
}

fn default(argument: &Arg) -> Option<String> {
    match argument.get_default_values() {
        [default] if is_set(argument) => Some(default.to_string_lossy().into_owned()),
        _ => None,
    }
}

/// A cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "\\<").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn meaning(argument: &Arg) -> String {
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let help = help.replace("\n- ", "; ");
    let paragraphs = help.split("\n\n").map(|it| it.trim().trim_end_matches('.'));
    let mut meaning = cell(&paragraphs.collect::<Vec<_>>().join(". "));
    if is_set(argument) {
        for value in argument.get_possible_values() {
            let help = value.get_help().map(ToString::to_string).unwrap_or_default();
            let help = cell(help.trim_end_matches('.'));
            meaning.push_str(&format!("; `{}`: {}", value.get_name(), help));
        }
    }
    meaning
}

fn table(options: &[&Documented], commands: usize) -> String {
    let fields = StartOptions::augment_args(Request::augment_args(Command::new("fields")));
    let mut table = String::from(
        "| option | of | environment | API | default | meaning |\n|---|---|---|---|---|---|\n",
    );
    for Documented { argument, of } in options {
        let quoted = |text: String| match text.as_str() {
            "" => String::new(),
            text => format!("`{text}`"),
        };
        let of = if of.len() == commands { "all".to_owned() } else { of.join(", ") };
        let variable = argument.get_env().unwrap_or_default().to_string_lossy().into_owned();
        let id = argument.get_id();
        let is_field = fields.get_arguments().any(|field| field.get_id() == id);
        let field = if is_field && id != "ndjson_keys" { id.to_string() } else { String::new() };
        table.push_str(&format!(
            "| `{}` | {of} | {} | {} | {} | {} |\n",
            option(argument),
            quoted(variable),
            quoted(field),
            quoted(default(argument).unwrap_or_default()),
            meaning(argument)
        ));
    }
    table
}

#[test]
fn the_reference_of_the_command_line_is_made_of_the_definitions() {
    let program = Arguments::command();
    let options = options(&program);
    let commands = program.get_subcommands().count();
    let mut page = format!(
        "# The command line\n\
         Made of the definitions of the options (`src/model/request.rs`, `src/config.rs`, \
         `src/cli`); do not edit it: `DELTACOMPARE_WRITE_DOCUMENTS=1 cargo test --workspace --bins \
         documents` writes it anew. `-h` after a command lists its options, `--help` \
         explains them.\n\n\
         {} options. An option wins over its environment variable, and in the app a field of a \
         request over the app setting of the variable's name; `fdw` and `debezium` do so key by key. What may be repeated is a list in the \
         API.\n\n## Commands\n| command | |\n|---|---|\n",
        options.len()
    );
    for command in program.get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        page.push_str(&format!("| `{}` | {} |\n", command.get_name(), cell(&about)));
    }
    let groups = [SERVERS, SELECTION, SINKS, FORMAT, CHECKS, TUNING];
    for group in groups.map(Some).into_iter().chain([None]) {
        let of_group: Vec<&Documented> =
            options.iter().filter(|it| it.argument.get_help_heading() == group).collect();
        assert!(!of_group.is_empty(), "{group:?}");
        page.push_str(&format!("\n## {}\n", group.unwrap_or("Other options")));
        page.push_str(&table(&of_group, commands));
    }
    page.push_str("\n## Other variables\n| environment | |\n|---|---|\n");
    for (name, meaning) in VARIABLES {
        page.push_str(&format!("| `{name}` | {} |\n", cell(meaning)));
    }
    page.push_str("\n## Exit codes\n| code | |\n|---|---|\n");
    for (code, meaning) in EXIT_CODES {
        page.push_str(&format!("| {code} | {} |\n", cell(meaning)));
    }
    assert_is("docs/cli.md", &page);
}

/// The options that are settings of the app, and whether they are for people.
fn settings() -> Vec<Arg> {
    let program = Arguments::command();
    let serve = program.find_subcommand("serve").unwrap();
    let (settings, serve) = (AppSettings::command(), serve.get_arguments());
    let all = settings.get_arguments().chain(serve).cloned();
    let ours = |it: &Arg| it.get_env().is_some_and(|it| it.to_string_lossy().starts_with("DELTA"));
    all.filter(ours).collect()
}

#[test]
fn the_example_of_app_settings_is_made_of_the_definitions() {
    let example =
        |name: &str| format!("postgres://recovery@{name}.example.com/shop?sslmode=verify-full");
    let mut lines: Vec<(String, String)> = vec![
        ("FUNCTIONS_WORKER_RUNTIME".into(), "custom".into()),
        ("AzureWebJobsStorage".into(), "UseDevelopmentStorage=true".into()),
    ];
    for argument in settings().iter().filter(|argument| !argument.is_hide_set()) {
        let value = match argument.get_id().as_str() {
            side @ ("base" | "head") => example(side),
            _ => default(argument).unwrap_or_default(),
        };
        let variable = argument.get_env().unwrap().to_string_lossy().into_owned();
        lines.push((variable, value));
    }
    for (name, _) in VARIABLES.iter().filter(|(name, _)| name.starts_with("DELTACOMPARE_")) {
        let value = match *name {
            "DELTACOMPARE_QUEUES" => "UseDevelopmentStorage=true",
            "DELTACOMPARE_LOG" => "info",
            // Of the client, and of assess.
            "DELTACOMPARE_APP_KEY" | "DELTACOMPARE_PRODUCTION_PASSWORD" => continue,
            _ => "",
        };
        lines.push(((*name).to_owned(), value.to_owned()));
    }
    let lines: Vec<String> =
        lines.iter().map(|(name, value)| format!("    \"{name}\": \"{value}\"")).collect();
    let values = lines.join(",\n");
    let text = format!("{{\n  \"IsEncrypted\": false,\n  \"Values\": {{\n{values}\n  }}\n}}\n");
    assert_is("local.settings.example.json", &text);
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
}

/// What the templates and the documents call a setting is one.
#[test]
fn every_setting_in_templates_and_documents_is_one() {
    let mut known: BTreeSet<String> = VARIABLES.map(|(name, _)| name.to_owned()).into();
    let program = Arguments::command();
    let arguments = program.get_subcommands().flat_map(Command::get_arguments);
    known.extend(arguments.filter_map(Arg::get_env).map(|it| it.to_string_lossy().into_owned()));
    let mut documents = vec![folder().join("README.md")];
    files(&folder().join("infra"), "bicep", &mut documents);
    files(&folder().join("docs"), "md", &mut documents);
    let mut found = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for (at, _) in text.match_indices("DELTACOMPARE_") {
            let name = &text[at..];
            let end = name.find(|c: char| !(c.is_ascii_uppercase() || "_0123456789".contains(c)));
            // Identity-based connections have suffixes: DELTACOMPARE_QUEUES__queueServiceUri.
            let name = name[..end.unwrap_or(name.len())].trim_end_matches('_');
            let of_tests = [
                "DELTACOMPARE_TEST",
                "DELTACOMPARE_RANDOM",
                "DELTACOMPARE_KILL",
                "DELTACOMPARE_EVENT_HUBS_EMULATOR",
            ];
            let of_builds = ["DELTACOMPARE_CACHE", "DELTACOMPARE_WRITE_DOCUMENTS"];
            let elsewhere = of_tests.iter().any(|prefix| name.starts_with(prefix))
                || of_builds.contains(&name)
                || name == "DELTACOMPARE";
            assert!(elsewhere || known.contains(name), "{}: {name}", document.display());
            found += 1;
        }
    }
    assert!(found > 40, "{found}");
}

/// What clap asks of a definition: no option twice, no default that its own parser refuses, …
#[test]
fn the_options_are_well_defined() {
    Arguments::command().debug_assert();
}

/// A command as a document has it.
struct Written {
    words: Vec<String>,
    /// In a block of shell, to be copied; else within a sentence, where options may be left out.
    to_be_copied: bool,
}

/// A placeholder such as `<recovery id>`, until [`example`] fills it in.
const PLACEHOLDER: &str = "\u{1}";

/// The words of a line of shell. Quotes are taken off, `<…>` and variables are placeholders.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\'' | '"', None) => quote = Some(character),
            (_, Some(open)) if character == open => quote = None,
            ('#', None) if word.is_empty() => break,
            (' ', None) if word.is_empty() => {}
            (' ', None) => words.push(std::mem::take(&mut word)),
            ('<', None) => {
                word.push_str(PLACEHOLDER);
                while characters.next_if(|&inside| inside != '>').is_some() {}
                characters.next();
            }
            ('$', None | Some('"')) => {
                word.push_str(PLACEHOLDER);
                while characters.next_if(|it| it.is_alphanumeric() || *it == '_').is_some() {}
            }
            _ => word.push(character),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// A word with its placeholders filled in so that this option, or what stands alone, can take it.
fn example(word: &str, before: &str) -> String {
    let value = match before {
        "--resume" => "3b5c972e-e2ae-415b-b15a-b3ddf4a338ff",
        option if option.ends_with("-lsn") => "0/1",
        option if option.starts_with("--") => "x",
        _ => "3b5c972e-e2ae-415b-b15a-b3ddf4a338ff",
    };
    word.replace(PLACEHOLDER, value)
}

/// The program's commands in a document: in blocks of shell, and within sentences.
fn commands_in(document: &str) -> Vec<Written> {
    let mut found = Vec::new();
    for (at, part) in document.split("```").enumerate() {
        let to_be_copied = at % 2 == 1;
        let lines: Vec<String> = if !to_be_copied {
            part.split('`').skip(1).step_by(2).map(str::to_owned).collect()
        } else if let Some(block) = part.strip_prefix("sh\n") {
            block.replace("\\\n", " ").lines().map(str::to_owned).collect()
        } else {
            continue;
        };
        for line in lines {
            if line.trim_start().starts_with("deltacompare ") {
                found.push(Written { words: words(&line), to_be_copied });
            }
        }
    }
    found
}

/// What the environment gives: a command in a document need not repeat it.
fn from_environment(command: &clap::Command, words: &[String]) -> Vec<String> {
    let mut more = Vec::new();
    let mut supply = |option: String, value: &str| {
        if !words.contains(&option) {
            more.extend([option, value.to_owned()]);
        }
    };
    for argument in command.get_arguments() {
        let option = format!("--{}", argument.get_long().unwrap_or_default());
        if ["--base", "--head"].contains(&option.as_str()) {
            supply(option, "postgres://user@host/database");
        } else if argument.is_required_set()
            && !argument.is_positional()
            && argument.get_env().is_some()
        {
            supply(option, "https://example.com");
        }
    }
    more
}

/// The files that commands name are not there.
fn without_files(program: Command) -> Command {
    let any_text = clap::builder::ValueParser::string();
    program.mut_subcommands(|command| {
        command.mut_args(|it| match it.get_id() == "recorded" {
            true => it.value_parser(any_text.clone()),
            false => it,
        })
    })
}

#[test]
fn every_command_in_the_documents_can_be_run() {
    let folder = folder();
    let documents = std::fs::read_dir(folder.join("docs")).unwrap();
    let mut documents: Vec<_> = documents.map(|entry| entry.unwrap().path()).collect();
    documents.extend(["README.md", "testbed/README.md"].map(|name| folder.join(name)));
    let mut copied = BTreeSet::new();
    for document in documents.iter().filter(|path| path.extension().is_some_and(|it| it == "md")) {
        for Written { words, to_be_copied } in
            commands_in(&std::fs::read_to_string(document).unwrap())
        {
            let shown = format!("{}: {}", document.display(), words.join(" "));
            let program = Arguments::command();
            let command = program.find_subcommand(&words[1]);
            let command = command.unwrap_or_else(|| panic!("there is no such command\n{shown}"));
            let mut line: Vec<String> = words[..1].to_vec();
            line.extend(words.windows(2).map(|pair| example(&pair[1], &pair[0])));
            line.extend(from_environment(command, &words));
            if let Err(error) = without_files(Arguments::command()).try_get_matches_from(&line) {
                let is_part = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
                assert!(is_part && !to_be_copied, "{shown}\n{error}");
            }
            if to_be_copied {
                copied.insert(words[1].clone());
            }
        }
    }
    for command in ["cleanup", "plan", "record", "run"] {
        assert!(copied.contains(command), "no document shows how to {command}");
    }
}
