//! libpq's password file (PostgreSQL manual, "The Password File").

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use secrecy::SecretString;

use crate::error::{Error, Result};

/// The file that libpq would read: `PGPASSFILE`, else `.pgpass` in the home folder.
fn path() -> Option<PathBuf> {
    let named = std::env::var_os("PGPASSFILE").filter(|path| !path.is_empty());
    named.map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".pgpass")))
}

/// The password that the file has for this login, and the file's path. `None` if there is no file,
/// or no line of it fits.
///
/// # Errors
/// Refused if the file fits, but others may read it (libpq ignores such a file without a word) or
/// it cannot be read.
pub(crate) fn find(
    host: &str,
    port: u16,
    database: &str,
    user: &str,
) -> Result<Option<(PathBuf, SecretString)>> {
    let Some(path) = path().filter(|path| path.is_file()) else { return Ok(None) };
    let unreadable = |error: std::io::Error| {
        Error::refused(format!("cannot read the password file {}: {error}", path.display()))
            .because(error)
    };
    let mode = std::fs::metadata(&path).map_err(unreadable)?.permissions().mode();
    let content = std::fs::read_to_string(&path).map_err(unreadable)?;
    let found = password(&content, &[host, &port.to_string(), database, user]);
    if found.is_some() && mode & 0o077 != 0 {
        return Err(Error::refused(format!(
            "others may read the password file {0}: chmod 600 {0}",
            path.display()
        )));
    }
    Ok(found.map(|password| (path, password)))
}

/// The password of the first line that fits: `host:port:database:user:password`, `*` for any,
/// `\\` before a colon or a backslash.
fn password(content: &str, login: &[&str; 4]) -> Option<SecretString> {
    content.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let [given @ .., password] = fields.as_slice() else { return None };
        let fits = given.len() == login.len()
            && given.iter().zip(login).all(|(given, wanted)| given == "*" || given == wanted);
        fits.then(|| SecretString::from(password.as_str()))
    })
}

/// The five fields; the password keeps the colons that follow it.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        let split = character == ':' && fields.len() < 5;
        let literal = if character == '\\' { characters.next() } else { Some(character) };
        match (split, fields.last_mut()) {
            (true, _) => fields.push(String::new()),
            (false, Some(field)) => field.extend(literal),
            (false, None) => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn the_first_line_that_fits_counts() {
        let file = "# comment\n\
                    short:line\n\
                    h:5432:other:u:no\n\
                    h:5432:db:u:pa\\:ss\\\\:word\n\
                    *:*:*:*:any\n";
        let find = |host| {
            password(file, &[host, "5432", "db", "u"]).map(|found| found.expose_secret().to_owned())
        };
        assert_eq!(find("h").as_deref(), Some("pa:ss\\:word"));
        assert_eq!(find("elsewhere").as_deref(), Some("any"));
        assert_eq!(password("h:1:db:u:x", &["h", "5432", "db", "u"]).map(|_| ()), None);
    }
}
