//! Compares docs/troubleshooting.md with the program: every error, refusal, warning and log line is
//! there by the text that an operator sees, and nothing that the program no longer says.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// The tokens before an opening parenthesis whose first string is a sentence for operators.
const SAYS: [&[&str]; 10] = [
    &["Error", ":", ":", "refused"],
    &["Error", ":", ":", "item"],
    &["Error", ":", ":", "recovery"],
    &["Error", ":", ":", "new"],
    &["Problem", ":", ":", "new"],
    &[".", "refuse"],
    &[".", "warn"],
    &["tracing", ":", ":", "warn", "!"],
    &["tracing", ":", ":", "error", "!"],
    &["eprintln", "!"],
];

/// What the sources say, each with `…` for what is filled in.
#[derive(Default)]
struct Said {
    /// The first string after each of [`SAYS`], with the file.
    sentences: Vec<(String, String)>,
    /// Every string that is not a doc comment.
    strings: Vec<String>,
}

impl Said {
    fn of_the_sources() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let (mut files, mut said) = (Vec::new(), Self::default());
        sources(&root, &mut files);
        for path in files {
            let code = std::fs::read_to_string(&path).unwrap();
            let file = path.strip_prefix(&root).unwrap().display().to_string();
            said.read(TokenStream::from_str(&code).unwrap(), &file);
        }
        said
    }

    /// Reads tokens, all the way down, without unit tests.
    fn read(&mut self, tokens: TokenStream, file: &str) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let words: Vec<String> = tokens.iter().map(head).collect();
        let mut of_tests = false;
        for (at, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => {
                    let attribute = group.delimiter() == Delimiter::Bracket
                        && at > 0
                        && matches!(words[at - 1].as_str(), "#" | "!");
                    if attribute {
                        let text = group.stream().to_string();
                        of_tests |= text.replace(' ', "") == "cfg(test)";
                        if text.starts_with("doc") {
                            continue;
                        }
                    } else if group.delimiter() == Delimiter::Brace && of_tests {
                        of_tests = false;
                        continue;
                    }
                    if group.delimiter() == Delimiter::Parenthesis
                        && SAYS.iter().any(|says| ends_with(&words[..at], says))
                        && let Some(sentence) = first_string(group)
                        // What is said elsewhere, with something around it, is nothing to look up.
                        && letters(&sentence) >= 8
                    {
                        self.sentences.push((sentence, file.to_owned()));
                    }
                    self.read(group.stream(), file);
                }
                TokenTree::Punct(punct) if punct.as_char() == ';' => of_tests = false,
                TokenTree::Literal(_) => self.strings.extend(string(token)),
                _ => {}
            }
        }
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// A token as text, a group as nothing.
fn head(token: &TokenTree) -> String {
    if matches!(token, TokenTree::Group(_)) { String::new() } else { token.to_string() }
}

fn ends_with(words: &[String], end: &[&str]) -> bool {
    words.len() >= end.len() && words[words.len() - end.len()..].iter().eq(end.iter())
}

/// The first string in the order of the source, however deep.
fn first_string(group: &Group) -> Option<String> {
    group.stream().into_iter().find_map(|token| match token {
        TokenTree::Group(group) => first_string(&group),
        token => string(&token),
    })
}

/// A string literal as an operator reads it.
fn string(token: &TokenTree) -> Option<String> {
    let value = syn::parse2::<syn::LitStr>(TokenStream::from(token.clone())).ok()?.value();
    let (mut text, mut rest) = (String::new(), value.as_str());
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        text.push('…');
        rest = after.split_once('}').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    Some(text.replace('\n', " "))
}

fn letters(text: &str) -> usize {
    text.chars().filter(|character| character.is_alphabetic()).count()
}

/// The texts of the page's first columns.
fn texts() -> Vec<&'static str> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    rows.flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2)).collect()
}

fn says(sentence: &str, text: &str) -> bool {
    let mut rest = sentence;
    text.split('…').map(str::trim).filter(|part| !part.is_empty()).all(|part| {
        let found = rest.find(part);
        rest = found.map_or("", |at| &rest[at + part.len()..]);
        found.is_some()
    })
}

#[test]
fn every_failure_can_be_looked_up_by_its_text() {
    let (sentences, texts) = (Said::of_the_sources().sentences, texts());
    assert!(sentences.len() > 120 && texts.len() > 80, "{} {}", sentences.len(), texts.len());
    let missing: Vec<String> = sentences
        .iter()
        .filter(|(sentence, _)| !texts.iter().any(|text| says(sentence, text)))
        .map(|(sentence, file)| format!("{file}: {sentence}"))
        .collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md:\n{}", missing.join("\n"));
}

/// A line of source that lost its continuation shows as a run of spaces; a command is indented by two.
#[test]
fn no_sentence_has_a_run_of_spaces() {
    let sentences = Said::of_the_sources().sentences;
    let torn: Vec<_> = sentences.iter().filter(|(sentence, _)| sentence.contains("    ")).collect();
    assert!(torn.is_empty(), "{torn:#?}");
}

#[test]
fn nothing_is_explained_that_the_program_does_not_say() {
    let said = Said::of_the_sources().strings;
    let unsaid: Vec<&str> =
        texts().into_iter().filter(|text| !said.iter().any(|it| says(it, text))).collect();
    assert!(unsaid.is_empty(), "the program never says: {unsaid:#?}");
}

#[test]
fn a_text_names_something() {
    for text in texts() {
        assert!(letters(text) >= 8, "{text:?} fits too much");
    }
}

/// What the comparison rests on: strings are found whatever their form and place, doc comments and
/// unit tests are not.
#[test]
fn sentences_are_found_where_they_are_said() {
    let code = r##"
        /// Error::refused("in a comment")
        fn f() {
            Error::refused(format!("table {} is \
                missing", x));
            report . warn (r#"raw "text" here"#);
            tracing::warn!(%id, "logged as a line");
        }
        #[cfg(test)]
        mod tests { fn g() { Error::item("only in a test"); } }
        fn h() { Error::item("after the tests"); }
    "##;
    let mut said = Said::default();
    said.read(TokenStream::from_str(code).unwrap(), "f.rs");
    let found: Vec<&str> = said.sentences.iter().map(|(sentence, _)| sentence.as_str()).collect();
    assert_eq!(
        found,
        ["table … is missing", "raw \"text\" here", "logged as a line", "after the tests"]
    );
}
