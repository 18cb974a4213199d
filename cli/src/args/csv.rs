//! One record of comma-separated values, as options such as `--output` are written.
//!
//! Quoting follows RFC 4180: a field may stand in double quotes, in which a comma is a comma and
//! `""` is a quote.

/// Why a text is not a record.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// A quoted field has no end.
    #[error("a quote is not closed")]
    Open,
    /// A quote stands where none can be.
    #[error("unexpected quote at character {0} (quote a whole field, and double a quote inside)")]
    Quote(usize),
}

/// The fields of `text`; an empty text has one empty field.
///
/// # Errors
/// If quotes do not match.
pub fn fields(text: &str) -> Result<Vec<String>, CsvError> {
    let mut fields = Vec::new();
    let mut chars = text.chars().enumerate().peekable();
    loop {
        let mut field = String::new();
        if chars.next_if(|(_, c)| *c == '"').is_some() {
            loop {
                match chars.next() {
                    None => return Err(CsvError::Open),
                    Some((_, '"')) => match chars.peek() {
                        Some((_, '"')) => {
                            chars.next();
                            field.push('"');
                        }
                        Some((_, ',')) | None => break,
                        Some((at, _)) => return Err(CsvError::Quote(*at)),
                    },
                    Some((_, c)) => field.push(c),
                }
            }
        } else {
            while let Some((at, c)) = chars.next_if(|(_, c)| *c != ',') {
                if c == '"' {
                    return Err(CsvError::Quote(at + 1));
                }
                field.push(c);
            }
        }
        fields.push(field);
        if chars.next().is_none() {
            return Ok(fields);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        for (text, want) in [
            ("", &[""][..]),
            ("a", &["a"]),
            ("type=oci,dest=x.tar", &["type=oci", "dest=x.tar"]),
            ("type=oci,\"dest=a,b\"\"c\",", &["type=oci", "dest=a,b\"c", ""]),
            ("\"\",a b", &["", "a b"]),
        ] {
            assert_eq!(fields(text).unwrap(), want, "{text}");
        }
        assert_eq!(fields("\"a"), Err(CsvError::Open));
        assert_eq!(fields("a\"b"), Err(CsvError::Quote(2)));
        assert_eq!(fields("\"a\"b"), Err(CsvError::Quote(3)));
    }
}
