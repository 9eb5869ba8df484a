//! How one value is written, whatever the format.

/// Writes the values of one column. One implementation a format.
pub(super) trait WriteValue {
    /// Appends the JSON of a value that is not null. On an error what was appended is undefined.
    fn write(&self, text: &str, out: &mut Vec<u8>) -> Result<Fidelity, Malformed>;

    /// The JSON that stands for the column in an old row of which only the key is known.
    fn absent(&self) -> &[u8];
}

/// Whether what was written says all that the image says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fidelity {
    /// As the format writes this type.
    Exact,
    /// The format has no way to write this value: null (or for an array, nulls) was written.
    Lost,
}

/// A text that the column's type does not print: the end of a sentence that starts "the value".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// Takes back what was written from `start` on and writes null.
pub(super) fn lost(out: &mut Vec<u8>, start: usize) -> Fidelity {
    out.truncate(start);
    out.extend_from_slice(b"null");
    Fidelity::Lost
}
