//! What the README promises.

use deltacompare_testbed::{Options, Postgres, Production, Role};

use crate::support::{Gap, assert_events_turn_base_into_head, deltacompare, skip, url};

const README: &str = include_str!("../../README.md");

/// The SQL under "On base:" or "On head:".
fn sql(after: &str) -> &'static str {
    let (_, rest) = README.split_once(&format!("\n{after}\n```sql\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// A table with a key, one without, a filtered one, a parent with a child: each is read otherwise.
const SHOP: &str = r#"
    create table customer (id int primary key, name text, vip boolean not null);
    create table log (message text);
    create table vehicle (id int primary key, name text);
    create table lorry (load int) inherits (vehicle);
    alter table lorry add primary key (id);
    create publication shop for table customer where (vip), log, only vehicle, only lorry;
    alter table customer replica identity full;
    insert into customer select i, 'customer ' || i, i % 2 = 0 from generate_series(1, 20) i;
    insert into log select 'message ' || i / 2 from generate_series(1, 20) i;
    insert into vehicle select i, 'car ' || i from generate_series(1, 5) i;
    insert into lorry select i, 'lorry ' || i, i from generate_series(11, 15) i;
"#;

const GAP: &str = r#"
    update customer set name = 'new' where id in (4, 5);
    insert into log values ('new'), ('message 3');
    delete from only vehicle where id = 2;
    update lorry set load = 100 where id = 12;
"#;

/// Base and head, where row filters are to be had with one.
async fn gap(postgres: &Postgres, more: &str) -> Gap {
    let production = Production::start(postgres, Options::default()).await.unwrap();
    // Row filters came with 15.
    let filters = postgres.major() >= 15;
    let shop = if filters { SHOP.to_owned() } else { SHOP.replace(" where (vip)", "") };
    production.sql(shop + more).await.unwrap();
    Gap::own_after(production, GAP).await
}

/// Recovers as the roles that the README creates.
async fn assert_recovers(gap: &Gap) {
    for strategy in ["auto", "full"] {
        let file = format!("ndjson:{{dir}}/{strategy}");
        let arguments = [
            "run",
            "--sink",
            &file,
            "--format",
            "landing",
            "--before",
            "full",
            "--strategy",
            strategy,
        ];
        let run = deltacompare(gap, &arguments)
            .env("DELTACOMPARE_BASE", &url(&gap.base, "recovery", "a secret"))
            .env("DELTACOMPARE_HEAD", &url(&gap.head, "recovery", "another secret"))
            .run()
            .await;
        run.assert_completed();
        assert!(!run.stderr.contains("not proved"), "{}", run.stderr);
        let events = run.events(strategy);
        assert_events_turn_base_into_head(gap, &["log"], &events).await;
        assert!(!events.of("customer").is_empty());
    }
}

async fn the_rights_in_the_readme_suffice() {
    let gap = gap(&Postgres::find(None).unwrap(), "").await;
    gap.base.sql(sql("On base:")).await.unwrap();
    gap.head.sql(sql("On head:")).await.unwrap();
    assert_recovers(&gap).await;
}

/// On Azure nobody is a superuser: the administrator has its rights as a member of a group, and
/// hands them on itself. Before 16 stock PostgreSQL lets only superusers hand on REPLICATION.
async fn an_administrator_can_hand_these_rights_on() {
    let Some(postgres) = Postgres::available().into_iter().find(|it| it.major() >= 16) else {
        skip("no PostgreSQL 16 or newer is installed: scripts/setup 16");
        return;
    };
    let as_on_azure = "
        create role azure_pg_admin;
        grant pg_read_all_data, pg_monitor to azure_pg_admin with admin option;
        revoke pg_read_all_data, pg_monitor, pg_signal_backend from azure_admin;
        grant azure_pg_admin to azure_admin;";
    let gap = gap(&postgres, as_on_azure).await;
    for (server, side) in [(&gap.base, "On base:"), (&gap.head, "On head:")] {
        let administrator = server.connect_as(Role::Admin).await.unwrap();
        let powers: bool = administrator
            .value(
                "select rolsuper or rolbypassrls from pg_roles where rolname = current_user",
                &[],
            )
            .await
            .unwrap();
        assert!(!powers);
        administrator.sql(sql(side)).await.unwrap();
        administrator.close().await.unwrap();
    }
    // What creating the extension brings on Azure is a superuser's to hand on here.
    gap.head.sql("grant usage on foreign data wrapper postgres_fdw to recovery").await.unwrap();
    assert_recovers(&gap).await;
}

tests! {
    the_rights_in_the_readme_suffice: own_servers majors,
    an_administrator_can_hand_these_rights_on: own_servers,
}
