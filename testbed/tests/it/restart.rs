//! Servers that stop, crash, and come back.

use anyhow::Result;
use deltacompare_testbed::{Options, Postgres, Production, StopMode};

use crate::gap;

#[tokio::test]
async fn a_restore_comes_back_on_its_port_after_a_clean_stop_and_a_crash() -> Result<()> {
    let (production, lost, _) = gap(Options::default()).await?;
    let base = production.restore(&lost).await?;
    let port = base.port();
    for (mode, says) in
        [(StopMode::Fast, "was shut down at"), (StopMode::Immediate, "was interrupted")]
    {
        let before = base.log().len();
        base.stop(mode).await?;
        assert_eq!(base.pid(), None);
        assert!(base.connect().await.is_err());
        base.stop(mode).await?;
        base.start().await?;
        base.start().await?;
        assert_eq!(base.port(), port);
        assert!(base.log()[before..].contains(says), "{}", &base.log()[before..]);
        assert_eq!(base.value::<i64>("select count(*) from t").await?, 1);
    }
    Ok(())
}

#[tokio::test]
async fn production_archives_on_after_a_crash() -> Result<()> {
    let (production, ..) = gap(Options::default()).await?;
    production.stop(StopMode::Immediate).await?;
    production.start().await?;
    production.sql("insert into t values (4)").await?;
    let late = production.restore_point("late").await?;
    let head = production.restore(&late).await?;
    assert_eq!(head.value::<i64>("select count(*) from t").await?, 4);
    Ok(())
}

#[tokio::test]
async fn a_dropped_server_is_gone_and_so_is_its_folder() -> Result<()> {
    let (production, lost, _) = gap(Options::default()).await?;
    let base = production.restore(&lost).await?;
    let (pid, data) = (base.pid().unwrap(), base.data_dir().to_owned());
    drop(base);
    assert!(!data.exists() && !std::path::Path::new(&format!("/proc/{pid}")).exists());

    let folder = data.parent().unwrap().to_owned();
    assert!(folder.exists());
    drop(production);
    assert!(!folder.exists());
    Ok(())
}

#[tokio::test]
async fn settings_reach_production_and_its_restores() -> Result<()> {
    let conf = vec!["work_mem = '7MB'".to_owned()];
    let (production, lost, _) = gap(Options { conf, ..Options::default() }).await?;
    let base = production.restore(&lost).await?;
    for server in [&*production, &base] {
        assert_eq!(server.value::<String>("show work_mem").await?, "7MB");
    }
    Ok(())
}

#[tokio::test]
async fn pg_cron_runs_on_production_and_its_job_wakes_up_on_a_restore() -> Result<()> {
    let conf = vec![
        "shared_preload_libraries = 'pg_cron'".to_owned(),
        "cron.database_name = 'shop'".to_owned(),
    ];
    let postgres = Postgres::find(None)?;
    assert!(postgres.has_extension("pg_cron"), "run `scripts/setup`");
    let production = Production::start(&postgres, Options { conf, ..Options::default() }).await?;
    production.sql("create extension pg_cron").await?;
    production.base_backup().await?;
    production.sql("select cron.schedule('job', '* * * * *', 'select 1')").await?;
    let back = production.restore_point("back").await?;
    let head = production.restore(&back).await?;
    assert_eq!(head.value::<i64>("select count(*) from cron.job where active").await?, 1);
    let launchers = "select count(*) from pg_stat_activity where backend_type = 'pg_cron launcher'";
    assert_eq!(head.value::<i64>(launchers).await?, 1);
    Ok(())
}
