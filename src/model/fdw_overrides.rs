//! Where head finds base, if not where this process finds it.

use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::key_values::KeyValues;
use super::{SslMode, nearest, option_group};
use crate::error::{Error, Result};

/// How head reaches base, where that differs from the URL of base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FdwOverrides {
    /// Base's host name or address as head knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1)]
    pub host: Option<String>,
    /// Base's port as head knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 65535)]
    pub port: Option<u16>,
    /// libpq's `sslmode` from head to base.
    #[serde(rename = "sslmode", skip_serializing_if = "Option::is_none")]
    #[schema(inline)]
    pub ssl_mode: Option<SslMode>,
    /// The authority's certificate as a path on head's own machine, or `system`.
    #[serde(rename = "sslrootcert", skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1)]
    pub ssl_root_cert: Option<String>,
}

const KEYS: [&str; 4] = ["host", "port", "sslmode", "sslrootcert"];

const OPTION: KeyValues<FdwOverrides> =
    KeyValues { id: "fdw", env: "DELTACOMPARE_FDW", set: FdwOverrides::set };

impl FdwOverrides {
    fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let text = || match value {
            "" => Err(Error::refused(format!("{key} is empty: leave it out, or give it a value"))),
            value => Ok(Some(value.to_owned())),
        };
        match key {
            "host" => self.host = text()?,
            "port" => {
                let port = value.parse();
                let port = port.map_err(|_| Error::refused("port is a number up to 65535"))?;
                self.port = Some(port);
            }
            "sslmode" => self.ssl_mode = Some(value.parse()?),
            "sslrootcert" => self.ssl_root_cert = text()?,
            _ => {
                return Err(Error::refused(format!(
                    "{key:?} is not known here{}; known are {}",
                    nearest(key, &KEYS),
                    KEYS.join(", ")
                )));
            }
        }
        Ok(())
    }
}

const HELP: &str = "How head reaches base [default: as --base says]";

const LONG_HELP: &str = "How head reaches base over postgres_fdw, where that differs from the URL of \
    base: host=<name>,port=<number>,sslmode=<mode>,sslrootcert=<path>, with libpq's meaning. \
    sslrootcert is a path on head's own machine, or system, which is the default for verify-full on \
    PostgreSQL 16 and newer; sslmode is disable, prefer, require, verify-ca or verify-full. May be \
    repeated";

impl Args for FdwOverrides {
    fn augment_args(command: Command) -> Command {
        command.arg(OPTION.argument(HELP, LONG_HELP).help_heading(option_group::SERVERS))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FdwOverrides {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        OPTION.read(matches)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = OPTION.read(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Result<FdwOverrides, clap::Error> {
        let command = FdwOverrides::augment_args(Command::new("p").no_binary_name(true));
        let matches = command.try_get_matches_from(["--fdw", text])?;
        FdwOverrides::from_arg_matches(&matches)
    }

    #[test]
    fn the_command_line_and_json_say_the_same() {
        let text = "host=10.0.0.4,port=5433,sslmode=verify-ca,sslrootcert=/etc/ca,1.pem";
        let json = serde_json::json!({
            "host": "10.0.0.4", "port": 5433, "sslmode": "verify-ca", "sslrootcert": "/etc/ca,1.pem",
        });
        let read: FdwOverrides = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(given(text).unwrap(), read);
        assert_eq!(serde_json::to_value(read).unwrap(), json);
        for key in KEYS {
            assert!(LONG_HELP.contains(&format!("{key}=")), "{key}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (text, says) in [
            ("hosts=a", "\"hosts\" is not known here; did you mean host?; known are host, port"),
            ("port=70000", "port is a number up to 65535"),
            ("host=", "host is empty"),
            ("sslmode=full", "disable, prefer, require, verify-ca or verify-full"),
            ("10.0.0.4", "key=value"),
        ] {
            let error = given(text).unwrap_err().to_string();
            assert!(error.contains("--fdw: ") && error.contains(says), "{text}: {error}");
        }
    }
}
