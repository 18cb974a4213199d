//! `--allow`.

use frontend::Entitlement;
use worker::Grant;

use super::suggest;

/// What a build is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// Something that steps cannot have else; for devices: all of them.
    Entitlement(Entitlement),
    /// One device.
    Device(Grant),
}

/// Parses `--allow` (BuildKit: `util/entitlements`, `Parse`).
///
/// # Errors
/// If there is no such entitlement.
pub fn parse(text: &str) -> Result<Allow, String> {
    if let Some(device) = text.strip_prefix("device=").filter(|it| !it.is_empty()) {
        return device_grant(device).map(Allow::Device);
    }
    let text = text.strip_suffix('=').filter(|it| *it == "device").unwrap_or(text);
    let names = Entitlement::ALL.map(Entitlement::name);
    let known = Entitlement::ALL.into_iter().find(|e| e.name() == text);
    known.map(Allow::Entitlement).ok_or_else(|| {
        let hint = suggest::did_you_mean(text, &names);
        format!("there are {} and device=NAME[,alias=NAME]{hint}", names.join(", "))
    })
}

/// `NAME[,alias=NAME]`: the alias is what steps ask for.
fn device_grant(text: &str) -> Result<Grant, String> {
    let mut fields = text.split(',');
    let device = fields.next().unwrap_or_default();
    if device.is_empty() {
        return Err("device= needs the name of a device (vendor.com/class=name)".to_owned());
    }
    let mut grant = Grant { device: device.to_owned(), alias: None };
    for field in fields {
        match field.split_once('=') {
            Some(("alias", alias)) if !alias.is_empty() => grant.alias = Some(alias.to_owned()),
            _ => return Err(format!("{field:?} is not understood after a device (alias=NAME)")),
        }
    }
    Ok(grant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let entitlement = |e| Ok(Allow::Entitlement(e));
        assert_eq!(parse("security.insecure"), entitlement(Entitlement::SecurityInsecure));
        assert_eq!(parse("device"), entitlement(Entitlement::Device));
        assert_eq!(parse("device="), entitlement(Entitlement::Device));
        let error = parse("network.hots").unwrap_err();
        assert!(error.contains("did you mean \"network.host\""), "{error}");
        assert!(
            parse("").is_err() && parse("fs.read=/").is_err() && parse("network.host=").is_err()
        );
    }

    #[test]
    fn devices() {
        let grant = |text: &str| match parse(text) {
            Ok(Allow::Device(Grant { device, alias })) => (device, alias),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(grant("device=v.com/gpu"), ("v.com/gpu".into(), None));
        assert_eq!(grant("device=v.com/gpu=0"), ("v.com/gpu=0".into(), None));
        let alias = Some("any.org/gpu=1".to_owned());
        assert_eq!(grant("device=v.com/gpu=0,alias=any.org/gpu=1"), ("v.com/gpu=0".into(), alias));
        for bad in ["device=,alias=x", "device=a/b,c", "device=a/b,name=c", "device=a/b,alias="] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
