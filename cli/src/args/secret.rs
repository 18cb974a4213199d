//! `--secret`.

use super::csv;
use super::suggest;

/// `--secret id=ID[,src=FILE|env=VARIABLE][,type=file|env]`: where a value is, never the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretArg {
    /// What the Dockerfile and servers know it by.
    pub id: String,
    /// Where its value is.
    pub place: SecretPlace,
}

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretPlace {
    /// The variable that is called as the secret if it is set, else the file that is.
    ByName,
    /// A file.
    File(String),
    /// A variable.
    Variable(String),
}

/// Parses `--secret` as buildx does: where both a file and a variable are named, the variable
/// counts; `type=env` makes `src` one.
///
/// # Errors
/// If it has no id, or a key that is none.
pub fn parse(text: &str) -> Result<SecretArg, String> {
    let (mut id, mut src, mut env, mut kind) = (None, None, None, None);
    for field in csv::fields(text).map_err(|e| e.to_string())? {
        let Some((key, value)) = field.split_once('=') else {
            return Err(format!("{field:?} is not KEY=VALUE"));
        };
        let value = value.to_owned();
        match key.to_ascii_lowercase().as_str() {
            "id" => id = Some(value),
            "src" | "source" => src = Some(value),
            "env" => env = Some(value),
            "type" if value == "file" || value == "env" => kind = Some(value),
            "type" => return Err(format!("type={value} is neither file nor env")),
            other => {
                let hint = suggest::did_you_mean(other, &["id", "src", "source", "env", "type"]);
                return Err(format!("unknown key {key:?}{hint}"));
            }
        }
    }
    let given = |value: Option<String>| value.filter(|v| !v.is_empty());
    let id = given(id).ok_or("it has no id: expected id=ID[,src=FILE|env=VARIABLE]")?;
    let (mut src, mut env) = (given(src), given(env));
    if kind.as_deref() == Some("env") && env.is_none() {
        env = src.take();
    }
    let place = match (env, src) {
        (Some(variable), _) => SecretPlace::Variable(variable),
        (None, Some(file)) => SecretPlace::File(file),
        (None, None) => SecretPlace::ByName,
    };
    Ok(SecretArg { id, place })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        use SecretPlace::{ByName, File, Variable};
        for (text, place) in [
            ("id=a", ByName),
            ("ID=a,src=f", File("f".into())),
            ("source=f,id=a", File("f".into())),
            ("id=a,env=E", Variable("E".into())),
            ("id=a,src=f,env=E", Variable("E".into())),
            ("type=env,id=a,src=E", Variable("E".into())),
            ("type=file,id=a,src=f", File("f".into())),
            ("type=env,id=a", ByName),
            ("id=a,\"src=x,y\"", File("x,y".into())),
        ] {
            assert_eq!(parse(text), Ok(SecretArg { id: "a".into(), place }), "{text}");
        }
        for (text, part) in [
            ("", "not KEY=VALUE"),
            ("src=f", "no id"),
            ("id=", "no id"),
            ("id=a,type=vault", "neither file nor env"),
            ("id=a,scr=f", "did you mean \"src\""),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
