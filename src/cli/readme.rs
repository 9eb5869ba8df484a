//! The README's table of options against the program itself.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Arg, ArgAction, CommandFactory};

use super::command::Arguments;

const README: &str = include_str!("../../README.md");

/// A row of the table.
struct Documented {
    /// `--name <VALUE>`, as help prints it.
    option: String,
    commands: String,
    environment: String,
    default: String,
    meaning: String,
}

fn documented() -> BTreeMap<String, Documented> {
    README
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .map(|line| {
            let mut cells = line.trim_matches('|').split(" |").map(|cell| cell.trim().to_owned());
            let mut next = || cells.next().unwrap_or_default();
            let row = Documented {
                option: next().trim_matches('`').to_owned(),
                commands: next(),
                environment: next().trim_matches('`').to_owned(),
                default: next(),
                meaning: next(),
            };
            assert!(!row.meaning.is_empty(), "{line}");
            (row.option.split(' ').next().unwrap_or_default().to_owned(), row)
        })
        .collect()
}

fn option(argument: &Arg) -> String {
    let name = format!("--{}", argument.get_long().unwrap_or_default());
    match (argument.get_action(), argument.get_value_names()) {
        (ArgAction::Set | ArgAction::Append, Some([value])) => format!("{name} <{value}>"),
        _ => name,
    }
}

/// What clap asks of a definition: no option twice, no default that its own parser refuses, …
#[test]
fn the_options_are_well_defined() {
    Arguments::command().debug_assert();
}

#[test]
fn every_option_is_in_the_readme_as_it_is() {
    let documented = documented();
    let program = Arguments::command();
    let commands: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
    let mut known = BTreeMap::<String, (Arg, BTreeSet<&str>)>::new();
    for command in program.get_subcommands() {
        // What stands alone, like an id, is explained with its command.
        let options = command.get_arguments().filter(|argument| argument.get_long().is_some());
        for argument in options.filter(|argument| argument.get_id() != "help") {
            let name = format!("--{}", argument.get_long().unwrap_or_default());
            let entry = known.entry(name).or_insert_with(|| (argument.clone(), BTreeSet::new()));
            entry.1.insert(command.get_name());
        }
    }
    let names: Vec<&String> = known.keys().collect();
    assert_eq!(names, documented.keys().collect::<Vec<_>>(), "options");
    for (name, (argument, of)) in &known {
        let row = &documented[name];
        assert_eq!(row.option, option(argument));
        let stated: BTreeSet<&str> = match row.commands.as_str() {
            "all" => commands.iter().copied().collect(),
            some => some.split(", ").collect(),
        };
        assert_eq!(&stated, of, "{name}: commands");
        let environment = argument.get_env().unwrap_or_default().to_string_lossy();
        assert_eq!(row.environment, environment, "{name}: environment");
        let defaults = argument.get_default_values();
        if let ([default], ArgAction::Set) = (defaults, argument.get_action()) {
            assert_eq!(row.default, format!("`{}`", default.to_string_lossy()), "{name}: default");
        }
        if matches!(argument.get_action(), ArgAction::Set | ArgAction::Append) {
            for value in argument.get_possible_values() {
                let word = format!("`{}`", value.get_name());
                assert!(row.meaning.contains(&word), "{name}: {word} is not explained");
            }
        }
    }
}

#[test]
fn the_example_of_app_settings_shows_every_one_with_its_default() {
    let example: serde_json::Value =
        serde_json::from_str(include_str!("../../local.settings.example.json")).unwrap_or_default();
    let values = &example["Values"];
    let program = Arguments::command();
    let of_app = ["run", "serve"].into_iter().filter_map(|name| program.find_subcommand(name));
    let mut shown = 0;
    for argument in of_app.flat_map(clap::Command::get_arguments) {
        let name = argument.get_env().unwrap_or_default().to_string_lossy();
        if !name.starts_with("DELTACOMPARE_") {
            continue;
        }
        let value = values[name.as_ref()].as_str();
        assert!(value.is_some(), "{name} is not in local.settings.example.json");
        if let ([default], ArgAction::Set) = (argument.get_default_values(), argument.get_action())
        {
            assert_eq!(value, default.to_str(), "{name}");
        }
        shown += 1;
    }
    assert!(shown > 40, "{shown}");
}

#[test]
fn the_readme_names_every_exit_code() {
    for code in [super::COMPLETED, super::FAILED, super::REFUSED, super::INTERRUPTED] {
        assert!(README.contains(&format!("\n| {code} | ")), "{code}");
    }
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
        } else if argument.is_required_set() && argument.get_env().is_some() {
            supply(option, "https://example.com");
        }
    }
    more
}

#[test]
fn every_command_in_the_documents_can_be_run() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
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
            if let Err(error) = Arguments::command().try_get_matches_from(&line) {
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
