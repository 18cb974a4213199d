//! Options that are pairs: `--build-arg`, `--label`, `--add-host`, `--build-context`.

use std::net::IpAddr;

/// `--build-arg KEY[=VALUE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildArg {
    /// The argument's name.
    pub key: String,
    /// Its value; none takes the variable of that name from the environment, if it is set.
    pub value: Option<String>,
}

/// `--label KEY[=VALUE]`; a key alone has the empty value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The label's key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// `--add-host NAME:ADDRESS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraHost {
    /// The host's name.
    pub name: String,
    /// Its address, or `host-gateway`.
    pub address: String,
}

/// `--build-context NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedContext {
    /// The name, as `FROM` and `COPY --from` use it.
    pub name: String,
    /// A directory, a URL, `oci-layout://…`, `docker-image://…`, `target:…`.
    pub value: String,
}

fn key(text: &str) -> Result<(String, Option<String>), String> {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    if key.trim().is_empty() {
        return Err("expected KEY=VALUE, and the key is empty".to_owned());
    }
    Ok((key.to_owned(), value))
}

/// Parses `--build-arg`. Everything after the first `=` is the value.
///
/// # Errors
/// If the key is empty.
pub fn build_arg(text: &str) -> Result<BuildArg, String> {
    key(text).map(|(key, value)| BuildArg { key, value })
}

/// Parses `--label`.
///
/// # Errors
/// If the key is empty.
pub fn label(text: &str) -> Result<Label, String> {
    key(text).map(|(key, value)| Label { key, value: value.unwrap_or_default() })
}

/// Parses `--add-host`: `name:address` or `name=address`, an IPv6 address with or without
/// brackets.
///
/// # Errors
/// If the name or the address is none.
pub fn extra_host(text: &str) -> Result<ExtraHost, String> {
    // "=" comes first: an IPv6 address is full of colons.
    let (name, address) = text
        .split_once('=')
        .or_else(|| text.split_once(':'))
        .ok_or("expected NAME:ADDRESS or NAME=ADDRESS")?;
    let bad_name = |c: char| c.is_whitespace() || c.is_control() || "#/\\".contains(c);
    if name.is_empty() || name.contains(bad_name) {
        return Err(format!("{name:?} is not a host name"));
    }
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    if bare != "host-gateway" && bare.parse::<IpAddr>().is_err() {
        return Err(format!("{address:?} is not an IP address"));
    }
    Ok(ExtraHost { name: name.to_owned(), address: bare.to_owned() })
}

/// Parses `--build-context`. Names are compared without regard to case, as stages are.
///
/// # Errors
/// If the name or the value is empty.
pub fn named_context(text: &str) -> Result<NamedContext, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=DIRECTORY or NAME=URL")?;
    if name.trim().is_empty() || value.is_empty() {
        return Err("expected NAME=DIRECTORY or NAME=URL, and one side is empty".to_owned());
    }
    Ok(NamedContext { name: name.to_lowercase(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn build_args_keep_everything_after_the_first_equals_sign() {
        let got = build_arg("A=b=c ").unwrap();
        assert_eq!((got.key.as_str(), got.value.as_deref()), ("A", Some("b=c ")));
        assert_eq!(build_arg("A").unwrap().value, None);
        assert_eq!(build_arg("A=").unwrap().value.as_deref(), Some(""));
        assert!(build_arg("=x").is_err() && build_arg("").is_err());
        assert_eq!(label("a").unwrap().value, "");
    }

    #[test]
    fn hosts() {
        for (text, name, address) in [
            ("db:10.0.0.1", "db", "10.0.0.1"),
            ("db=10.0.0.1", "db", "10.0.0.1"),
            ("db:::1", "db", "::1"),
            ("db=[fd00::1]", "db", "fd00::1"),
            ("db:[fd00::1]", "db", "fd00::1"),
            ("gw:host-gateway", "gw", "host-gateway"),
        ] {
            let got = extra_host(text).unwrap();
            assert_eq!((got.name.as_str(), got.address.as_str()), (name, address), "{text}");
        }
        for bad in ["", "db", "db:", ":1.2.3.4", "d b:1.2.3.4", "db:1.2.3", "a\nb:1.2.3.4"] {
            assert!(extra_host(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn contexts() {
        let got = named_context("Base=oci-layout:///x=y:1").unwrap();
        assert_eq!((got.name.as_str(), got.value.as_str()), ("base", "oci-layout:///x=y:1"));
        assert!(named_context("base").is_err() && named_context("=x").is_err());
    }
}
