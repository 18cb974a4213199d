//! Names that look like those of secrets.

/// Words that make a name suspicious (BuildKit: `getSecretsRegex`).
const SECRET: [&str; 10] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "password",
    "pword",
    "passwd",
    "secret",
    "token",
];

/// Words that make it harmless again.
const HARMLESS: [&str; 3] = ["public", "file", "version"];

/// Whether one of the words of `name`, between underscores, says that it holds a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let has = |list: &[&str]| {
        name.split('_').any(|word| list.iter().any(|w| word.eq_ignore_ascii_case(w)))
    };
    has(&SECRET) && !has(&HARMLESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_count() {
        for name in ["API_KEY", "github_token", "AUTH", "x_Secret_y", "DB_PASSWD", "apikey"] {
            assert!(is_secret(name), "{name}");
        }
        for name in
            ["", "KEYBOARD", "MONKEY", "PUBLIC_KEY", "TOKEN_FILE", "KEY_VERSION", "AUTHOR", "a-key"]
        {
            assert!(!is_secret(name), "{name}");
        }
    }
}
