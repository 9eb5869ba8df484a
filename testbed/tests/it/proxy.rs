//! Trouble in the network.

use std::time::Duration;

use anyhow::Result;
use deltacompare_testbed::Proxy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that sends back what it gets; its port.
async fn echo() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = client.split();
                tokio::io::copy(&mut from, &mut to).await
            });
        }
    });
    Ok(port)
}

async fn ask(connection: &mut TcpStream, word: &str) -> Result<String> {
    connection.write_all(word.as_bytes()).await?;
    let mut answer = vec![0; word.len()];
    connection.read_exact(&mut answer).await?;
    Ok(String::from_utf8(answer)?)
}

#[tokio::test]
async fn connections_stall_break_and_heal() -> Result<()> {
    let proxy = Proxy::to(echo().await?).await?;
    let connect = || TcpStream::connect(("127.0.0.1", proxy.port()));
    let mut first = connect().await?;
    assert_eq!(ask(&mut first, "through").await?, "through");

    proxy.stall();
    let silence = tokio::time::timeout(Duration::from_millis(300), ask(&mut first, "held")).await;
    assert!(silence.is_err(), "{silence:?}");
    proxy.heal();
    let mut held = [0; 4];
    first.read_exact(&mut held).await?;
    assert_eq!(&held, b"held");

    proxy.drop_connections();
    assert!(ask(&mut first, "broken").await.is_err());
    let mut second = connect().await?;
    assert_eq!(ask(&mut second, "new").await?, "new");
    assert_eq!((proxy.opened(), proxy.open(), proxy.most()), (2, 1, 1));

    proxy.cut();
    assert!(ask(&mut second, "broken").await.is_err());
    let refused = async { ask(&mut connect().await?, "refused").await };
    assert!(refused.await.is_err());
    proxy.heal();
    assert_eq!(ask(&mut connect().await?, "healed").await?, "healed");
    Ok(())
}
