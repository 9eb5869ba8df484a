//! The storage emulator.

use anyhow::Result;
use deltacompare_testbed::Azurite;
use tokio::net::TcpStream;

#[tokio::test]
async fn azurite_listens_on_ports_of_its_own_and_ends_with_its_owner() -> Result<()> {
    let (one, other) = tokio::task::spawn_blocking(|| (Azurite::start(), Azurite::start())).await?;
    let (one, other) = (one?, other?);
    assert_ne!(one.queue_url(), other.queue_url());
    assert!(other.connection_string().contains(&format!("QueueEndpoint={};", other.queue_url())));
    let address = one.queue_url().split('/').nth(2).unwrap_or_default().to_owned();
    TcpStream::connect(&address).await?;
    tokio::task::spawn_blocking(move || drop(one)).await?;
    assert!(TcpStream::connect(&address).await.is_err(), "{address} still listens");
    Ok(())
}
