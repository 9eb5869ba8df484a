//! What a restored pair is like.

use anyhow::Result;
use deltacompare_testbed::{Options, Role, Server};
use pgwire_replication::ReplicationClient;
use pgwire_replication::config::{ReplicationConfig, TlsConfig};

use crate::gap;

/// `IDENTIFY_SYSTEM` and `TIMELINE_HISTORY` as `azure_admin`: system identifier, timeline, history.
pub(crate) async fn lineage(server: &Server) -> Result<(String, u32, String)> {
    let config = ReplicationConfig::new(
        server.host(),
        Role::Admin.name(),
        server.password(Role::Admin),
        server.database(),
        "unused",
        "unused",
    )
    .with_port(server.port())
    .with_tls(match server.ca_pem_path() {
        None => TlsConfig::disabled(),
        Some(path) => TlsConfig::verify_full(Some(path.to_owned())).with_sni_hostname("localhost"),
    });
    let mut client = ReplicationClient::connect_gated(config).await?;
    let system = client.identify_system().await?;
    let history = client.timeline_history(system.timeline).await?;
    let text = String::from_utf8(history.content.to_vec())?;
    client.abort();
    Ok((system.system_id, system.timeline, text))
}

#[tokio::test]
async fn each_side_holds_what_was_committed_at_its_point() -> Result<()> {
    let (production, lost, back) = gap(Options::default()).await?;
    let (base, head) = tokio::try_join!(production.restore(&lost), production.restore(&back))?;

    for (server, ids) in [(&base, vec![(1,)]), (&head, vec![(1,), (2,)])] {
        assert_eq!(server.rows::<(i32,)>("select id from t order by id").await?, ids);
    }

    let id = "select system_identifier::text from pg_control_system()";
    let ours: String = production.value(id).await?;
    for (server, point) in [(&base, &lost), (&head, &back)] {
        let (system, timeline, history) = lineage(server).await?;
        assert_eq!((system.as_str(), timeline), (ours.as_str(), 2));
        let last = history.lines().last().expect("a line a timeline").to_owned();
        let mut words = last.split('\t');
        assert_eq!(words.next(), Some("1"));
        assert_eq!(words.next(), Some(point.lsn.as_str()), "it ended where the point is");
    }
    Ok(())
}

#[tokio::test]
async fn a_restore_is_untouched_and_writable() -> Result<()> {
    let (production, lost, _) = gap(Options::default()).await?;
    let base = production.restore(&lost).await?;
    let written = "select n_tup_ins + n_tup_upd + n_tup_del from pg_stat_user_tables";
    assert_eq!(base.value::<i64>(written).await?, 0);
    assert!(!base.value::<bool>("select pg_is_in_recovery()").await?);
    base.sql("insert into t values (4)").await?;
    Ok(())
}

#[tokio::test]
async fn the_admin_is_no_superuser_but_reads_all_and_owns_the_database() -> Result<()> {
    let (production, lost, _) = gap(Options::default()).await?;
    let base = production.restore(&lost).await?;
    let admin = base.connect_as(Role::Admin).await?;
    let rows: i64 = admin.value("select count(*) from public.t", &[]).await?;
    assert_eq!(rows, 1);
    assert!(admin.sql("insert into public.t values (9)").await.is_err());
    assert!(admin.sql("create extension postgres_fdw").await.is_err());
    admin.sql("create schema own").await?;

    base.allow_postgres_fdw().await?;
    admin.sql("create server s foreign data wrapper postgres_fdw").await?;
    Ok(())
}

#[tokio::test]
async fn the_head_reads_the_base_over_fdw_as_the_admin() -> Result<()> {
    for tls in [deltacompare_testbed::Tls::Off, deltacompare_testbed::Tls::Required] {
        let (production, lost, back) = gap(Options { tls, ..Options::default() }).await?;
        let (base, head) = tokio::try_join!(production.restore(&lost), production.restore(&back))?;
        head.allow_postgres_fdw().await?;
        let admin = head.connect_as(Role::Admin).await?;
        let ssl = base.ca_pem_path().map_or_else(
            || "sslmode 'disable'".to_owned(),
            |path| format!("sslmode 'verify-full', sslrootcert '{}'", path.display()),
        );
        let link = format!(
            "create schema far;
             create server base foreign data wrapper postgres_fdw
                options (host '{}', port '{}', dbname '{}', {ssl});
             create user mapping for current_user server base
                options (user '{}', password '{}');
             import foreign schema public limit to (t) from server base into far",
            base.host(),
            base.port(),
            base.database(),
            Role::Admin.name(),
            base.password(Role::Admin),
        );
        admin.sql(&link).await?;
        let ids: Vec<i32> = admin.values("select id from far.t", &[]).await?;
        assert_eq!(ids, [1]);
    }
    Ok(())
}

#[tokio::test]
async fn two_productions_are_two_systems() -> Result<()> {
    let own = || Options { own_identifier: true, ..Options::default() };
    let ((one, ..), (two, ..)) = tokio::try_join!(gap(own()), gap(own()))?;
    let id = "select system_identifier from pg_control_system()";
    assert_ne!(one.value::<i64>(id).await?, two.value::<i64>(id).await?);
    Ok(())
}
