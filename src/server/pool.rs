//! Sessions that are kept for many short transactions.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::Connection;
use sqlx::postgres::{PgPool, PgPoolOptions};

use super::{Server, pin_later_settings};
use crate::error::Result;
use crate::secrets::Origin;

/// How soon a pool takes over a password that was read anew.
const RENEW_EVERY: Duration = Duration::from_secs(5);

impl Server {
    /// Opens a pool of sessions with the pinned settings. Its later sessions log in with the
    /// password of their time: one that was changed, or a token that was renewed, is taken over
    /// within seconds of being known. All are opened at once, and kept, so that few have to: one
    /// that is refused in these seconds is transient trouble.
    ///
    /// # Errors
    /// As [`Server::connect`].
    pub(crate) async fn pool(&self, application_name: &str, sessions: u32) -> Result<PgPool> {
        // Says what is wrong in our own words, and reads a changed password.
        self.connect(application_name).await?.close().await?;
        let options = |password: Option<&SecretString>| {
            self.options(password).application_name(application_name)
        };
        let mut used = self.password().await?;
        let pool = PgPoolOptions::new()
            .min_connections(sessions)
            .max_connections(sessions)
            .acquire_timeout(Duration::from_secs(30))
            .max_lifetime(None)
            .after_connect(|connection, _| Box::pin(pin_later_settings(connection)))
            .connect_with(options(used.as_ref()))
            .await?;
        if self.password_origin().is_some_and(Origin::changes) {
            let (server, pool, name) = (self.clone(), pool.clone(), application_name.to_owned());
            tokio::spawn(async move {
                let closed = pool.close_event();
                let renewing = async {
                    loop {
                        tokio::time::sleep(RENEW_EVERY).await;
                        // One broke, and may not be let in again: reads a changed password.
                        if pool.size() < sessions
                            && let Ok(session) = server.connect(&name).await
                        {
                            let _ = session.close().await;
                        }
                        let Ok(password) = server.password().await else { continue };
                        if !same(used.as_ref(), password.as_ref()) {
                            pool.set_connect_options(
                                server.options(password.as_ref()).application_name(&name),
                            );
                            used = password;
                        }
                    }
                };
                tokio::select! {
                    () = closed => {}
                    () = renewing => {}
                }
            });
        }
        Ok(pool)
    }
}

fn same(one: Option<&SecretString>, other: Option<&SecretString>) -> bool {
    one.map(SecretString::expose_secret) == other.map(SecretString::expose_secret)
}
