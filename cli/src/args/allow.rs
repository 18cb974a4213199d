//! `--allow`.

use frontend::Entitlement;

use super::suggest;

/// Parses `--allow`.
///
/// # Errors
/// If there is no such entitlement.
pub fn parse(text: &str) -> Result<Entitlement, String> {
    let names = Entitlement::ALL.map(Entitlement::name);
    let known = Entitlement::ALL.into_iter().find(|e| e.name() == text);
    known.ok_or_else(|| {
        let hint = suggest::did_you_mean(text, &names);
        format!("there are {}{hint}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(parse("security.insecure"), Ok(Entitlement::SecurityInsecure));
        let error = parse("network.hots").unwrap_err();
        assert!(error.contains("did you mean \"network.host\""), "{error}");
        assert!(parse("").is_err() && parse("fs.read=/").is_err());
    }
}
