//! The fields of `RUN --mount`.

use graph::{Commit, Sharing};

use super::Grammar;
use crate::Diagnostic;
use crate::ast::{Mount, MountField, MountOptions, MountType, Word};
use crate::diagnostic::nearest;
use crate::value::{parse_bool, parse_size};

const KEYS: [&str; 20] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "commit",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];

const SHARING: [(&str, Sharing); 3] =
    [("shared", Sharing::Shared), ("private", Sharing::Private), ("locked", Sharing::Locked)];

const COMMIT: [(&str, Commit); 2] = [("always", Commit::Always), ("on-success", Commit::OnSuccess)];

/// The value of a name, in any case; else the name that is nearest.
fn one_of<T: Copy>(written: &str, names: &[(&'static str, T)]) -> Result<T, Option<&'static str>> {
    let written = written.to_ascii_lowercase();
    let known = names.iter().find(|(name, _)| *name == written);
    known.map(|(_, value)| *value).ok_or_else(|| nearest(&written, names.iter().map(|(n, _)| *n)))
}

/// An error that names what is nearest.
fn near(error: impl Fn() -> Diagnostic) -> impl Fn(Option<&'static str>) -> Diagnostic {
    move |near| match near {
        Some(near) => error().help(format!("did you mean {near:?}?")),
        None => error(),
    }
}

impl Grammar {
    /// Splits one `--mount`; none after an error. What has no variables is checked at once.
    pub(super) fn mount(&mut self, flag: &Word) -> Option<Mount> {
        let Some(fields) = csv(&flag.value) else {
            self.error(
                flag.span,
                "failed to read the mount: a quote is not closed or out of place",
            );
            return None;
        };
        let mut mount = Mount { fields: Vec::with_capacity(fields.len()), span: flag.span };
        for field in fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            let key = key.to_ascii_lowercase();
            if !KEYS.contains(&key.as_str()) {
                let error =
                    Diagnostic::error(flag.span, format!("unexpected key {key:?} in {field:?}"));
                self.diagnostics.push(error.suggest(&key, KEYS));
                return None;
            }
            let variable = value.as_ref().is_some_and(|v| v.contains('$'));
            if key == "from" && variable {
                let message = "\"from\" doesn't support variable expansion";
                self.diagnostics.push(
                    Diagnostic::error(flag.span, message)
                        .help("define a stage with FROM and name that instead"),
                );
                return None;
            }
            mount.fields.push(MountField { key, value });
        }
        if !mount.has_variables()
            && let Err(error) = mount.resolve(&mut |text| Ok(text.to_owned()))
        {
            self.diagnostics.push(error);
            return None;
        }
        Some(mount)
    }
}

/// One record of comma-separated values (RFC 4180 quoting); none if the quoting is wrong.
fn csv(text: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let mut field = String::new();
        if let Some(mut quoted) = rest.strip_prefix('"') {
            loop {
                let end = quoted.find('"')?;
                field.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                match quoted.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        quoted = more;
                    }
                    None => break,
                }
            }
            rest = quoted;
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            field.push_str(&rest[..end]);
            if field.contains('"') {
                return None;
            }
            rest = &rest[end..];
        }
        fields.push(field);
        if rest.is_empty() {
            return Some(fields);
        }
        rest = rest.strip_prefix(',')?;
    }
}

impl Mount {
    /// What the fields mean, their values expanded by `expand`.
    ///
    /// # Errors
    /// If a value is none of its kind, or a field does not belong to the type.
    pub fn resolve(
        &self,
        expand: &mut dyn FnMut(&str) -> Result<String, String>,
    ) -> Result<MountOptions, Diagnostic> {
        let error = |message: String| Diagnostic::error(self.span, message);
        let mut options = MountOptions::default();
        let mut read_only = None;
        for MountField { key, value } in &self.fields {
            let value = match value {
                Some(value) if key == "from" => Some(value.clone()),
                Some(value) => Some(expand(value).map_err(error)?),
                None => None,
            };
            let flag = || match &value {
                None => Ok(true),
                Some(v) => {
                    parse_bool(v).ok_or_else(|| error(format!("invalid value for {key}: {v}")))
                }
            };
            match key.as_str() {
                "readonly" | "ro" => read_only = Some(flag()?),
                "readwrite" | "rw" => read_only = Some(!flag()?),
                "required" => options.required = flag()?,
                _ => {
                    let Some(value) = value.clone() else {
                        return Err(error(format!("{key:?} must be a key=value pair")));
                    };
                    self.set(&mut options, key, value)?;
                }
            }
        }
        let writable = matches!(options.kind, MountType::Cache | MountType::Tmpfs);
        options.read_only = read_only.unwrap_or(!writable);
        self.check(&options)?;
        Ok(options)
    }

    fn set(&self, options: &mut MountOptions, key: &str, value: String) -> Result<(), Diagnostic> {
        let invalid = || Diagnostic::error(self.span, format!("invalid value for {key}: {value}"));
        match key {
            "type" => {
                let lower = value.to_ascii_lowercase();
                let known = MountType::NAMES.iter().find(|(name, _)| *name == lower);
                let Some((_, kind)) = known else {
                    let names = MountType::NAMES.iter().map(|(name, _)| *name);
                    let error =
                        Diagnostic::error(self.span, format!("unsupported mount type {value:?}"));
                    return Err(error.suggest(&value, names));
                };
                options.kind = *kind;
            }
            "from" => options.from = Some(value),
            "source" | "src" => options.source = Some(value),
            "target" | "dst" | "destination" => options.target = Some(value),
            "id" => options.id = Some(value),
            "env" => options.env = Some(value),
            "sharing" => options.sharing = Some(one_of(&value, &SHARING).map_err(near(invalid))?),
            "commit" => options.commit = Some(one_of(&value, &COMMIT).map_err(near(invalid))?),
            "size" => options.size = Some(parse_size(&value).ok_or_else(invalid)?),
            "mode" => options.mode = Some(u32::from_str_radix(&value, 8).map_err(|_| invalid())?),
            "uid" => options.uid = Some(value.parse().map_err(|_| invalid())?),
            _ => options.gid = Some(value.parse().map_err(|_| invalid())?),
        }
        Ok(())
    }

    /// Which fields belong to which type.
    fn check(&self, options: &MountOptions) -> Result<(), Diagnostic> {
        use MountType::{Bind, Cache, Secret, Ssh, Tmpfs};
        let kind = options.kind;
        let fail = |message: String| Err(Diagnostic::error(self.span, message));
        for (given, key, kinds) in [
            (options.mode.is_some(), "mode", &[Cache, Secret, Ssh][..]),
            (options.uid.is_some(), "uid", &[Cache, Secret, Ssh]),
            (options.gid.is_some(), "gid", &[Cache, Secret, Ssh]),
            (options.sharing.is_some(), "sharing", &[Cache]),
            (options.commit.is_some(), "commit", &[Cache]),
            (options.size.is_some(), "size", &[Tmpfs]),
            (options.required, "required", &[Secret, Ssh]),
            (options.env.is_some(), "env", &[Secret]),
            (options.from.is_some(), "from", &[Bind, Cache]),
            (options.source.is_some(), "source", &[Bind, Cache, Secret]),
        ] {
            if given && !kinds.contains(&kind) {
                return fail(format!("{key:?} is not allowed for mounts of type {}", kind.name()));
            }
        }
        if options.commit == Some(Commit::OnSuccess)
            && options.sharing.unwrap_or_default() == Sharing::Shared
        {
            let how = options
                .sharing
                .map_or("sharing=shared is the default", |_| "it says sharing=shared");
            let message = format!("commit=on-success needs a cache mount of its own, but {how}");
            let help =
                "add sharing=locked (others wait) or sharing=private (others get another one)";
            return Err(Diagnostic::error(self.span, message).help(help));
        }
        match kind {
            Secret if options.source.is_some() && options.id.is_some() => {
                fail("both source and id can't be set".to_owned())
            }
            Secret
                if options.source.is_none() && options.id.is_none() && options.target.is_none() =>
            {
                fail("a secret needs an id, a source or a target".to_owned())
            }
            Bind | Cache | Tmpfs if options.target.is_none() => {
                fail(format!("a mount of type {} needs a target", kind.name()))
            }
            Bind | Cache | Tmpfs if options.target.as_deref() == Some("/") => {
                fail("invalid mount target \"/\"".to_owned())
            }
            _ => Ok(()),
        }
    }
}
