//! The app as it is packaged, with the program under test.

use std::path::Path;

/// Lays the app out in an empty folder.
pub(crate) fn package(folder: &Path) {
    deltacompare_testbed::layout(Path::new(env!("CARGO_BIN_EXE_deltacompare")), folder).unwrap();
}
