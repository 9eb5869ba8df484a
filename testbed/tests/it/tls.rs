//! Servers that speak TLS.

use anyhow::Result;
use deltacompare_testbed::{Connection, Options, Role, Tls};

use crate::{gap, pair};

const IS_TLS: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

#[tokio::test]
async fn a_restore_proves_its_name_to_a_client_that_verifies_fully() -> Result<()> {
    let (production, lost, _) = gap(Options { tls: Tls::Required, ..Options::default() }).await?;
    let base = production.restore(&lost).await?;
    for role in [Role::Superuser, Role::Admin] {
        assert!(base.url(role).contains("sslmode=verify-full"));
        let connection = base.connect_as(role).await?;
        assert!(connection.value::<bool>(IS_TLS, &[]).await?);
        let by_name = base.url(role).replace("@127.0.0.1:", "@localhost:");
        Connection::open(&by_name).await?;
    }
    assert_eq!(pair::lineage(&base).await?.1, 2);

    let url = base.url(Role::Admin);
    let plain = url.replace("sslmode=verify-full", "sslmode=disable");
    assert!(Connection::open(&plain).await.is_err(), "plain connections are refused");
    let (stranger, ..) = url.split_once("&sslrootcert").unwrap();
    assert!(Connection::open(stranger).await.is_err(), "the authority is nobody else's");
    Ok(())
}

#[tokio::test]
async fn a_server_that_offers_tls_takes_plain_connections_too() -> Result<()> {
    let (production, ..) = gap(Options { tls: Tls::Offered, ..Options::default() }).await?;
    let url = production.url(Role::Admin);
    for (url, tls) in [(url.replace("verify-full", "disable"), false), (url, true)] {
        let connection = Connection::open(&url).await?;
        let is: bool = connection.value(IS_TLS, &[]).await?;
        assert_eq!(is, tls);
    }
    Ok(())
}
