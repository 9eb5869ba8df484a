//! Passwords from Key Vault, through the official client and the App Service identity endpoint.

use std::time::Duration;

use deltacompare_testbed::{IdentityEndpoint, KeyVault, Options, Role, Server, Trouble};

use crate::support::{Gap, Program, deltacompare};

const BEFORE: &str = "create table t (id int primary key, v text);
                      create publication p for table t;
                      insert into t select i, 'old' from generate_series(1, 1000) i;";
const DURING: &str = "update t set v = 'new' where id % 2 = 0";

pub(super) struct Azure {
    pub(super) identity: IdentityEndpoint,
    pub(super) vault: KeyVault,
}

impl Azure {
    pub(super) async fn start(client_id: Option<&str>) -> Self {
        let identity = IdentityEndpoint::start(client_id).await.unwrap();
        let vault = KeyVault::start(identity.tokens()).await.unwrap();
        Self { identity, vault }
    }

    /// A program that has its passwords from the vault and from nowhere else.
    pub(super) fn program(&self, gap: &Gap, arguments: &[&str]) -> Program {
        let mut program = deltacompare(gap, arguments)
            .env("DELTACOMPARE_BASE", &without_password(&gap.base))
            .env("DELTACOMPARE_HEAD", &without_password(&gap.head))
            .env("DELTACOMPARE_BASE_SECRET", "base-password")
            .env("DELTACOMPARE_HEAD_SECRET", "head-password")
            .env("DELTACOMPARE_VAULT", &self.vault.url());
        for (name, value) in self.identity.environment().into_iter().chain(self.vault.environment())
        {
            program = program.env(name, &value);
        }
        program
    }
}

fn without_password(server: &Server) -> String {
    format!(
        "postgres://azure_admin@127.0.0.1:{}/{}?sslmode=disable",
        server.port(),
        server.database()
    )
}

async fn set_password(server: &Server, password: &str) {
    server.sql(format!("alter role azure_admin password '{password}'")).await.unwrap();
}

/// Base and head with these passwords, which the vault has.
pub(super) async fn gap(azure: &Azure) -> Gap {
    let gap = Gap::own(Options::default(), BEFORE, DURING).await;
    keep_passwords(azure, &gap).await;
    gap
}

/// Gives the two servers passwords that the vault has.
pub(super) async fn keep_passwords(azure: &Azure, gap: &Gap) {
    for (server, name) in [(&gap.base, "base-password"), (&gap.head, "head-password")] {
        let password = format!("{name}-Walrus9");
        set_password(server, &password).await;
        azure.vault.set(name, &password);
    }
}

const RUN: [&str; 5] = ["run", "--sink", "delta-table", "--report", "{dir}/report"];

async fn passwords_come_from_the_vault() {
    let azure = Azure::start(None).await;
    let gap = gap(&azure).await;
    let run = azure.program(&gap, &RUN).run().await;
    run.assert_completed();
    assert_eq!(run.counts("report", "public.t"), (0, 500, 0));
    // The token was for the vault, and each secret was read once in the whole run.
    assert_eq!(azure.identity.tokens().resources(), ["https://vault.test"]);
    assert_eq!(azure.vault.reads(), 2);
}

async fn a_pinned_version_stays_and_the_latest_is_the_default() {
    let azure = Azure::start(Some("11111111-2222-3333-4444-555555555555")).await;
    let gap = gap(&azure).await;
    let pinned = azure.vault.set("head-password", "head-password-Walrus9");
    azure.vault.set("head-password", "not-this-one");
    // A user-assigned identity has to be named.
    let unnamed = azure.program(&gap, &["plan"]).run().await;
    assert_eq!(unnamed.code, Some(2), "{}", unnamed.stderr);
    assert!(unnamed.stderr.contains("--identity"), "{}", unnamed.stderr);
    let named = |secret: &str| {
        azure
            .program(&gap, &["plan"])
            .env("DELTACOMPARE_IDENTITY_CLIENT_ID", "11111111-2222-3333-4444-555555555555")
            .env("DELTACOMPARE_HEAD_SECRET", secret)
    };
    let latest = named("head-password").run().await;
    assert_eq!(latest.code, Some(2), "{}", latest.stderr);
    assert!(latest.stderr.contains("password authentication failed"), "{}", latest.stderr);
    let pinned = named(&format!("head-password/{pinned}")).run().await;
    assert_eq!(pinned.code, Some(0), "{}", pinned.stderr);
}

async fn a_secret_may_hold_the_whole_url() {
    let azure = Azure::start(None).await;
    let gap = gap(&azure).await;
    let url = without_password(&gap.base);
    azure.vault.set("whole", &url.replace("azure_admin@", "azure_admin:base-password-Walrus9@"));
    let run = azure
        .program(&gap, &RUN)
        .env_remove("DELTACOMPARE_BASE")
        .env("DELTACOMPARE_BASE_SECRET", "whole")
        .run()
        .await;
    run.assert_completed();
    assert_eq!(run.counts("report", "public.t"), (0, 500, 0));
    // A secret that holds a password alone cannot do that.
    let refused = azure.program(&gap, &RUN).env_remove("DELTACOMPARE_BASE").run().await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--base is not set"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("Walrus9"), "{}", refused.stderr);
}

async fn a_password_may_change_in_the_middle() {
    let azure = Azure::start(None).await;
    let before = "create table t1 (id int primary key, v text);
                  create publication p for all tables;
                  insert into t1 select i, repeat('x', 2000) from generate_series(1, 30000) i;";
    let tables: Vec<String> = (2..=8)
        .map(|n| {
            format!("create table t{n} (like t1 including all); insert into t{n} select * from t1;")
        })
        .collect();
    let during = (1..=8).map(|n| format!("update t{n} set v = 'new';")).collect::<String>();
    let gap = Gap::own(Options::default(), &format!("{before}{}", tables.concat()), &during).await;
    for (server, name) in [(&gap.base, "base-password"), (&gap.head, "head-password")] {
        set_password(server, "first-Walrus9").await;
        azure.vault.set(name, "first-Walrus9");
    }
    let arguments = [&RUN[..], &["--parallel", "1"]].concat();
    let program = azure.program(&gap, &arguments);
    let rotate = async {
        // Once work has begun: both servers and the vault have another password.
        loop {
            let begun: Vec<(i64,)> = gap
                .head
                .rows("select count(*) from pg_tables where schemaname = 'deltacompare' and tablename = 'work_item'")
                .await
                .unwrap();
            if begun[0].0 > 0 {
                let running: Vec<(i64,)> = gap
                    .head
                    .rows("select count(*) from deltacompare.work_item where state <> 'pending'")
                    .await
                    .unwrap();
                if running[0].0 > 0 {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for server in [&gap.base, &gap.head] {
            set_password(server, "second-Walrus9").await;
        }
        // As a deployment does it: the vault has them later.
        tokio::time::sleep(Duration::from_secs(3)).await;
        for name in ["base-password", "head-password"] {
            azure.vault.set(name, "second-Walrus9");
        }
        let open: Vec<(i64,)> = gap
            .head
            .rows("select count(*) from deltacompare.work_item where state = 'pending'")
            .await
            .unwrap();
        open[0].0
    };
    let (run, open) = tokio::join!(program.run(), rotate);
    run.assert_completed();
    assert!(open > 0, "the passwords were changed too late to prove anything");
    for n in 1..=8 {
        assert_eq!(run.counts("report", &format!("public.t{n}")), (0, 30000, 0));
    }
    assert!(azure.vault.reads() >= 4, "{}", azure.vault.reads());
}

async fn each_trouble_with_the_vault_names_the_next_step() {
    let azure = Azure::start(None).await;
    let gap = gap(&azure).await;
    azure.vault.set("gone", "x");
    azure.vault.delete("gone");
    azure.vault.set("off", "x");
    azure.vault.disable("off");
    azure.vault.set("torn", "head-password-Walrus9\n");
    let refused = async |secret: &str, trouble: Option<Trouble>| {
        azure.vault.set_trouble(trouble);
        let run = azure.program(&gap, &RUN).env("DELTACOMPARE_HEAD_SECRET", secret).run().await;
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains(secret), "{}", run.stderr);
        run.stderr
    };
    for (secret, trouble, says) in [
        ("missing", None, "check the name"),
        ("gone", None, "az keyvault secret recover --name gone"),
        ("off", None, "enable it"),
        ("torn", None, "ends in a newline: store it without one"),
        ("base-password", Some(Trouble::Forbidden), "Key Vault Secrets User"),
        ("base-password", Some(Trouble::Firewall), "network rules"),
        ("base-password", Some(Trouble::Throttled), "try again in a minute"),
    ] {
        let said = refused(secret, trouble).await;
        assert!(said.contains(says), "{secret} {trouble:?}: {said}");
    }
    azure.vault.set_trouble(None);
    let unreachable =
        azure.program(&gap, &RUN).env("HTTPS_PROXY", "http://127.0.0.1:1").run().await;
    assert_eq!(unreachable.code, Some(2), "{}", unreachable.stderr);
    assert!(unreachable.stderr.contains("may reach it"), "{}", unreachable.stderr);
    azure.identity.tokens().set_broken(true);
    let no_token = azure.program(&gap, &RUN).run().await;
    assert_eq!(no_token.code, Some(2), "{}", no_token.stderr);
    // Nothing was changed by any of these.
    let schemas: Vec<(i64,)> = gap
        .head
        .rows("select count(*) from pg_namespace where nspname like 'deltacompare%'")
        .await
        .unwrap();
    assert_eq!(schemas[0].0, 0);
}

async fn two_places_for_a_password_are_refused() {
    let azure = Azure::start(None).await;
    let gap = gap(&azure).await;
    for (name, value) in [
        ("DELTACOMPARE_BASE_PASSWORD", "base-password-Walrus9".to_owned()),
        ("DELTACOMPARE_BASE", gap.base.url(Role::Admin)),
        ("DELTACOMPARE_LOGIN", "entra".to_owned()),
    ] {
        let run = azure.program(&gap, &RUN).env(name, &value).run().await;
        assert_eq!(run.code, Some(2), "{name}: {}", run.stderr);
        assert!(run.stderr.contains("keep one"), "{name}: {}", run.stderr);
    }
    // A secret with the whole URL is a place for one too.
    let whole = azure
        .program(&gap, &RUN)
        .env_remove("DELTACOMPARE_BASE")
        .env("DELTACOMPARE_LOGIN", "entra")
        .run()
        .await;
    assert_eq!(whole.code, Some(2), "{}", whole.stderr);
    assert!(whole.stderr.contains("keep one, and name the server"), "{}", whole.stderr);
    let no_vault = azure.program(&gap, &RUN).env_remove("DELTACOMPARE_VAULT").run().await;
    assert_eq!(no_vault.code, Some(2), "{}", no_vault.stderr);
    assert!(no_vault.stderr.contains("--vault"), "{}", no_vault.stderr);
}

async fn a_token_is_not_sent_where_others_could_read_it() {
    let azure = Azure::start(None).await;
    let gap = gap(&azure).await;
    for mode in ["disable", "prefer"] {
        let run = azure
            .program(&gap, &RUN)
            .env("DELTACOMPARE_LOGIN", "entra")
            .env("DELTACOMPARE_BASE", &format!("postgres://u@db.example.com/shop?sslmode={mode}"))
            .env_remove("DELTACOMPARE_BASE_SECRET")
            .env_remove("DELTACOMPARE_HEAD_SECRET")
            .run()
            .await;
        assert_eq!(run.code, Some(2), "{}", run.stderr);
        assert!(run.stderr.contains("put sslmode=verify-full"), "{}", run.stderr);
    }
}

async fn a_desk_may_use_a_password_file() {
    let gap = Gap::own(Options::default(), BEFORE, DURING).await;
    for server in [&gap.base, &gap.head] {
        set_password(server, "file-Walrus9").await;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pgpass");
    let lines: String = [&gap.base, &gap.head]
        .map(|server| format!("127.0.0.1:{}:*:azure_admin:file-Walrus9\n", server.port()))
        .concat();
    std::fs::write(&file, lines).unwrap();
    let plan = || {
        deltacompare(&gap, &["plan"])
            .env("PGPASSFILE", file.to_str().unwrap())
            .env("DELTACOMPARE_BASE", &without_password(&gap.base))
            .env("DELTACOMPARE_HEAD", &without_password(&gap.head))
    };
    let mode = |mode| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o644);
    let open = plan().run().await;
    assert_eq!(open.code, Some(2), "{}", open.stderr);
    assert!(open.stderr.contains("chmod 600"), "{}", open.stderr);
    mode(0o600);
    plan().run().await.assert_completed();
    // The environment wins, and says so.
    let both = plan()
        .env("DELTACOMPARE_BASE_PASSWORD", "file-Walrus9")
        .env("DELTACOMPARE_HEAD_PASSWORD", "file-Walrus9")
        .run()
        .await;
    both.assert_completed();
    assert!(both.stderr.contains("DELTACOMPARE_BASE_PASSWORD; the one in"), "{}", both.stderr);
}

async fn a_token_serves_as_password() {
    let azure = Azure::start(None).await;
    let gap = Gap::own(Options::default(), BEFORE, DURING).await;
    // Stock PostgreSQL cannot check tokens, so the token is made the role's password.
    azure.identity.tokens().issue("token-Walrus9");
    for server in [&gap.base, &gap.head] {
        set_password(server, "token-Walrus9").await;
    }
    let run = azure
        .program(&gap, &[&RUN[..], &["--strategy", "full"]].concat())
        .env("DELTACOMPARE_LOGIN", "entra")
        .env_remove("DELTACOMPARE_VAULT")
        .env_remove("DELTACOMPARE_BASE_SECRET")
        .env_remove("DELTACOMPARE_HEAD_SECRET")
        .run()
        .await;
    run.assert_completed();
    assert_eq!(run.counts("report", "public.t"), (0, 500, 0));
    let resources = azure.identity.tokens().resources();
    assert_eq!(resources, ["https://ossrdbms-aad.database.windows.net"]);
}

tests! {
    passwords_come_from_the_vault: own_servers,
    a_pinned_version_stays_and_the_latest_is_the_default: own_servers,
    a_secret_may_hold_the_whole_url: own_servers,
    a_password_may_change_in_the_middle: own_servers,
    each_trouble_with_the_vault_names_the_next_step: own_servers,
    two_places_for_a_password_are_refused: own_servers,
    a_token_is_not_sent_where_others_could_read_it: own_servers,
    a_desk_may_use_a_password_file: own_servers,
    a_token_serves_as_password: own_servers,
}
