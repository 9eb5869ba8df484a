//! The README's table of options against the program itself.

use std::collections::{BTreeMap, BTreeSet};

use clap::{Arg, ArgAction, CommandFactory};

use super::arguments::Arguments;

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

#[test]
fn every_option_is_in_the_readme_as_it_is() {
    let documented = documented();
    let program = Arguments::command();
    let commands: Vec<&str> = program.get_subcommands().map(clap::Command::get_name).collect();
    let mut known = BTreeMap::<String, (Arg, BTreeSet<&str>)>::new();
    for command in program.get_subcommands() {
        for argument in command.get_arguments().filter(|argument| argument.get_id() != "help") {
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
fn the_readme_names_every_exit_code() {
    for code in [super::COMPLETED, super::FAILED, super::REFUSED, super::INTERRUPTED] {
        assert!(README.contains(&format!("\n| {code} | ")), "{code}");
    }
}

/// The commands in a document's blocks of shell, each with its words.
fn commands_in(document: &str) -> Vec<Vec<&str>> {
    document
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix("sh\n"))
        .flat_map(str::lines)
        .filter_map(|line| line.trim().strip_prefix("deltacompare "))
        .map(|line| line.split(" #").next().unwrap_or_default().split_whitespace().collect())
        .collect()
}

#[test]
fn the_runbook_and_the_readme_name_commands_and_options_that_exist() {
    let program = Arguments::command();
    let mut checked = BTreeSet::new();
    for document in [README, include_str!("../../docs/runbook.md")] {
        for words in commands_in(document) {
            let command = program
                .find_subcommand(words[0])
                .unwrap_or_else(|| panic!("there is no command {words:?}"));
            for option in words.iter().filter_map(|word| word.strip_prefix("--")) {
                let known = command.get_arguments().any(|it| it.get_long() == Some(option));
                assert!(known, "--{option} is none of {}", words[0]);
            }
            checked.insert(words[0]);
        }
    }
    assert!(["cleanup", "plan", "record", "run"].iter().all(|it| checked.contains(it)));
}
