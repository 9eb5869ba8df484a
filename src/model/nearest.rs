//! What somebody may have meant who wrote a word that is not known.

/// `; did you mean x?`, or nothing where no known word is near.
pub(crate) fn nearest(word: &str, known: &[&str]) -> String {
    let word = word.to_lowercase();
    let near = known.iter().map(|known| (strsim::jaro_winkler(&word, known), known));
    let nearest = near.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(near, _)| *near > 0.8);
    nearest.map_or(String::new(), |(_, known)| format!("; did you mean {known}?"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_recognised_and_something_else_is_not() {
        let known = ["event-hub", "ndjson", "delta-table"];
        assert_eq!(nearest("delta_table", &known), "; did you mean delta-table?");
        assert_eq!(nearest("NDJson", &known), "; did you mean ndjson?");
        assert_eq!(nearest("kafka", &known), "");
    }
}
