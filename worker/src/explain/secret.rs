//! What looks like a secret is neither kept nor told.

/// Words in a name that make its value a secret (BuildKit: `getSecretsRegex`).
const WORDS: [&str; 12] = [
    "apikey",
    "auth",
    "credential",
    "credentials",
    "key",
    "pass",
    "passwd",
    "password",
    "private",
    "pword",
    "secret",
    "token",
];

/// Words that say that a value is a name of something, not a secret.
const NAMES: [&str; 9] =
    ["checksum", "commit", "digest", "hash", "ref", "rev", "revision", "sha", "sha256"];

/// How values begin that are known to be secrets.
const PREFIXES: [&str; 15] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "ASIA",
    "eyJ",
    "sk-",
    "npm_",
    "-----BEGIN",
];

/// A value of one word and at least this length with letters and digits may be a secret, in
/// characters.
const LONG: usize = 24;

/// What stands for a secret.
pub(super) const HIDDEN: &str = "…";

/// How a hidden value begins where it is kept.
const KEPT: &str = "hidden:";

/// Whether the value of `name` must not be shown.
pub(super) fn is_secret(name: &str, value: &str) -> bool {
    let has = |words: &[&str]| {
        let parts = name.split(|c: char| !c.is_ascii_alphanumeric());
        parts.into_iter().any(|part| words.iter().any(|w| part.eq_ignore_ascii_case(w)))
    };
    value.starts_with(KEPT) || has(&WORDS) || (!has(&NAMES) && looks_secret(value))
}

/// Whether a value looks like a secret by itself.
pub(super) fn looks_secret(value: &str) -> bool {
    if PREFIXES.iter().any(|prefix| value.starts_with(prefix) && value.len() >= 12) {
        return true;
    }
    // user:password@host.
    if let Some((_, rest)) = value.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        return host.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'=' | b'_' | b'-' | b'/');
    let (mut upper, mut lower, mut digit) = (false, false, false);
    for byte in value.bytes() {
        upper |= byte.is_ascii_uppercase();
        lower |= byte.is_ascii_lowercase();
        digit |= byte.is_ascii_digit();
    }
    let mixed = digit && (upper || lower) && (upper && lower || !value.contains(['/', '-', '_']));
    value.len() >= LONG && value.bytes().all(word) && mixed && !value.starts_with('/')
}

/// The value of a variable as it is kept: of a secret only a digest, to see that it changed.
pub(super) fn kept(name: &str, value: &str) -> String {
    match is_secret(name, value) {
        true => {
            let mut hasher = blake3::Hasher::new_derive_key("drydock hidden variable");
            hasher.update(value.as_bytes());
            format!("{KEPT}{}", &hasher.finalize().to_hex()[..16])
        }
        false => super::note::kept(value),
    }
}

/// Text of an instruction with what looks like a secret left out.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(char::is_whitespace) {
        let word = piece.trim_end();
        let space = &piece[word.len()..];
        let bare = word.trim_matches(['"', '\'', ';', ',']);
        match bare.split_once('=') {
            Some((name, value)) if !value.is_empty() && !value.starts_with('$') => {
                let value = value.trim_matches(['"', '\'']);
                match is_secret(name.trim_start_matches('-'), value) {
                    true => out.push_str(&format!("{name}={HIDDEN}")),
                    false => out.push_str(word),
                }
            }
            _ if looks_secret(bare) => out.push_str(HIDDEN),
            _ => out.push_str(word),
        }
        out.push_str(space);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_name_or_by_value() {
        for (name, value) in [
            ("NPM_TOKEN", "x"),
            ("db-password", ""),
            ("URL", "https://user:pw@host/path"),
            ("X", "ghp_0123456789abcdef"),
            ("X", "-----BEGIN PRIVATE KEY-----"),
            ("X", "aB3dE5gH7jK9mN1pQ3sT5vW7"),
        ] {
            assert!(is_secret(name, value), "{name}={value}");
            assert!(!kept(name, value).contains(value) || value.is_empty(), "{name}");
        }
        for (name, value) in [
            ("VERSION", "1.2.3"),
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("COMMIT", "0123456789abcdef0123456789abcdef01234567"),
            ("URL", "https://host/a@b"),
            ("MESSAGE", "a long sentence with 12 words and 3 numbers"),
            ("DIR", "/home/someone/projects/number12/Source"),
            ("MONKEY", "banana"),
        ] {
            assert!(!is_secret(name, value), "{name}={value}");
            assert_eq!(kept(name, value), value);
        }
        assert_ne!(kept("TOKEN", "a"), kept("TOKEN", "b"));
        assert!(is_secret("TOKEN", &kept("TOKEN", "a")) && is_secret("X", &kept("TOKEN", "a")));
    }

    #[test]
    fn instructions() {
        for (text, shows) in [
            ("RUN make all", "RUN make all"),
            ("RUN TOKEN=abc make", "RUN TOKEN=… make"),
            ("RUN login --password=abc  x", "RUN login --password=…  x"),
            ("RUN login --password=$P", "RUN login --password=$P"),
            ("RUN echo ghp_0123456789abcdef", "RUN echo …"),
        ] {
            assert_eq!(shown(text), shows);
        }
    }
}
