//! Where the two servers and event hubs are and how to log in to them, as the command line, the
//! environment and the app's settings say it: one definition for all three.

mod event_hub;

use std::sync::Arc;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, Args, Parser, ValueEnum};
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};

use crate::azure::{
    AzureIdentity, AzureIdentityKind, EntraToken, KeyVault, SecretName, VaultSecret,
};
use crate::error::{Error, Result};
use crate::model::option_group::SERVERS;
use crate::postgres::{FixedPassword, Server, Side};
use crate::preflight::Servers;
use crate::secrets::{Origin, Password, Secret, SecretSource, find_in_pgpass};
use crate::sink::EventHubAccess;

pub use event_hub::EventHubSettings;

/// How our own sessions log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Login {
    /// With a password: from the URL, the environment, the vault, or a .pgpass file
    Password,
    /// With a token of the program's own identity in Microsoft Entra; head logs in to base with a
    /// password of its own in either case
    Entra,
}

/// What tells where base and head are and how to log in.
#[derive(Clone, Debug, Args)]
pub struct ServerSettings {
    /// The restore to when the slot was lost: postgres://user@host:5432/database
    ///
    /// With ?sslmode=… (libpq's; prefer if it is not given), &sslrootcert=<file>,
    /// &connect_timeout=<seconds> and &options=…; one host only. A password in it is refused on the
    /// command line, where others could see it.
    #[arg(
        long,
        env = "DELTACOMPARE_BASE",
        hide_env_values = true,
        value_name = "URL",
        required_unless_present = "base_secret",
        help_heading = SERVERS
    )]
    base: Option<String>,
    /// The restore to when the slot was back
    #[arg(
        long,
        env = "DELTACOMPARE_HEAD",
        hide_env_values = true,
        value_name = "URL",
        required_unless_present = "head_secret",
        help_heading = SERVERS
    )]
    head: Option<String>,
    /// The Key Vault that has the secrets: https://<name>.vault.azure.net
    #[arg(long, env = "DELTACOMPARE_VAULT", value_name = "URL", help_heading = SERVERS)]
    vault: Option<String>,
    /// The vault's secret with base's password
    ///
    /// Or with its whole URL instead of --base; <name>/<version> pins one.
    #[arg(long, env = "DELTACOMPARE_BASE_SECRET", value_name = "NAME", requires = "vault",
          help_heading = SERVERS)]
    base_secret: Option<String>,
    /// The vault's secret with head's password
    ///
    /// Or with its whole URL instead of --head; <name>/<version> pins one.
    #[arg(long, env = "DELTACOMPARE_HEAD_SECRET", value_name = "NAME", requires = "vault",
          help_heading = SERVERS)]
    head_secret: Option<String>,
    /// How sessions log in to the two servers
    #[arg(long, env = "DELTACOMPARE_LOGIN", value_enum, default_value_t = Login::Password,
          help_heading = SERVERS)]
    login: Login,
    /// Who the program is to Azure: to the vault, to Entra and to Event Hubs
    #[arg(long, env = "DELTACOMPARE_IDENTITY", value_enum, default_value_t = AzureIdentityKind::Auto,
          help_heading = SERVERS)]
    identity: AzureIdentityKind,
    /// A user-assigned managed identity [default: the system-assigned one]
    #[arg(long, env = "DELTACOMPARE_IDENTITY_CLIENT_ID", value_name = "ID", help_heading = SERVERS)]
    identity_client_id: Option<String>,
}

/// Where production is. It is only ever looked at, so it has no part in a recovery's settings.
#[derive(Clone, Debug, Args)]
pub struct ProductionSettings {
    /// The server whose slot was lost, any of its databases:
    /// postgres://user@host:5432/database?sslmode=verify-full
    #[arg(env = "DELTACOMPARE_PRODUCTION", hide_env_values = true, value_name = "URL")]
    production: String,
}

impl ProductionSettings {
    /// The server. Its password is in the URL, in `DELTACOMPARE_PRODUCTION_PASSWORD`, or in a `.pgpass`
    /// file.
    ///
    /// # Errors
    /// Refused if the URL cannot be used. The message holds no secret.
    pub fn server(&self) -> Result<Server> {
        let variable = Side::Production.password_variable();
        let in_environment =
            std::env::var(variable).ok().filter(|it| !it.is_empty()).map(SecretString::from);
        from_password_file(Server::parse(Side::Production, &self.production, in_environment)?)
    }
}

/// All that a process is told about where things are and who it is. No part of a request.
#[derive(Clone, Debug, Parser)]
pub struct Settings {
    /// The two servers.
    #[command(flatten)]
    pub servers: ServerSettings,
    /// Event hubs.
    #[command(flatten)]
    pub event_hub: EventHubSettings,
}

/// Arguments that are complete with what the environment says, as [`without_empty`] reads it.
///
/// # Errors
/// Refused if a setting is missing or cannot be used; names it.
pub fn read_settings<P: Parser>(arguments: impl IntoIterator<Item = &'static str>) -> Result<P> {
    let command = without_empty(P::command());
    command
        .clone()
        .try_get_matches_from(arguments)
        .and_then(|matches| P::from_arg_matches(&matches))
        .map_err(|error| setting_error(&command, &error))
}

/// The same command, to which an environment variable that is empty is not set: app settings often
/// are.
pub fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |argument: &Arg| {
        let variable = argument.get_env().and_then(std::env::var_os);
        variable.is_some_and(|value| value.is_empty())
    };
    command
        .mut_args(|argument| match is_empty(&argument) {
            true => argument.env(Resettable::Reset),
            false => argument,
        })
        .mut_subcommands(without_empty)
}

/// What clap says of a setting, in the app's words: it has variables and no options.
fn setting_error(command: &clap::Command, error: &clap::Error) -> Error {
    let options: &[String] = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => std::slice::from_ref(option),
        Some(ContextValue::Strings(options)) => options,
        _ => &[],
    };
    // clap writes `--base <URL>`.
    let names =
        options.iter().filter_map(|option| option.trim_start_matches("--").split(' ').next());
    let arguments = names.filter_map(|name| {
        command.get_arguments().find(|argument| argument.get_long() == Some(name))
    });
    let variables = arguments.filter_map(clap::Arg::get_env).map(|it| it.to_string_lossy());
    let variables = variables.collect::<Vec<_>>().join(" and ");
    let missing = error.kind() == clap::error::ErrorKind::MissingRequiredArgument;
    if missing && options.iter().all(|it| it.starts_with("--base ") || it.starts_with("--head ")) {
        return Error::refused(format!(
            "the setting {variables} is missing: set it to the server's URL, \
             postgres://user@host:5432/database?sslmode=verify-full"
        ));
    }
    if missing {
        return Error::refused(format!("the setting {variables} is missing"));
    }
    let takes = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("it takes {}", values.join(", ")),
        _ => {
            let why = std::error::Error::source(error).map(ToString::to_string);
            let why = why.unwrap_or_else(|| error.to_string());
            let why = why.lines().next().unwrap_or_default().trim_start_matches("error: ");
            // An option of keys and values names itself.
            let named = options.first().and_then(|option| why.strip_prefix(option.as_str()));
            named.and_then(|why| why.strip_prefix(": ")).unwrap_or(why).to_owned()
        }
    };
    Error::refused(format!("the setting {variables} cannot be used: {takes}"))
}

impl Settings {
    /// The settings of this process's environment, as the app has them.
    ///
    /// # Errors
    /// Refused if one is missing or is not what it must be; names it.
    pub fn from_environment() -> Result<Self> {
        read_settings(["deltacompare"])
    }

    /// How event hubs are reached.
    ///
    /// # Errors
    /// As [`EventHubSettings::access`].
    pub fn event_hub_access(&self) -> Result<EventHubAccess> {
        self.event_hub.access(&self.servers)
    }
}

impl ServerSettings {
    /// The servers' part of [`Settings::from_environment`].
    ///
    /// # Errors
    /// As there.
    pub fn from_environment() -> Result<Self> {
        Settings::from_environment().map(|settings| settings.servers)
    }

    /// The program's identity in Microsoft Entra.
    pub fn identity(&self) -> AzureIdentity {
        AzureIdentity { kind: self.identity, client_id: self.identity_client_id.clone() }
    }

    /// The two servers. Reads secrets that hold a whole URL; passwords are read when first needed.
    ///
    /// # Errors
    /// Refused if something is missing, cannot be used, or is said twice. The message holds no
    /// secret.
    pub async fn servers(&self) -> Result<Servers> {
        let vault = self.vault()?;
        Ok(Servers {
            base: self.server(Side::Base, &self.base, &self.base_secret, vault.as_ref()).await?,
            head: self.server(Side::Head, &self.head, &self.head_secret, vault.as_ref()).await?,
        })
    }

    /// The vault, if one is named.
    fn vault(&self) -> Result<Option<KeyVault>> {
        let open = |url| KeyVault::new(url, self.identity().credential()?);
        self.vault.as_deref().map(open).transpose()
    }

    async fn server(
        &self,
        side: Side,
        url: &Option<String>,
        secret: &Option<String>,
        vault: Option<&KeyVault>,
    ) -> Result<Server> {
        let variable = side.password_variable();
        let in_environment =
            std::env::var(variable).ok().filter(|it| !it.is_empty()).map(SecretString::from);
        let secret = match (secret, vault) {
            (Some(name), Some(vault)) => Some(vault.secret(name.parse::<SecretName>()?)),
            (Some(_), None) => {
                return Err(Error::refused(format!(
                    "--{side}-secret names a secret, but no vault: set --vault"
                )));
            }
            (None, _) => None,
        };
        if let (Login::Entra, Some(secret)) = (self.login, &secret) {
            return Err(Error::refused(format!(
                "--login entra takes no password for {side}, but {secret} is named: keep one, and \
                 name the server with --{side}"
            )));
        }
        let server = match (url, &secret) {
            (Some(url), _) => Server::parse(side, url, in_environment)?,
            (None, Some(secret)) => return whole_url(side, secret, in_environment).await,
            (None, None) => {
                return Err(Error::refused(format!(
                    "--{side} is missing: set it to the URL of {side}"
                )));
            }
        };
        let ambiguous = |other: &str| {
            let origin = server.password_source().map(ToString::to_string).unwrap_or_default();
            Error::refused(format!(
                "{side} has a password in {origin}, and {other} is asked for too: keep one"
            ))
        };
        match (self.login, secret) {
            (Login::Entra, _) if server.password_source().is_some() => {
                Err(ambiguous("--login entra"))
            }
            (Login::Entra, _) if !server.hides_passwords() => Err(Error::refused(format!(
                "--login entra sends a token to {side}, which others could read on the way: put \
                 sslmode=verify-full (at least require) into its URL"
            ))),
            (Login::Entra, _) => {
                let source = Arc::new(EntraToken(self.identity().credential()?));
                Ok(server.with_password(Password::new(Origin::Entra, source)))
            }
            (Login::Password, Some(secret)) if server.password_source().is_some() => {
                Err(ambiguous(&secret.to_string()))
            }
            (Login::Password, Some(secret)) => {
                let origin = Origin::KeyVault(secret.to_string());
                Ok(server.with_password(Password::new(origin, Arc::new(secret))))
            }
            (Login::Password, None) => from_password_file(server),
        }
    }
}

/// A server whose secret holds all of its URL. The password in it is read again when it is refused;
/// the rest stays as it was when the process began.
async fn whole_url(
    side: Side,
    secret: &VaultSecret,
    in_environment: Option<SecretString>,
) -> Result<Server> {
    let read = secret.read().await?;
    let server = Server::parse(side, read.value.expose_secret(), None).map_err(|error| {
        Error::refused(format!(
            "{secret} was to hold the whole URL of {side}, since --{side} is not set, but it does \
             not: {error}"
        ))
    })?;
    if in_environment.is_some() {
        return Err(Error::refused(format!(
            "{side} has a password in {}, and {secret} is named too: keep one",
            side.password_variable()
        )));
    }
    if server.password_source().is_none() {
        return Err(Error::refused(format!(
            "{secret} holds a URL without a password: put the password into it"
        )));
    }
    let source = UrlPassword { side, secret: secret.clone() };
    let origin = Origin::KeyVault(secret.to_string());
    Ok(server.with_password(Password::new(origin, Arc::new(source))))
}

/// libpq's password file, for a desk: only where no other place has a password.
fn from_password_file(server: Server) -> Result<Server> {
    let found = find_in_pgpass(server.host(), server.port(), server.database(), server.user())?;
    match (server.password_source(), found) {
        (_, None) => Ok(server),
        (Some(origin), Some((path, _))) => {
            tracing::warn!(
                "the password of {} is taken from {origin}; the one in {} is not used",
                server.side(),
                path.display()
            );
            Ok(server)
        }
        (None, Some((path, password))) => {
            let from = format!("the password file {}", path.display());
            tracing::info!("the password of {} is taken from {from}", server.side());
            Ok(server.with_password(FixedPassword::new(from, password)))
        }
    }
}

/// The password in a URL that a secret holds.
struct UrlPassword {
    side: Side,
    secret: VaultSecret,
}

impl SecretSource for UrlPassword {
    fn read(&self) -> BoxFuture<'_, Result<Secret>> {
        Box::pin(async {
            let Secret { value, keep } = self.secret.read().await?;
            let server = Server::parse(self.side, value.expose_secret(), None)?;
            match server.password().await? {
                Some(value) => Ok(Secret { value, keep }),
                None => Err(Error::refused(format!(
                    "{} holds a URL without a password: put the password into it",
                    self.secret
                ))),
            }
        })
    }
}
