//! Cases that are measured in the same way.

use crate::cases::{self, Case, Size};
use crate::{chain, files, language, many, records, steps};

/// A part of the table.
pub struct Part {
    /// What its cases are.
    pub title: &'static str,
    /// How they are measured.
    pub how: &'static str,
    /// In the order in which they are measured, and printed.
    pub cases: Vec<Box<dyn Case>>,
}

/// Makes the cases of a part.
pub type Make = fn(Size) -> Part;

/// All parts, each with the flag that asks for it alone.
pub const PARTS: [(&str, Make); 7] = [
    ("--builds", cases::part),
    ("--files", files::part),
    ("--chain", chain::part),
    ("--records", records::part),
    ("--steps", steps::part),
    ("--many", many::part),
    ("--language", language::part),
];

/// A number as people read it: `100,000`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn numbers_in_groups_of_three() {
        let all = [0, 999, 1000, 20_000, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "999", "1,000", "20,000", "1,234,567"]);
    }
}
