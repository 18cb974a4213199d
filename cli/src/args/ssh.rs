//! `--ssh`.

use super::csv;

/// `--ssh ID[=SOCKET|KEY[,KEY…]]`: an ssh agent that RUN steps may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshArg {
    /// What the Dockerfile knows it by; `default` where it names none.
    pub id: String,
    /// The socket of an agent, or private keys for one; none for the agent of SSH_AUTH_SOCK.
    pub paths: Vec<String>,
}

/// Parses `--ssh` as buildx does.
///
/// # Errors
/// If it has no id, or an option that is none.
pub fn parse(text: &str) -> Result<SshArg, String> {
    let fields = csv::fields(text).map_err(|e| e.to_string())?;
    let mut fields = fields.into_iter();
    let first = fields.next().unwrap_or_default();
    let (id, path) = match first.split_once('=') {
        Some((id, path)) => (id.to_owned(), Some(path.to_owned())),
        None => (first, None),
    };
    if id.is_empty() {
        return Err("it has no id: expected default or ID[=SOCKET|KEY[,KEY…]]".to_owned());
    }
    let mut paths: Vec<String> = path.into_iter().filter(|p| !p.is_empty()).collect();
    for field in fields {
        match field.split_once('=') {
            // What steps send is passed on as it is in any case.
            Some(("raw", value)) if super::switch::boolean(value).is_some() => {}
            Some((key, _)) => return Err(format!("unknown key {key:?}")),
            None => paths.push(field),
        }
    }
    Ok(SshArg { id, paths })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let ssh = |id: &str, paths: &[&str]| SshArg {
            id: id.to_owned(),
            paths: paths.iter().map(|&p| p.to_owned()).collect(),
        };
        for (text, want) in [
            ("default", ssh("default", &[])),
            ("default=", ssh("default", &[])),
            ("git=/run/agent,raw=true", ssh("git", &["/run/agent"])),
            ("a=k1,k2", ssh("a", &["k1", "k2"])),
        ] {
            assert_eq!(parse(text).unwrap(), want);
        }
        for bad in ["", "=x", "a=b,raw=maybe", "a=b,what=1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
