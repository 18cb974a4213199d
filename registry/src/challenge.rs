//! `WWW-Authenticate`: what a server wants to be told.
//!
//! Source: RFC 9110 section 11.6.1. Servers send several challenges in one header or in several,
//! commas inside quotes, and things that the grammar does not know; the parser takes what it can
//! read and never fails.

/// The most challenges that are read of one answer.
const MAX_CHALLENGES: usize = 16;

/// One challenge: a scheme and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `bearer`, `basic`, …
    pub(crate) scheme: String,
    /// Names in lower case, in order.
    pub(crate) params: Vec<(String, String)>,
}

impl Challenge {
    /// The first parameter called `name` that is not empty.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params.iter().find(|(n, v)| n == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }
}

/// All challenges of one header's value.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = Cursor(header);
    loop {
        rest.skip(|c| c.is_ascii_whitespace() || c == ',');
        if rest.0.is_empty() || found.len() > MAX_CHALLENGES {
            found.truncate(MAX_CHALLENGES);
            return found;
        }
        let word = rest.token();
        if word.is_empty() {
            rest.bump();
            continue;
        }
        let mut ahead = rest;
        ahead.skip(|c| c.is_ascii_whitespace());
        let value = ahead.0.strip_prefix('=').map(|after| {
            let mut after = Cursor(after);
            after.skip(|c| c.is_ascii_whitespace());
            after
        });
        match (value, found.last_mut()) {
            (Some(mut after), Some(challenge)) => {
                let value = after.value();
                challenge.params.push((word.to_ascii_lowercase(), value));
                rest = after;
            }
            // A parameter without a scheme before it belongs to nothing.
            (Some(mut after), None) => {
                after.value();
                rest = after;
            }
            (None, _) => {
                found.push(Challenge { scheme: word.to_ascii_lowercase(), params: Vec::new() });
                rest.skip_token68();
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(what);
    }

    fn bump(&mut self) {
        let mut chars = self.0.chars();
        chars.next();
        self.0 = chars.as_str();
    }

    fn take(&mut self, what: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !what(c)).unwrap_or(self.0.len());
        let (head, tail) = self.0.split_at(end);
        self.0 = tail;
        head
    }

    fn token(&mut self) -> &'a str {
        self.take(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))
    }

    /// Steps over the one opaque word that schemes like `Negotiate` carry instead of parameters.
    fn skip_token68(&mut self) {
        let mut ahead = *self;
        ahead.skip(|c| c.is_ascii_whitespace());
        let word = ahead.take(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c)).to_owned();
        ahead.skip(|c| c == '=');
        ahead.skip(|c| c.is_ascii_whitespace());
        if !word.is_empty() && (ahead.0.is_empty() || ahead.0.starts_with(',')) {
            *self = ahead;
        }
    }

    /// A token or a quoted string; one that is not closed reaches to the end.
    fn value(&mut self) -> String {
        let Some(quoted) = self.0.strip_prefix('"') else {
            // More than the grammar's token: unquoted URLs are seen in the wild.
            return self.take(|c| !c.is_ascii_whitespace() && c != ',').to_owned();
        };
        let mut value = String::new();
        let mut chars = quoted.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => value.extend(chars.next()),
                c => value.push(c),
            }
        }
        self.0 = chars.as_str();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(header: &str) -> String {
        parse(header)
            .iter()
            .map(|c| {
                let params: Vec<_> = c.params.iter().map(|(n, v)| format!("{n}={v}")).collect();
                format!("{}[{}]", c.scheme, params.join(" | "))
            })
            .collect::<Vec<_>>()
            .join(" ; ")
    }

    #[test]
    fn table() {
        for (header, expected) in [
            ("", ""),
            ("Basic", "basic[]"),
            ("Basic realm=\"x\"", "basic[realm=x]"),
            (
                r#"Bearer realm="https://a/token",service="reg",scope="repository:a/b:pull,push""#,
                "bearer[realm=https://a/token | service=reg | scope=repository:a/b:pull,push]",
            ),
            (
                "BEARER Realm=https://a/t?x=y , Service = reg",
                "bearer[realm=https://a/t?x=y | service=reg]",
            ),
            (
                r#"Basic realm="a, Bearer b=\"c\"", Bearer realm="d""#,
                "basic[realm=a, Bearer b=\"c\"] ; bearer[realm=d]",
            ),
            (
                r#"Negotiate YWJj==, Basic realm="r", charset="UTF-8""#,
                "negotiate[] ; basic[realm=r | charset=UTF-8]",
            ),
            ("Negotiate, NTLM,Basic realm=x", "negotiate[] ; ntlm[] ; basic[realm=x]"),
            (r#"Bearer realm="open"#, "bearer[realm=open]"),
            (r#"realm="x", Bearer realm="y""#, "bearer[realm=y]"),
            (r#"Bearer ,, realm="y",,"#, "bearer[realm=y]"),
            ("Bearer scope=\"\"", "bearer[scope=]"),
        ] {
            assert_eq!(show(header), expected, "{header}");
        }
        assert_eq!(parse("Bearer scope=\"\"")[0].param("scope"), None);
    }

    #[test]
    fn is_bounded() {
        assert_eq!(parse(&"Basic,".repeat(1000)).len(), MAX_CHALLENGES);
    }

    proptest! {
        #[test]
        fn never_panics(header in ".{0,200}") {
            parse(&header);
        }

        #[test]
        fn never_panics_on_grammar_like(header in "[A-Za-z=\", \\\\=é/]{0,80}") {
            parse(&header);
        }

        #[test]
        fn quoted_values_survive(value in "[ -~]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let found = parse(&format!("Bearer realm=\"{quoted}\", service=x"));
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!(&found[0].params[0].1, &value);
            prop_assert_eq!(&found[0].params[1].1, "x");
        }
    }
}
