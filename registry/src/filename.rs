//! What a downloaded file is called: by its server, or by its URL.
//!
//! Source: RFC 6266 (`Content-Disposition`), RFC 8187 (`filename*`). The name is never more than
//! one path component, and nothing in it can move a cursor.

/// The longest name, in bytes (Linux: `NAME_MAX`).
const MAX_NAME: usize = 255;
/// What a file is called that nobody gave a name (BuildKit: `source/http`, `getFileName`).
const NAMELESS: &str = "download";

/// The name in `disposition`, else the last part of the URL's `path`, else `download`.
pub(crate) fn choose(disposition: Option<&str>, path: &str) -> String {
    disposition
        .and_then(of_disposition)
        .or_else(|| usable(&decode(path)))
        .unwrap_or_else(|| NAMELESS.to_owned())
}

/// The name in a `Content-Disposition` header; `filename*` wins over `filename`.
fn of_disposition(header: &str) -> Option<String> {
    let (_, mut rest) = header.split_once(';')?;
    let (mut plain, mut extended) = (None, None);
    while let Some((name, value, after)) = parameter(rest) {
        match name.to_ascii_lowercase().as_str() {
            "filename" => plain = plain.or(usable(&value)),
            "filename*" => extended = extended.or_else(|| usable(&of_extended(&value)?)),
            _ => {}
        }
        rest = after;
    }
    extended.or(plain)
}

/// The first `name=value` of `text`, and what follows it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = text.trim_start_matches([' ', '\t', ';']).split_once('=')?;
    let rest = rest.trim_start();
    let Some(quoted) = rest.strip_prefix('"') else {
        let (value, after) = rest.split_once(';').unwrap_or((rest, ""));
        return Some((name.trim(), value.trim().to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((name.trim(), value, &quoted[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    None
}

/// `UTF-8'en'a%20b`, with any language.
fn of_extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, text) = rest.split_once('\'')?;
    charset.eq_ignore_ascii_case("utf-8").then(|| decode(text))
}

/// The last component of `name` without control characters; none if that is no name.
fn usable(name: &str) -> Option<String> {
    let last = name.trim_end_matches('/').rsplit(['/', '\\']).next()?;
    let name: String = last.chars().filter(|c| !c.is_control()).collect();
    let name = name.trim();
    let good = !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME;
    good.then(|| name.to_owned())
}

/// Resolves `%20` and the like; a text that is no UTF-8 then stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names() {
        for (disposition, path, want) in [
            (None, "/a/b.tar", "b.tar"),
            (None, "/a/", "a"),
            (None, "/a%20b", "a b"),
            (None, "/x%2Fy", "y"),
            (None, "/%ff", "%ff"),
            (None, "/%zz%", "%zz%"),
            (None, "/", "download"),
            (None, "", "download"),
            (None, "/a/..", "download"),
            (None, "/a%0a%1bb", "ab"),
            (Some("attachment"), "/p", "p"),
            (Some("attachment; filename=x.tar"), "/p", "x.tar"),
            (Some("attachment; filename=\"x y.tar\""), "/p", "x y.tar"),
            (Some("attachment;filename=\"a\\\"b;c\"; size=3"), "/p", "a\"b;c"),
            (Some("inline; FileName = x"), "/p", "x"),
            (Some("attachment; filename=\"../../etc/passwd\""), "/p", "passwd"),
            (Some("attachment; filename=\"C:\\\\a\\\\b\""), "/p", "b"),
            (Some("attachment; filename=\"..\""), "/p", "p"),
            (Some("attachment; filename=\"\""), "/p", "p"),
            (Some("attachment; filename=a; filename*=UTF-8''%e2%82%ac%20b"), "/p", "€ b"),
            (Some("attachment; filename*=UTF-8''..%2f.; filename=a"), "/p", "a"),
            (Some("attachment; filename*=x; filename=a"), "/p", "a"),
            (Some("attachment; filename=\"never ends"), "/p", "p"),
        ] {
            assert_eq!(choose(disposition, path), want, "{disposition:?} {path}");
        }
        assert_eq!(choose(None, &format!("/{}", "x".repeat(256))), "download");
    }

    proptest! {
        #[test]
        fn always_one_component(header in ".{0,60}", path in "[/.%a-f0-9é]{0,30}") {
            let name = choose(Some(&format!("attachment; filename={header}")), &path);
            prop_assert!(!matches!(name.as_str(), "" | "." | ".."));
            prop_assert!(!name.contains(['/', '\0']));
        }
    }
}
