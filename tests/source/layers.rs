//! The program's modules are layers: each imports only from those below it, and what a folder has
//! imports in no circle. docs/architecture.md says what each is for.

use std::path::{Path, PathBuf};

use crate::imports::{Import, Tree};

/// From the top.
const LAYERS: [&str; 18] = [
    "cli",
    "app",
    "config",
    "assessment",
    "recovery",
    "preflight",
    "sink",
    "event",
    "fdw",
    "diff",
    "catalog",
    "azure",
    "secrets",
    "postgres",
    "telemetry",
    "model",
    "crypto",
    "error",
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Imports of a module from one above it, as sentences; a module that is in no layer is told of too.
fn upward(tree: &Tree) -> Vec<String> {
    let layer = |module: &[String]| LAYERS.iter().position(|layer| *layer == module[0]);
    let strays = tree.modules().filter(|module| layer(module).is_none());
    let mut found: Vec<String> =
        strays.map(|module| format!("{} is in no layer", module.join("::"))).collect();
    let imports = tree.imports();
    found.extend(
        imports
            .iter()
            // The crate's root only lists modules.
            .filter(|import| !import.from.is_empty() && !import.to.is_empty())
            .filter(|import| layer(&import.from) > layer(&import.to))
            .map(said),
    );
    found
}

fn said(import: &Import) -> String {
    format!("{} imports {}", import.from.join("::"), import.path)
}

fn circles(tree: &Tree) -> Vec<Vec<String>> {
    let circles = tree.circles(&[]);
    circles.iter().map(|circle| circle.iter().map(said).collect()).collect()
}

#[test]
fn no_layer_imports_from_one_above_it() {
    let tree = Tree::read(&folder("src"));
    assert!(tree.modules().count() > 150 && tree.imports().len() > 800);
    let found = upward(&tree);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn what_a_folder_has_imports_in_no_circle() {
    for crate_root in ["src", "testbed/src", "testbed/src/bin/demo", "testbed/src/bin/bench"] {
        let found = circles(&Tree::read(&folder(crate_root)));
        assert!(found.is_empty(), "{crate_root}: {found:#?}");
    }
}

/// A tree of two layers with this in `postgres/session.rs`.
fn with(code: &str) -> Vec<String> {
    let files = [
        ("recovery/mod.rs", "mod store; pub use store::Store;"),
        ("recovery/store.rs", "pub struct Store;"),
        ("postgres/mod.rs", "mod session;"),
        ("postgres/session.rs", code),
        ("model.rs", "pub struct Lsn;"),
    ];
    upward(&Tree::of(files))
}

#[test]
fn an_upward_import_is_found_however_it_is_written() {
    for code in [
        "use crate::recovery::Store;",
        "use std::fmt; use crate::{model::Lsn, recovery::{self, Store as S}};",
        "use super::super::recovery::store::Store;",
        "use crate::recovery::*;",
        "pub(crate) fn f() -> crate::recovery::Store { g() }",
        "fn f() { println!(\"{}\", crate::recovery::store::NAME); }",
        "mod inner { use super::super::super::recovery::Store; }",
        "fn f() { use deltacompare::recovery::Store; }",
        "#[cfg(test)] mod tests {} use crate::recovery::Store;",
        "#[cfg(test)] use std::fmt; use crate::recovery::Store;",
    ] {
        assert!(!with(code).is_empty(), "{code}");
    }
}

#[test]
fn what_is_no_upward_import_is_none() {
    for code in [
        "use crate::model::Lsn;",
        "// use crate::recovery::Store;\n/* crate::recovery */ /// [`crate::recovery::Store`]\nfn f() {}",
        "const TEXT: &str = \"use crate::recovery::Store;\";",
        "#[cfg(test)] mod tests { use crate::recovery::Store; }",
        "use recovery::Store; fn f() { recovery::run(); }",
    ] {
        assert_eq!(with(code), [""; 0], "{code}");
    }
}

#[test]
fn a_module_that_is_in_no_layer_is_told_of() {
    assert_eq!(upward(&Tree::of([("utils.rs", "")])), ["utils is in no layer"]);
}

#[test]
fn circles_are_found_at_each_level_and_through_re_exports() {
    let files = [
        ("event/mod.rs", "mod a; mod b; mod c; pub use b::B; use a::A;"),
        ("event/a.rs", "use super::B; pub struct A;"),
        ("event/b/mod.rs", "mod inner; pub use inner::B;"),
        ("event/b/inner.rs", "use crate::event::c; pub struct B;"),
        ("event/c.rs", "fn f() { super::a::g() }"),
        ("event/d.rs", "use super::a::A;"),
    ];
    let circle = &circles(&Tree::of(files))[..];
    assert_eq!(
        circle,
        [[
            "event::a imports super::B",
            "event::b::inner imports crate::event::c",
            "event::c imports super::a::g"
        ]]
    );
    // A folder and its own parts are one.
    let files =
        [("event/mod.rs", "mod a; use a::A; pub struct E;"), ("event/a.rs", "use super::E;")];
    assert!(circles(&Tree::of(files)).is_empty());
    // A file of unit tests may use what it likes.
    let files = [
        ("event/mod.rs", "#[cfg(test)] mod a; mod b;"),
        ("event/a.rs", "use super::b::B;"),
        ("event/b.rs", "#[cfg(test)] mod tests { use super::super::a::A; }"),
    ];
    assert!(circles(&Tree::of(files)).is_empty());
}
