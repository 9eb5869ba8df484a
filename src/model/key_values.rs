//! Options whose value is a list of keys with values: `--fdw host=base,port=5432`.

use clap::builder::{StyledStr, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use crate::error::{Error, Result};

/// One such option. It may be repeated on the command line; what its environment variable says holds
/// for the keys that the command line does not give.
pub(super) struct KeyValues<T> {
    /// The option's name without dashes, which is its field's name too.
    pub(super) id: &'static str,
    pub(super) env: &'static str,
    /// Sets one key.
    pub(super) set: fn(&mut T, &str, &str) -> Result<()>,
}

impl<T: Default> KeyValues<T> {
    pub(super) fn argument(&self, help: &'static str, long_help: impl Into<StyledStr>) -> Arg {
        Arg::new(self.id)
            .long(self.id)
            .env(self.env)
            .value_name("KEY=VALUE")
            .action(ArgAction::Append)
            .value_parser(ValueParser::string())
            .help(help)
            .long_help(long_help)
    }

    /// What was given.
    ///
    /// # Errors
    /// A key or value that is not known, or a key that is given twice.
    pub(super) fn read(&self, matches: &ArgMatches) -> Result<T, clap::Error> {
        let given = matches.get_many::<String>(self.id).into_iter().flatten();
        let given: Vec<&str> = given.map(String::as_str).collect();
        let from_environment = match matches.value_source(self.id) {
            Some(ValueSource::CommandLine) => std::env::var(self.env).unwrap_or_default(),
            _ => String::new(),
        };
        self.layered(&from_environment, &given).map_err(|error| {
            let mut invalid = clap::Error::raw(ErrorKind::ValueValidation, format!("{error}\n"));
            let option = ContextValue::String(format!("--{}", self.id));
            invalid.insert(ContextKind::InvalidArg, option);
            invalid
        })
    }

    fn layered(&self, from_environment: &str, given: &[&str]) -> Result<T> {
        let mut value = T::default();
        for (key, text) in pairs(from_environment).map_err(|error| self.named(&error))? {
            (self.set)(&mut value, key, text).map_err(|error| self.named(&error))?;
        }
        let mut seen = Vec::new();
        for text in given {
            for (key, text) in pairs(text).map_err(|error| self.named(&error))? {
                if seen.contains(&key) {
                    let twice = Error::refused(format!("{key} is given twice: keep one"));
                    return Err(self.named(&twice));
                }
                seen.push(key);
                (self.set)(&mut value, key, text).map_err(|error| self.named(&error))?;
            }
        }
        Ok(value)
    }

    fn named(&self, error: &Error) -> Error {
        Error::refused(format!("--{}: {error}", self.id))
    }
}

/// `key=value,key=value`. A comma ends a value only where another `key=` follows it.
///
/// # Errors
/// Refused if the text does not begin with a key.
fn pairs(text: &str) -> Result<Vec<(&str, &str)>> {
    let text = text.trim();
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some((key, after)) = rest.split_once('=').filter(|(key, _)| is_key(key)) else {
            return Err(Error::refused("this is not a list of key=value[,key=value…]"));
        };
        let ends = after.match_indices(',').map(|(at, _)| at);
        let mut ends = ends.filter(|at| {
            let next = after[at + 1..].trim_start();
            next.split_once('=').is_some_and(|(key, _)| is_key(key))
        });
        let end = ends.next().unwrap_or(after.len());
        found.push((key, after[..end].trim()));
        rest = after.get(end + 1..).unwrap_or_default().trim_start();
    }
    Ok(found)
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_ends_a_value_where_another_key_follows() {
        assert_eq!(pairs("a=1, b.c=2").unwrap(), [("a", "1"), ("b.c", "2")]);
        assert_eq!(
            pairs("a=s.t:x,y;s.u:z,b=/p,q").unwrap(),
            [("a", "s.t:x,y;s.u:z"), ("b", "/p,q")]
        );
        assert_eq!(pairs("a=").unwrap(), [("a", "")]);
        assert_eq!(pairs(" ").unwrap(), []);
        for wrong in ["a", "=1", "a b=1", ",a=1"] {
            assert!(pairs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_environment_key_by_key() {
        type Pairs = Vec<(String, String)>;
        fn set(pairs: &mut Pairs, key: &str, value: &str) -> Result<()> {
            pairs.retain(|(known, _)| known != key);
            pairs.push((key.to_owned(), value.to_owned()));
            Ok(())
        }
        let option = KeyValues::<Pairs> { id: "fdw", env: "UNSET", set };
        let value = option.layered("a=1,b=2", &["b=3", "c=4"]).unwrap();
        let value: Vec<(&str, &str)> =
            value.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(value, [("a", "1"), ("b", "3"), ("c", "4")]);
        let twice = option.layered("", &["a=1", "a=2"]).unwrap_err();
        assert_eq!(twice.to_string(), "--fdw: a is given twice: keep one");
    }
}
