//! What help, manual and docs/cli.md say besides the options themselves.

use clap::{Arg, Command};

use super::{COMPLETED, FAILED, INTERRUPTED, REFUSED};

/// Exit codes, the same for every command.
pub(super) const EXIT_CODES: [(u8, &str); 4] = [
    (COMPLETED, "completed"),
    (
        FAILED,
        "ended with failed tables, each named with its reason, or broke off; once the reason is \
         mended, --resume tries these tables again and no others",
    ),
    (REFUSED, "refused; nothing was changed"),
    (INTERRUPTED, "interrupted; the command to go on with is printed"),
];

/// Variables of the environment that are no options.
pub(super) const VARIABLES: [(&str, &str); 9] = [
    ("DELTACOMPARE_BASE_PASSWORD", "the password for base, where its URL has none"),
    ("DELTACOMPARE_HEAD_PASSWORD", "the password for head, where its URL has none"),
    ("DELTACOMPARE_PRODUCTION_PASSWORD", "the password for assess, where its URL has none"),
    ("PGPASSFILE", "libpq's password file, if not ~/.pgpass; any other place wins over it"),
    (
        "DELTACOMPARE_EVENT_HUB_CONNECTION_STRING",
        "the connection string of a shared access policy, instead of an identity",
    ),
    ("DELTACOMPARE_APP_KEY", "a host key of the app; without it, it is asked for"),
    ("DELTACOMPARE_QUEUES", "serve: where the queues are, as the Functions host reads it"),
    ("DELTACOMPARE_LOG", "what is logged to standard error: warn (the default), info, debug"),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "an OpenTelemetry collector for traces and metrics; the other OTEL_ variables hold, too",
    ),
];

const SHORT: &str = "--help also has what is rare, the environment variables and the exit codes.";

/// The program whose help has it all. An option's environment variable stands in the long form only:
/// the short one is to fit on two screens.
pub(super) fn with_help(program: Command) -> Command {
    let mut exit_codes = String::from("Exit codes:\n");
    for (code, meaning) in EXIT_CODES {
        exit_codes.push_str(&format!("  {code:<4} {meaning}\n"));
    }
    let mut variables = String::from("Environment, besides what stands with the options:\n");
    for (name, meaning) in VARIABLES {
        variables.push_str(&format!("  {name}\n          {meaning}\n"));
    }
    let long = format!("{exit_codes}\n{variables}");
    let with_help = |command: Command| {
        let command = command.mut_args(variable_in_long_help).after_long_help(long.clone());
        let many = command.get_arguments().filter(|argument| !argument.is_hide_set()).count() > 10;
        if many { command.after_help(SHORT) } else { command }
    };
    program.after_long_help(long.clone()).mut_subcommands(with_help)
}

/// An option whose long help names its variable.
pub(super) fn variable_in_long_help(argument: Arg) -> Arg {
    let Some(variable) = argument.get_env().map(|it| it.to_string_lossy().into_owned()) else {
        return argument;
    };
    let help = argument.get_long_help().or(argument.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    argument.hide_env(true).long_help(format!("{help}\n\n[env: {variable}]"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::command::Arguments;

    fn help(command: &str, long: bool) -> String {
        let mut program = with_help(Arguments::command()).term_width(100);
        program.build();
        let command = program.find_subcommand_mut(command).unwrap();
        let help = if long { command.render_long_help() } else { command.render_help() };
        help.to_string()
    }

    #[test]
    fn help_is_grouped_and_the_short_form_fits_on_two_screens() {
        for command in ["run", "plan", "start"] {
            let short = help(command, false);
            assert!(short.lines().count() <= 100, "{}: {short}", short.lines().count());
            let groups = ["Servers:", "Selection:", "Sinks:", "Format:", "Checks:", "Tuning:"];
            let mut from = 0;
            for group in groups {
                let found = short[from..].find(&format!("\n{group}\n"));
                from += found.unwrap_or_else(|| panic!("{group} in {short}"));
            }
            let long = help(command, true);
            for line in short.lines().filter(|line| line.trim_start().starts_with("--")) {
                let option = line.split_whitespace().next().unwrap();
                assert!(long.contains(option), "{option}");
            }
        }
    }

    #[test]
    fn the_long_form_has_variables_and_exit_codes_and_the_short_one_says_so() {
        let (short, long) = (help("run", false), help("run", true));
        assert!(!short.contains("[env:") && short.contains(SHORT), "{short}");
        for said in ["[env: DELTACOMPARE_PARALLEL]", "DELTACOMPARE_APP_KEY", "130  interrupted"] {
            assert!(long.contains(said), "{said}: {long}");
        }
        // Every variable that an option has follows its name.
        let program = Arguments::command();
        for argument in program.get_subcommands().flat_map(Command::get_arguments) {
            let Some(variable) = argument.get_env() else { continue };
            let name = argument
                .get_long()
                .unwrap_or(argument.get_id().as_str())
                .replace('-', "_")
                .to_uppercase();
            let known = ["FUNCTIONS_CUSTOMHANDLER_PORT".to_owned(), format!("DELTACOMPARE_{name}")];
            assert!(known.iter().any(|known| variable == known.as_str()), "{name}");
        }
    }

    #[test]
    fn what_only_tests_need_is_in_no_help() {
        for command in ["run", "serve"] {
            let long = help(command, true);
            for option in
                ["range-blocks", "work-seconds", "resend-seconds", "event-hub-patience-seconds"]
            {
                assert!(!long.contains(option), "{option}");
            }
        }
    }
}
