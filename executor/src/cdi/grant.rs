//! Which devices a step gets: what it asks for, as far as that is there and allowed. Pure.

use std::collections::BTreeSet;

use super::error::CdiError;
use super::name;
use super::registry::Registry;

/// Devices with this annotation answer to its value, too (BuildKit:
/// `solver/llbsolver/cdidevices/manager.go`).
const CLASS: &str = "org.mobyproject.buildkit.device.class";
/// Devices with this annotation need no leave.
const AUTO_ALLOW: &str = "org.mobyproject.buildkit.device.autoallow";

/// A device that a step asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `vendor.com/class` (the first one), `vendor.com/class=name`, `vendor.com/class=*` (all of
    /// them), or a class annotation in place of the name.
    pub name: String,
    /// Whether the step fails without it.
    pub required: bool,
}

/// Leave to use one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The device, in any of the forms of [`Wanted::name`].
    pub device: String,
    /// What steps ask for to get it; its own name where nothing is said.
    pub alias: Option<String>,
}

/// Leave to use devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Whether all may be used.
    pub all: bool,
    /// Those that may be used.
    pub devices: Vec<Grant>,
}

/// What a step gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// Full names of devices, each once.
    pub names: Vec<String>,
    /// What was asked for, is not there and was not required.
    pub missing: Vec<String>,
}

impl Registry {
    /// What a step gets that asks for `wanted` (BuildKit: `solver/llbsolver/vertex.go`,
    /// `ValidateEntitlements`). An alias counts also where everything is allowed.
    ///
    /// # Errors
    /// A name that is none, a required device that is not there, a device that is not allowed.
    pub fn grant(&self, wanted: &[Wanted], grants: &Grants) -> Result<Granted, CdiError> {
        let mut granted = Granted::default();
        let mut forbidden = Vec::new();
        let mut allowed = BTreeSet::new();
        for grant in grants.devices.iter().filter(|it| it.alias.is_none()) {
            allowed.extend(self.find(&grant.device)?);
        }
        for Wanted { name, required } in wanted {
            let alias = |it: &&Grant| it.alias.as_ref() == Some(name);
            // Of two for one name the later counts.
            let alias = grants.devices.iter().rev().find(alias);
            let target = alias.map_or(name, |it| &it.device);
            let found = self.find(target)?;
            if found.is_empty() && *required {
                return Err(CdiError::NotRegistered { name: target.clone(), known: self.known() });
            }
            if found.is_empty() {
                granted.missing.push(target.clone());
            }
            for name in found {
                let free = grants.all || alias.is_some() || allowed.contains(name);
                let list = match free || self.is_free(name) {
                    true => &mut granted.names,
                    false => &mut forbidden,
                };
                if !list.iter().any(|it| it == name) {
                    list.push(name.to_owned());
                }
            }
        }
        match forbidden.is_empty() {
            true => Ok(granted),
            false => Err(CdiError::NotAllowed(forbidden)),
        }
    }

    /// The devices that a name means.
    fn find(&self, wanted: &str) -> Result<Vec<&str>, CdiError> {
        let (kind, name) = wanted.split_once('=').unwrap_or((wanted, ""));
        name::check_kind(kind)
            .map_err(|reason| CdiError::Name { name: wanted.to_owned(), reason })?;
        let of_kind =
            || self.names().filter(move |it| it.split_once('=').is_some_and(|(it, _)| it == kind));
        Ok(match name {
            "" => of_kind().take(1).collect(),
            "*" => of_kind().collect(),
            name => match of_kind().find(|it| *it == wanted) {
                Some(one) => vec![one],
                None => of_kind().filter(|it| self.annotation(it, CLASS) == Some(name)).collect(),
            },
        })
    }

    /// As Go's `strconv.ParseBool` reads truth.
    fn is_free(&self, name: &str) -> bool {
        let value = self.annotation(name, AUTO_ALLOW);
        matches!(value, Some("1" | "t" | "T" | "true" | "TRUE" | "True"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "cdiVersion: 0.6.0\nkind: v.com/d\ndevices:\n\
        - {name: foo, containerEdits: {env: [A=1]}, annotations: {org.mobyproject.buildkit.device.class: one}}\n\
        - {name: bar, containerEdits: {env: [A=1]}, annotations: {org.mobyproject.buildkit.device.class: one}}\n\
        - {name: free, containerEdits: {env: [A=1]}, annotations: {org.mobyproject.buildkit.device.autoallow: true}}\n";

    fn registry() -> Registry {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("v.yaml"), SPEC).unwrap();
        let registry = Registry::read(&[temp.path().to_owned()]);
        assert_eq!(registry.problems(), []);
        registry
    }

    fn grants(all: bool, devices: &[(&str, Option<&str>)]) -> Grants {
        let grant = |(device, alias): &(&str, Option<&str>)| Grant {
            device: (*device).to_owned(),
            alias: alias.map(str::to_owned),
        };
        Grants { all, devices: devices.iter().map(grant).collect() }
    }

    fn ask(name: &str, required: bool, grants: &Grants) -> Result<Granted, CdiError> {
        registry().grant(&[Wanted { name: name.to_owned(), required }], grants)
    }

    fn names(name: &str, grants: &Grants) -> Vec<String> {
        ask(name, true, grants).unwrap().names
    }

    #[test]
    fn forms_of_names() {
        let all = grants(true, &[]);
        assert_eq!(names("v.com/d=foo", &all), ["v.com/d=foo"]);
        assert_eq!(names("v.com/d", &all), ["v.com/d=bar"], "the first one");
        assert_eq!(names("v.com/d=*", &all), ["v.com/d=bar", "v.com/d=foo", "v.com/d=free"]);
        assert_eq!(names("v.com/d=one", &all), ["v.com/d=bar", "v.com/d=foo"]);
        assert!(matches!(ask("one", false, &all), Err(CdiError::Name { .. })));
        assert!(matches!(ask("/=", false, &all), Err(CdiError::Name { .. })));
        let error = ask("v.com/d=none", true, &all).unwrap_err().to_string();
        assert!(error.starts_with("required device \"v.com/d=none\" is not registered"), "{error}");
        assert!(error.contains("v.com/d=bar, v.com/d=foo, v.com/d=free are known from"), "{error}");
        let granted = ask("v.com/other", false, &all).unwrap();
        assert_eq!(
            (granted.names.len(), &granted.missing[..]),
            (0, &["v.com/other".to_owned()][..])
        );
    }

    #[test]
    fn leave_is_needed_and_given() {
        let none = Grants::default();
        let error = ask("v.com/d=foo", false, &none).unwrap_err().to_string();
        assert_eq!(error, "device v.com/d=foo is requested by the build but not allowed");
        let error = ask("v.com/d=one", false, &none).unwrap_err().to_string();
        assert_eq!(
            error,
            "devices v.com/d=bar, v.com/d=foo are requested by the build but not allowed"
        );
        assert_eq!(names("v.com/d=free", &none), ["v.com/d=free"]);
        let one = grants(false, &[("v.com/d=foo", None), ("v.com/gone=x", None)]);
        assert_eq!(names("v.com/d=foo", &one), ["v.com/d=foo"]);
        assert!(ask("v.com/d=bar", true, &one).is_err());
        let alias = grants(false, &[("v.com/d=foo", Some("any.org/gpu"))]);
        assert_eq!(names("any.org/gpu", &alias), ["v.com/d=foo"]);
        assert!(ask("v.com/d=foo", true, &alias).is_err(), "only by its alias");
        let gone = grants(true, &[("v.com/gone", Some("any.org/gpu"))]);
        let error = ask("any.org/gpu", true, &gone).unwrap_err().to_string();
        assert!(error.contains("\"v.com/gone\" is not registered"), "{error}");
    }
}
