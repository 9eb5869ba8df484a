//! What shells and `man` know of the program, made of its arguments.

use std::path::Path;

use clap::CommandFactory;
use deltacompare::error::{Error, Result};

use super::command::Arguments;

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
    clap_mangen::generate_to(Arguments::command(), folder).map_err(|error| {
        let folder = folder.display();
        Error::refused(format!("cannot write pages into {folder}: {error}; name another folder"))
            .because(error)
    })
}
