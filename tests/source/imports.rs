//! Which modules of a source tree import which, by the tokens of its files: `use` declarations with
//! their groups, and paths in code and in macros. Comments, strings and unit tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module's place in its crate: `["recovery", "store"]`.
pub(crate) type Module = Vec<String>;

/// The modules of a crate.
#[derive(Default)]
pub(crate) struct Tree(BTreeMap<Module, Names>);

/// What the file of a module names.
#[derive(Default)]
struct Names {
    /// Each with the module that names it, which may be one within the file.
    paths: Vec<(Module, Vec<String>)>,
    /// The paths of `pub use`: an import of such a name is one from where it is defined.
    exported: Vec<Vec<String>>,
    /// Modules that are declared here and compiled for unit tests only.
    of_tests: Vec<Module>,
}

/// One module imports from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: Module,
    pub(crate) to: Module,
    /// As it is written, `crate::recovery::Request`.
    pub(crate) path: String,
}

impl Tree {
    /// The files below a folder, which has a crate's root.
    pub(crate) fn read(folder: &Path) -> Self {
        let mut files = Vec::new();
        sources(folder, folder, &mut files);
        Self::of(files.iter().map(|(name, text)| (name.as_str(), text.as_str())))
    }

    /// Files by their names below the folder of the crate's root.
    pub(crate) fn of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut tree = Self::default();
        for (name, text) in files {
            let module = module_of(name);
            let names = tree.0.entry(module.clone()).or_default();
            names.read(TokenStream::from_str(text).unwrap(), &module);
        }
        let of_tests: Vec<Module> =
            tree.0.values().flat_map(|names| names.of_tests.iter().cloned()).collect();
        tree.0.retain(|module, _| !of_tests.iter().any(|tests| module.starts_with(tests)));
        tree
    }

    /// The modules, those of the crate's root left out.
    pub(crate) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.0.keys().filter(|module| !module.is_empty())
    }

    /// Every import of a module from another one of the tree.
    pub(crate) fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (module, names) in &self.0 {
            for (within, path) in &names.paths {
                if let Some(to) = self.resolve(within, path, 0)
                    && to != *module
                {
                    let (from, path) = (module.clone(), path.join("::"));
                    imports.insert(Import { from, to, path });
                }
            }
        }
        imports
    }

    /// The module in which what a path names is defined, if that is in the tree.
    fn resolve(&self, within: &Module, path: &[String], depth: usize) -> Option<Module> {
        let mut at = within.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" | "deltacompare" => {
                at.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {
                while rest.first().is_some_and(|name| name == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            // A name of another crate, or one that a `use` has brought.
            first => {
                at.push(first.to_owned());
                if !self.0.contains_key(&at) {
                    return None;
                }
                rest = &path[1..];
            }
        }
        while let Some(name) = rest.first() {
            at.push(name.clone());
            if !self.0.contains_key(&at) {
                at.pop();
                break;
            }
            rest = &rest[1..];
        }
        // A module within a file counts as the file.
        while !self.0.contains_key(&at) {
            at.pop()?;
        }
        let exported = rest.first().filter(|_| depth < 8).and_then(|name| {
            let mut exported = self.0[&at].exported.iter();
            let path = exported.find(|path| path.last() == Some(name))?;
            self.resolve(&at, path, depth + 1)
        });
        Some(exported.unwrap_or(at))
    }

    /// Circles among what a folder has, at each level from `top` on: a folder counts as one with the
    /// file of its name or its `mod.rs`. Each circle with the imports that make it.
    pub(crate) fn circles(&self, top: &[String]) -> Vec<Vec<Import>> {
        let imports = self.imports();
        let mut folders: BTreeSet<&[String]> = BTreeSet::new();
        for module in self.modules().filter(|module| module.starts_with(top)) {
            folders.extend((top.len()..module.len()).map(|length| &module[..length]));
        }
        let circles = folders.into_iter().flat_map(|folder| {
            let part = |module: &Module| {
                (module.starts_with(folder) && module.len() > folder.len())
                    .then(|| module[folder.len()].clone())
            };
            let edges: Vec<(String, String, &Import)> = imports
                .iter()
                .filter_map(|import| Some((part(&import.from)?, part(&import.to)?, import)))
                .filter(|(from, to, _)| from != to)
                .collect();
            in_circles(&edges)
        });
        circles.collect()
    }
}

/// The imports between parts that can be reached from each other, by such parts.
fn in_circles(edges: &[(String, String, &Import)]) -> Vec<Vec<Import>> {
    let parts: BTreeSet<&str> = edges.iter().map(|(from, ..)| from.as_str()).collect();
    let reached = |start: &str| {
        let mut reached = BTreeSet::new();
        let mut open = vec![start.to_owned()];
        while let Some(at) = open.pop() {
            for (_, to, _) in edges.iter().filter(|(from, ..)| *from == at) {
                if reached.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&str, BTreeSet<String>> =
        parts.iter().map(|&part| (part, reached(part))).collect();
    let mutual = |a: &str, b: &str| {
        reached.get(a).is_some_and(|from_a| from_a.contains(b))
            && reached.get(b).is_some_and(|from_b| from_b.contains(a))
    };
    let mut circles = BTreeMap::<BTreeSet<&str>, Vec<Import>>::new();
    for (from, to, import) in edges.iter().filter(|(from, to, _)| mutual(from, to)) {
        let members = parts.iter().copied().filter(|part| mutual(from, part)).collect();
        debug_assert!(mutual(to, from));
        circles.entry(members).or_default().push((*import).clone());
    }
    circles.into_values().collect()
}

impl Names {
    fn read(&mut self, tokens: TokenStream, within: &Module) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let (mut of_tests, mut public) = (false, false);
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Ident(word) if word == "pub" => {
                    public = true;
                    if is_group(tokens.get(at), Delimiter::Parenthesis) {
                        at += 1;
                    }
                    continue;
                }
                TokenTree::Ident(word) if word == "use" => {
                    let length = tokens[at..].iter().position(|token| is_punct(token, ';'));
                    let end = at + length.unwrap_or(tokens.len() - at);
                    if !std::mem::take(&mut of_tests) {
                        let mut paths = Vec::new();
                        leaves(&tokens[at..end], &[], &mut paths);
                        if public {
                            self.exported.extend(paths);
                        } else {
                            self.paths.extend(paths.into_iter().map(|it| (within.clone(), it)));
                        }
                    }
                    at = end;
                }
                TokenTree::Ident(word)
                    if word == "mod" && is_group(tokens.get(at + 1), Delimiter::Brace) =>
                {
                    if let (Some(name), Some(TokenTree::Group(body))) =
                        (tokens.get(at), tokens.get(at + 1))
                        && !std::mem::take(&mut of_tests)
                    {
                        let mut inner = within.clone();
                        inner.push(name.to_string());
                        self.read(body.stream(), &inner);
                    }
                    at += 2;
                }
                TokenTree::Ident(word)
                    if word == "mod" && tokens.get(at + 1).is_some_and(|it| is_punct(it, ';')) =>
                {
                    if std::mem::take(&mut of_tests) {
                        let mut module = within.clone();
                        module.push(tokens[at].to_string());
                        self.of_tests.push(module);
                    }
                    at += 2;
                }
                TokenTree::Ident(_) => {
                    let mut path = vec![token.to_string()];
                    while let (Some(a), Some(b), Some(TokenTree::Ident(name))) =
                        (tokens.get(at), tokens.get(at + 1), tokens.get(at + 2))
                        && is_punct(a, ':')
                        && is_punct(b, ':')
                    {
                        path.push(name.to_string());
                        at += 3;
                    }
                    if path.len() > 1 && !of_tests {
                        self.paths.push((within.clone(), path));
                    }
                }
                TokenTree::Group(group) => match group.delimiter() {
                    Delimiter::Bracket if at > 1 && is_punct(&tokens[at - 2], '#') => {
                        of_tests |= group.stream().to_string().replace(' ', "") == "cfg(test)";
                    }
                    Delimiter::Brace if of_tests => of_tests = false,
                    _ if of_tests => {}
                    _ => self.read(group.stream(), within),
                },
                TokenTree::Punct(punct) if punct.as_char() == ';' => of_tests = false,
                _ => {}
            }
            public = false;
        }
    }
}

/// The paths of a `use` declaration, each without its alias; `self` and `*` stand for the path before.
fn leaves(tokens: &[TokenTree], prefix: &[String], found: &mut Vec<Vec<String>>) {
    let branches = tokens.split(|token| is_punct(token, ','));
    for branch in branches.filter(|branch| !branch.is_empty()) {
        let mut path = prefix.to_vec();
        let mut grouped = false;
        for token in branch {
            match token {
                TokenTree::Ident(word) if word == "as" => break,
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    leaves(&inner, &path, found);
                    grouped = true;
                }
                _ => {}
            }
        }
        if !grouped && path.len() > prefix.len().min(1) {
            found.push(path);
        }
    }
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_group(token: Option<&TokenTree>, delimiter: Delimiter) -> bool {
    matches!(token, Some(TokenTree::Group(group)) if group.delimiter() == delimiter)
}

/// `recovery/store/mod.rs` and `recovery/store.rs` are both `recovery::store`.
fn module_of(file: &str) -> Module {
    let path = file.trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if matches!(path, "lib" | "main" | "mod") {
        return Module::new();
    }
    path.split('/').map(str::to_owned).collect()
}

/// The Rust files below a folder, but for those in `bin`, which are crates of their own.
fn sources(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("bin") {
                sources(root, &path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            found.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
}
