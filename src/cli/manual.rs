//! What shells and `man` know of the program, made of its arguments.

use std::path::Path;

use clap::{Command, CommandFactory};
use deltacompare::error::{Error, Result};

use super::command::Arguments;
use super::help::{EXIT_CODES, VARIABLES, variable_in_long_help};

/// Prints completions for a shell.
pub(super) fn completions(shell: clap_complete::Shell) {
    clap_complete::generate(
        shell,
        &mut Arguments::command(),
        "deltacompare",
        &mut std::io::stdout(),
    );
}

/// Writes `deltacompare.1` and a page for each command.
///
/// # Errors
/// Refused if the folder cannot be written to.
pub(super) fn pages(folder: &Path) -> Result<()> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    let subcommands = program.get_subcommands().cloned();
    for command in std::iter::once(program.clone()).chain(subcommands) {
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let written =
            page(command).and_then(|page| std::fs::write(folder.join(format!("{name}.1")), page));
        written.map_err(|error| {
            let folder = folder.display();
            Error::refused(format!(
                "cannot write pages into {folder}: {error}; name another folder"
            ))
            .because(error)
        })?;
    }
    Ok(())
}

fn page(command: Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let command = command.mut_args(variable_in_long_help);
    clap_mangen::Man::new(command).render(&mut page)?;
    page.extend(b".SH \"EXIT STATUS\"\n");
    for (code, meaning) in EXIT_CODES {
        page.extend(item(&code.to_string(), meaning).bytes());
    }
    page.extend(b".SH ENVIRONMENT\nBesides what stands with the options:\n");
    for (name, meaning) in VARIABLES {
        page.extend(item(name, meaning).bytes());
    }
    Ok(page)
}

/// An indented paragraph with its tag.
fn item(tag: &str, text: &str) -> String {
    let escaped = |text: &str| text.replace('\\', "\\e").replace('-', "\\-");
    format!(".TP\n\\fB{}\\fR\n{}\n", escaped(tag), escaped(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_has_exit_codes_and_variables() {
        let folder = tempfile::tempdir().unwrap();
        pages(folder.path()).unwrap();
        for name in ["deltacompare", "deltacompare-run", "deltacompare-start"] {
            let page = std::fs::read_to_string(folder.path().join(format!("{name}.1"))).unwrap();
            for said in
                ["\"EXIT STATUS\"", "\\fB130\\fR", ".SH ENVIRONMENT", "DELTACOMPARE_APP_KEY"]
            {
                assert!(page.contains(said), "{name}: {said}");
            }
        }
        let run = std::fs::read_to_string(folder.path().join("deltacompare-run.1")).unwrap();
        assert!(run.contains("[env: DELTACOMPARE_PARALLEL]"), "{run}");
    }
}
