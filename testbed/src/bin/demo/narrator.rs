//! How the story is printed: for a terminal with a little weight on what matters, else plain.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Columns that running text takes at most.
const WIDTH: usize = 98;

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "1;32";

/// Tells the story on standard output, with the time since its beginning.
pub(crate) struct Narrator {
    started: Instant,
    chapters: AtomicU32,
    styled: bool,
}

impl Narrator {
    pub(crate) fn new() -> Self {
        let styled = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { started: Instant::now(), chapters: AtomicU32::new(0), styled }
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.styled { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Begins a part of the story.
    pub(crate) fn chapter(&self, title: &str) {
        let number = self.chapters.fetch_add(1, Ordering::Relaxed) + 1;
        let title = format!("{number}. {title}");
        let elapsed = format!("{:.1} s", self.started.elapsed().as_secs_f64());
        let gap = WIDTH.saturating_sub(title.chars().count() + elapsed.len()).max(2);
        println!("\n{}{}{}", self.style(BOLD, &title), " ".repeat(gap), self.style(DIM, &elapsed));
    }

    /// A few sentences.
    pub(crate) fn say(&self, text: &str) {
        for line in wrapped(text, WIDTH - 2) {
            println!("  {line}");
        }
    }

    /// One thing of several.
    pub(crate) fn item(&self, text: &str) {
        println!("    {}", self.style(DIM, text));
    }

    /// How long the last thing took.
    pub(crate) fn took(&self, time: Duration) {
        self.item(&format!("{:.1} s", time.as_secs_f64()));
    }

    /// What an operator would type.
    pub(crate) fn command(&self, text: &str) {
        println!("  $ {}", self.style(BOLD, text));
    }

    /// Text as it lies in a file.
    pub(crate) fn quote(&self, text: &str) {
        println!("  {text}");
    }

    /// The sentence that everything was for.
    pub(crate) fn good(&self, text: &str) {
        println!("  {}", self.style(GREEN, text));
    }

    /// Does something that takes a moment, and says how long it took.
    pub(crate) async fn timed<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.timed_with(what, work, |_| String::new()).await
    }

    /// The same, and says what came of it.
    pub(crate) async fn timed_with<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T>>,
        outcome: impl FnOnce(&T) -> String,
    ) -> Result<T> {
        print!("  {what} ");
        std::io::stdout().flush()?;
        let since = Instant::now();
        let done = work.await?;
        let time = format!("{:.1} s", since.elapsed().as_secs_f64());
        println!("{}{}", outcome(&done), self.style(DIM, &time));
        Ok(done)
    }

    pub(crate) fn end(&self, text: &str) {
        println!("\n{text} It took {:.0} s.", self.started.elapsed().as_secs_f64());
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
