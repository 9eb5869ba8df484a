//! The same behaviour on every PostgreSQL that is supported.

use deltacompare_testbed::Postgres;

/// The PostgreSQL of this major, if the test is to run on it: only that of
/// `DELTACOMPARE_TEST_PG_MAJOR`, if it is set; else every one that is installed, and 15 must be.
pub(crate) fn postgres_of(major: u32) -> Option<Postgres> {
    match std::env::var("DELTACOMPARE_TEST_PG_MAJOR") {
        Ok(only) if only != major.to_string() => None,
        Err(_) if major != 15 => {
            let found = Postgres::available().into_iter().find(|found| found.major() == major);
            if found.is_none() {
                println!("PostgreSQL {major} is not installed here: `scripts/setup {major}`");
            }
            found
        }
        _ => Some(Postgres::find(Some(major)).unwrap()),
    }
}
