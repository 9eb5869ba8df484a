//! TLS to both servers, and between them.

use std::path::Path;

use deltacompare::postgres::Side;
use deltacompare_testbed::{Interceptor, Options, Role, Server, Tls};

use crate::support::{Fingerprint, Gap, Program, Run, deltacompare};

const SHOP: &str = "create table t (id int primary key); insert into t values (1);
                    create publication p for table t;";

async fn gap(tls: Tls) -> Gap {
    let options = Options {
        tls,
        // Who logs in and how, in base's log.
        conf: vec!["log_connections = on".to_owned()],
        ..Options::default()
    };
    Gap::own(options, SHOP, "insert into t values (2)").await
}

/// A URL with other TLS parameters.
fn url(server: &Server, host: &str, mode: &str, authority: Option<&Path>) -> String {
    let own = server.url(Role::Admin);
    let address = own.split('?').next().unwrap().replace("127.0.0.1", host);
    let authority =
        authority.map(|path| format!("&sslrootcert={}", path.display())).unwrap_or_default();
    format!("{address}?sslmode={mode}{authority}")
}

/// A run with both servers under such URLs; its FDW options come on top.
fn program(gap: &Gap, host: &str, mode: &str, authority: Option<&Path>, fdw: &[&str]) -> Program {
    let arguments = ["run", "--sink", "delta-table", "--strategy", "full"];
    deltacompare(gap, &[&arguments[..], fdw].concat())
        .env("DELTACOMPARE_BASE", &url(&gap.base, host, mode, authority))
        .env("DELTACOMPARE_HEAD", &url(&gap.head, host, mode, authority))
}

async fn assert_refused(gap: &Gap, program: Program, words: &[&str]) -> Run {
    let (base, head) = Fingerprint::of_both(gap).await;
    let run = program.run().await;
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    for word in words {
        assert!(run.stderr.contains(word), "{word:?} is not in:\n{}", run.stderr);
    }
    base.assert_same(&Fingerprint::of(&gap.base).await, "base");
    head.assert_same(&Fingerprint::of(&gap.head).await, "head");
    run
}

/// Logins that base has logged since `from` of head's throw-away role, and whether by TLS.
fn heads_logins(log: &str, from: usize) -> Vec<bool> {
    log[from..]
        .lines()
        .filter(|line| line.contains("connection authorized: user=deltacompare_"))
        .map(|line| line.contains("SSL enabled"))
        .collect()
}

async fn every_mode_between_all_three() {
    let gap = gap(Tls::Offered).await;
    let authority = gap.base.ca_pem_path().unwrap().to_owned();
    let ca = Some(authority.as_path());
    let on_head = format!("sslrootcert={}", authority.display());
    let on_head = ["--fdw", on_head.as_str()];
    let verified = format!("host=localhost,sslmode=verify-full,{}", on_head[1]);
    for (host, mode, with_ca, fdw, encrypted) in [
        ("127.0.0.1", "disable", None, &[][..], false),
        ("127.0.0.1", "prefer", None, &[], true),
        ("127.0.0.1", "require", None, &[], true),
        ("127.0.0.1", "verify-ca", ca, &on_head, true),
        ("localhost", "verify-full", ca, &on_head, true),
        // Between the servers it need not be as between us and them.
        ("127.0.0.1", "verify-full", ca, &["--fdw", "sslmode=disable"], false),
        (
            "127.0.0.1",
            "disable",
            None,
            // libpq 14 knows no addresses in certificates.
            &["--fdw", &verified],
            true,
        ),
    ] {
        let from = gap.base.log().len();
        program(&gap, host, mode, with_ca, fdw).run().await.assert_completed();
        let log = gap.base.log();
        let logins = heads_logins(&log, from);
        assert!(!logins.is_empty(), "{}", &log[from..]);
        assert!(logins.iter().all(|tls| *tls == encrypted), "{mode} {fdw:?}: {}", &log[from..]);
        let ours: Vec<&str> = log[from..]
            .lines()
            .filter(|line| line.contains("connection authorized: user=azure_admin"))
            .collect();
        assert!(
            ours.iter().all(|line| line.contains("SSL enabled") == (mode != "disable")),
            "{ours:#?}"
        );
    }
}

async fn certificates_that_are_not_trusted() {
    let gap = gap(Tls::Required).await;
    let authority = gap.base.ca_pem_path().unwrap().to_owned();
    let ca = Some(authority.as_path());
    let on_head = format!("sslrootcert={}", authority.display());
    let on_head = ["--fdw", on_head.as_str()];
    let other = tempfile::tempdir().unwrap();
    let stranger = other.path().join("ca.pem");
    let certificate = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-subj", "/CN=stranger", "-days", "2", "-keyout", "/dev/null", "-out"])
        .arg(&stranger)
        .output()
        .expect("openssl makes a certificate");
    assert!(certificate.status.success(), "{certificate:?}");
    // The servers' account must be able to read it.
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(other.path(), std::fs::Permissions::from_mode(0o755)).unwrap();

    // From us to the servers.
    let advice = "check sslmode and sslrootcert in the URL";
    for mode in ["verify-ca", "verify-full"] {
        let wrong = program(&gap, "127.0.0.1", mode, Some(&stranger), &[]);
        assert_refused(&gap, wrong, &["cannot log in to", mode, advice]).await;
        let none = program(&gap, "127.0.0.1", mode, None, &[]);
        assert_refused(&gap, none, &["cannot log in to", mode, advice]).await;
        let missing = program(&gap, "127.0.0.1", mode, Some(Path::new("/nosuch/ca.pem")), &[]);
        assert_refused(&gap, missing, &["/nosuch/ca.pem", "sslrootcert of the"]).await;
    }
    let plain = program(&gap, "127.0.0.1", "disable", None, &[]);
    assert_refused(&gap, plain, &["no encryption", "pg_hba.conf", "firewall"]).await;
    // Another way to write 127.0.0.1, which the certificate is not for.
    let elsewhere = program(&gap, "127.1", "verify-full", ca, &[]);
    assert_refused(&gap, elsewhere, &["cannot log in to", advice]).await;

    // From head to base.
    for mode in ["verify-ca", "verify-full"] {
        let port = gap.base.port().to_string();
        let tried = format!("host 127.0.0.1, port {port}, database shop, sslmode {mode}");
        if mode == "verify-ca" || deltacompare_testbed::Postgres::find(None).unwrap().major() < 16 {
            let none = program(&gap, "127.0.0.1", mode, ca, &[]);
            let words = [mode, "--fdw sslrootcert=…", "--fdw sslmode=require"];
            assert_refused(&gap, none, &words).await;
        }
        let fdw = format!("sslrootcert={}", stranger.display());
        let fdw = ["--fdw", fdw.as_str()];
        let wrong = program(&gap, "127.0.0.1", mode, ca, &fdw);
        assert_refused(&gap, wrong, &[&tried, "certificate verify failed"]).await;
        let fdw = ["--fdw", "sslrootcert=/nosuch/ca.pem"];
        let missing = program(&gap, "127.0.0.1", mode, ca, &fdw);
        assert_refused(&gap, missing, &[&tried, "/nosuch/ca.pem"]).await;
    }
    let fdw = ["--fdw", "sslmode=disable"];
    let plain = program(&gap, "127.0.0.1", "verify-full", ca, &fdw);
    assert_refused(&gap, plain, &["sslmode disable", "pg_hba.conf"]).await;
    // As it should be, it works, and the sessions are encrypted.
    program(&gap, "localhost", "verify-full", ca, &on_head).run().await.assert_completed();
}

/// With `require` anybody's certificate will do, so somebody in between could read along and log in:
/// but the proof of the password is made for the certificate that the program saw.
async fn a_login_is_bound_to_the_servers_certificate() {
    let gap = gap(Tls::Required).await;
    let between = Interceptor::before(&gap.base).await.unwrap();
    let own = url(&gap.base, "127.0.0.1", "require", None);
    let intercepted = own.replace(&gap.base.port().to_string(), &between.port().to_string());
    let connect = async |url: &str| {
        let server = deltacompare::postgres::Server::parse(Side::Base, url, None).unwrap();
        server.connect("deltacompare verify").await
    };
    let error = connect(&intercepted).await.unwrap_err().to_string();
    assert!(error.contains("channel binding"), "{error}");
    connect(&own).await.unwrap().close().await;
}

tests! {
    a_login_is_bound_to_the_servers_certificate: own_servers,
    every_mode_between_all_three: own_servers,
    certificates_that_are_not_trusted: own_servers,
}
