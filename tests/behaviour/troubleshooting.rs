//! What can go wrong is in docs/troubleshooting.md, by the text that an operator sees: every error,
//! refusal, warning and log line of the program, and nothing that it no longer says.

use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../docs/troubleshooting.md");

/// What makes a sentence for operators out of the string that follows.
const SAYS: [&str; 10] = [
    "Error::refused(",
    "Error::item(",
    "Error::recovery(",
    "Error::new(",
    "Problem::new(",
    ".refuse(",
    ".warn(",
    "tracing::warn!(",
    "tracing::error!(",
    "eprintln!(",
];

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

/// The string literal that begins at the quote, as an operator reads it, with `…` for what is filled in.
fn literal(code: &str) -> String {
    let (mut text, mut characters) = (String::new(), code[1..].chars().peekable());
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => match characters.next() {
                Some('\n') => while characters.next_if(|it| it.is_whitespace()).is_some() {},
                Some('n') => text.push(' '),
                Some(other) => text.push(other),
                None => {}
            },
            '{' => {
                while characters.next_if(|&it| it != '}').is_some() {}
                characters.next();
                text.push('…');
            }
            _ => text.push(character),
        }
    }
    text
}

/// The first string within the parentheses that were just opened, if there is one.
fn first_string(code: &str) -> Option<&str> {
    let mut depth = 1;
    for (at, character) in code.char_indices() {
        match character {
            '"' => return Some(&code[at..]),
            '(' => depth += 1,
            ')' => depth -= 1,
            ';' => return None,
            _ => {}
        }
        if depth == 0 {
            return None;
        }
    }
    None
}

/// Every sentence that the program says when something is wrong, with the file that says it.
fn sentences() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut found = Vec::new();
    for path in files {
        let code = std::fs::read_to_string(&path).unwrap();
        let code = code.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        for says in SAYS {
            for (at, _) in code.match_indices(says) {
                let Some(string) = first_string(&code[at + says.len()..]) else { continue };
                let sentence = literal(string);
                // What is said elsewhere, with something around it, is nothing to look up.
                if sentence.chars().filter(|it| it.is_alphabetic()).count() >= 8 {
                    found.push((sentence, name.clone()));
                }
            }
        }
    }
    found
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

async fn every_failure_can_be_looked_up_by_its_text() {
    let (sentences, texts) = (sentences(), texts());
    assert!(sentences.len() > 120 && texts.len() > 80, "{} {}", sentences.len(), texts.len());
    let missing: Vec<String> = sentences
        .iter()
        .filter(|(sentence, _)| !texts.iter().any(|text| says(sentence, text)))
        .map(|(sentence, file)| format!("{file}: {sentence}"))
        .collect();
    assert!(missing.is_empty(), "not in docs/troubleshooting.md:\n{}", missing.join("\n"));
}

async fn nothing_is_explained_that_the_program_does_not_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    // All strings, also those that are put together first.
    let said: Vec<String> = files
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .flat_map(|code| {
            code.match_indices('"').map(|(at, _)| literal(&code[at..])).collect::<Vec<_>>()
        })
        .collect();
    let unsaid: Vec<&str> =
        texts().into_iter().filter(|text| !said.iter().any(|it| says(it, text))).collect();
    assert!(unsaid.is_empty(), "the program never says: {unsaid:#?}");
}

async fn a_text_names_something() {
    for text in texts() {
        let letters = text.chars().filter(|character| character.is_alphabetic()).count();
        assert!(letters >= 8, "{text:?} fits too much");
    }
}

tests! {
    every_failure_can_be_looked_up_by_its_text: own_servers,
    nothing_is_explained_that_the_program_does_not_say: own_servers,
    a_text_names_something: own_servers,
}
